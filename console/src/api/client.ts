// The API: one typed client. Errors of the server become ApiError with its problem document.
import createClient from "openapi-fetch";
import type { paths } from "./schema";
import type { Problem } from "./types";

export class ApiError extends Error {
  constructor(readonly status: number, readonly problem: Partial<Problem>) {
    super(problem.detail ?? problem.title ?? (status === 0 ? "the server cannot be reached" : `the server answered ${status}`));
    this.name = "ApiError";
  }
  get hint() {
    return this.problem.hint ?? "";
  }
  get fields() {
    return this.problem.errors ?? [];
  }
}

/** Told when the server no longer knows who we are. */
export const signedOut = new EventTarget();

async function send(request: Request): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(request);
  } catch (error) {
    if (request.signal.aborted) throw error;
    throw new ApiError(0, { detail: "the server cannot be reached", hint: "The page tries again by itself." });
  }
  if (response.status === 401 && !request.url.endsWith("/v1/login")) signedOut.dispatchEvent(new Event("signed-out"));
  return response;
}

const origin = typeof location === "undefined" ? "http://localhost" : location.origin;
export const api = createClient<paths>({ baseUrl: origin, fetch: send });

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}
/** The data of an answer, or its problem thrown. */
export async function ok<T>(answer: Promise<Answer<T>>): Promise<T> {
  const { data, error, response } = await answer;
  if (!response.ok) throw new ApiError(response.status, typeof error === "object" && error ? (error as Partial<Problem>) : {});
  return data as T;
}

export async function text(path: string, signal?: AbortSignal): Promise<{ text: string; response: Response }> {
  const response = await send(new Request(origin + path, signal ? { signal } : {}));
  if (!response.ok) throw new ApiError(response.status, ((await response.json().catch(() => ({}))) ?? {}) as Partial<Problem>);
  return { text: await response.text(), response };
}
export { send as request, origin };
