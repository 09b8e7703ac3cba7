// Retry budgets of a job, for servers that do not count them themselves: the defaults of docs/faults.md, the job's own retry block, and
// the causes of its attempts. Pure.
import type { Attempt, Job } from "@/api/types";
import type { Budget } from "@/api/wanted";

const kDay = 86_400;
const kDefaults: Record<string, [limit: number, window: number | null]> = {
  user: [0, null], oom: [0, null],
  gpu: [20, kDay], node_lost: [20, kDay], fabric: [20, kDay],
  network: [10, null], storage: [10, null], launch: [10, null],
  hang: [3, null], unknown: [3, null],
};

/** Only causes that were met or that the job sets itself. */
export function budgetsOf(job: Pick<Job, "spec">, attempts: readonly Pick<Attempt, "cause" | "ended_at" | "result">[], now: number): Budget[] {
  const own = (job.spec.retry?.budget ?? {}) as Record<string, number | null>;
  const out: Budget[] = [];
  for (const [cause, [limit, window]] of Object.entries(kDefaults)) {
    const failures = attempts.filter((attempt) => attempt.cause === cause && attempt.result !== "succeeded" && attempt.ended_at && (window === null || Date.parse(attempt.ended_at) > now - window * 1000)).length;
    const set = own[cause];
    if (failures === 0 && (set === undefined || set === null)) continue;
    // The failure that ends a job uses nothing up: a budget counts the retries.
    const bound = set ?? limit;
    out.push({ cause, limit: bound, used: bound < 0 ? failures : Math.min(failures, bound), window_seconds: window, next_delay_seconds: null });
  }
  return out;
}
