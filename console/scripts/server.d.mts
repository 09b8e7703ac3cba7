import type { IncomingMessage, ServerResponse } from "node:http";
export interface Pages {
  listen(port?: number): Promise<string>;
  close(): Promise<void>;
  cut(): void;
  heal(): void;
}
export function makeServer(options: { upstream?: string; handler?: (request: IncomingMessage, response: ServerResponse, url: URL) => void; folder?: string }): Pages;
