import type { IncomingMessage, ServerResponse } from "node:http";
export function makeMock(options?: { nodes?: number; gpus?: number; jobs?: number; map?: boolean }): (request: IncomingMessage, response: ServerResponse, url: URL) => void;
