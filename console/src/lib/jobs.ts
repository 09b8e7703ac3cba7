// The words of jobs, as the API has them. Pure.
import type { Schema } from "@/api/types";

export type JobState = Schema["JobState"];
export const kPending = ["queued", "delayed", "blocked", "held"] as const satisfies readonly JobState[];
export const kActive = ["starting", "running", "stopping"] as const satisfies readonly JobState[];
export const kTerminal = ["succeeded", "failed", "cancelled"] as const satisfies readonly JobState[];
export const kStates: readonly JobState[] = [...kPending, ...kActive, ...kTerminal];

export const isPending = (state: string) => (kPending as readonly string[]).includes(state);
export const isActive = (state: string) => (kActive as readonly string[]).includes(state);
export const isTerminal = (state: string) => (kTerminal as readonly string[]).includes(state);

export type Verb = "cancel" | "hold" | "release" | "requeue";
/** What can be done to a job in a state. */
export function verbsOf(state: string): Verb[] {
  if (state === "held") return ["release", "cancel"];
  if (isPending(state)) return ["hold", "cancel"];
  if (isActive(state)) return state === "stopping" ? ["cancel"] : ["requeue", "cancel"];
  return [];
}

export const kCauseText: Record<string, string> = {
  user: "its program failed", oom: "out of memory", gpu: "a GPU failed", node_lost: "a node was lost", fabric: "the fabric failed",
  network: "the network failed", storage: "storage failed", launch: "it could not be launched", hang: "no rank moved any more",
  unknown: "not known", preempted: "gave way to another job", maintenance: "maintenance", control: "the control plane",
  time_limit: "its time limit", cancelled: "cancelled", requeued: "requeued", held: "held by someone",
};
/** Who pays for it: the owner's own fault, or not. */
export const causeIsUsers = (cause: string) => cause === "user" || cause === "oom" || cause === "time_limit";

/** The filter of a change to all that the list shows. null: the list is filtered by what such a change cannot be, and "all" would be too many. */
export function bulkFilter(filters: Partial<Record<"state" | "cause" | "project" | "queue" | "user" | "q" | "name" | "since" | "until" | "array", string>>): NonNullable<Schema["BulkRequest"]["filter"]> | null {
  const { state, cause, q, array, project, queue, user, name, since, until } = filters;
  if (cause || q || until) return null;
  const states = state ? state.split(",").flatMap((each): string[] => (each === "pending" ? [...kPending] : each === "active" ? [...kActive] : [each])).filter((each) => each !== "terminal" && !isTerminal(each)) : [];
  if (state && states.length === 0) return null; // they are over: there is nothing to change
  const out = { ...(states.length ? { state: states as never } : {}), ...(project ? { project } : {}), ...(queue ? { queue } : {}), ...(user ? { user } : {}), ...(name ? { name } : {}), ...(since ? { since } : {}), ...(array ? { array: Number(array) } : {}) };
  return Object.keys(out).length > 0 ? out : { all: true };
}
