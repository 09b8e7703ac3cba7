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
