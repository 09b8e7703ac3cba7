// Sums for the overview and the fault page. Pure.
import type { Schema } from "@/api/types";
import type { FaultMore, QueueMore, UsageMore } from "@/api/wanted";

/** Jobs by their first reason, most first. From the server where it counts them, else from the jobs it lists. */
export function reasonsOf(queue: QueueMore): { code: string; text: string; jobs: number }[] {
  if (queue.by_reason) return [...queue.by_reason].sort((a, b) => b.jobs - a.jobs);
  const by = new Map<string, { code: string; text: string; jobs: number }>();
  for (const job of queue.jobs) {
    const first = job.reasons[0];
    const code = first?.code ?? job.state;
    const entry = by.get(code) ?? { code, text: first?.text ?? job.state, jobs: 0 };
    entry.jobs += 1;
    by.set(code, entry);
  }
  return [...by.values()].sort((a, b) => b.jobs - a.jobs || a.code.localeCompare(b.code));
}

export interface GoodputPart {
  label: string;
  kind: "kept" | "lost" | "idle" | "unusable";
  seconds: number;
}
/** Used and kept; lost by cause; and, where the server knows what there was, idle and unusable. */
export function goodputParts(total: Schema["UsageSums"] & UsageMore): GoodputPart[] {
  const lost = Object.entries(total.lost_by_cause as Record<string, number>).filter(([, seconds]) => seconds > 0).sort((a, b) => b[1] - a[1]);
  const lostSum = lost.reduce((sum, [, seconds]) => sum + seconds, 0);
  const parts: GoodputPart[] = [{ label: "used and kept", kind: "kept", seconds: Math.max(0, total.gpu_seconds - lostSum) }];
  for (const [cause, seconds] of lost) parts.push({ label: `lost: ${cause}`, kind: "lost", seconds });
  if (total.capacity_gpu_seconds !== undefined) {
    const unusable = total.unusable_gpu_seconds ?? 0;
    const idle = Math.max(0, total.capacity_gpu_seconds - total.gpu_seconds);
    parts.push({ label: "idle", kind: "idle", seconds: idle });
    if (unusable > 0) parts.push({ label: "unusable", kind: "unusable", seconds: unusable });
  }
  return parts.filter((part) => part.seconds > 0);
}

export interface ParetoRow {
  key: string;
  faults: number;
  jobs: number;
  lost: number | null;
  share: number; // of all faults, with those before
}
/** Most first, with the running share: the few that make most of it. */
export function pareto(faults: readonly (Schema["Fault"] & FaultMore)[], keyOf: (fault: Schema["Fault"]) => string): ParetoRow[] {
  const by = new Map<string, { faults: number; jobs: Set<number>; lost: number | null }>();
  for (const fault of faults) {
    const entry = by.get(keyOf(fault)) ?? { faults: 0, jobs: new Set<number>(), lost: null };
    entry.faults += 1;
    for (const job of fault.jobs_hit ?? (fault.job_id === null ? [] : [fault.job_id])) entry.jobs.add(job);
    if (fault.lost_gpu_seconds !== undefined && fault.lost_gpu_seconds !== null) entry.lost = (entry.lost ?? 0) + fault.lost_gpu_seconds;
    by.set(keyOf(fault), entry);
  }
  let sum = 0;
  return [...by].map(([key, entry]) => ({ key, faults: entry.faults, jobs: entry.jobs.size, lost: entry.lost, share: 0 }))
    .sort((a, b) => b.faults - a.faults || a.key.localeCompare(b.key, undefined, { numeric: true }))
    .map((row) => ({ ...row, share: (sum += row.faults) / faults.length }));
}
