// Sums for the overview and the fault page. Pure.
import type { Schema } from "@/api/types";
import type { UsageMore } from "@/api/wanted";

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

/** The reasons for which jobs wait, with the chosen one among them also when no job waits for it any more: it must be seen to be taken away. */
export const withChosen = (reasons: Schema["Queue"]["by_reason"], chosen: string): Schema["Queue"]["by_reason"] => (chosen && !reasons.some((each) => each.code === chosen) ? [...reasons, { code: chosen, text: "no job waits for it now", jobs: 0, gpus: 0 }] : reasons);

export interface ParetoRow {
  key: string;
  faults: number;
  jobs: number;
  share: number; // of all faults, with those before
}
/** With the running share: the few that make most of it. The server has the most first. */
export function pareto(summary: Pick<Schema["FaultSummary"], "rows" | "total">): ParetoRow[] {
  let sum = 0;
  return summary.rows.map((row) => ({ key: row.key, faults: row.faults, jobs: row.jobs_hit, share: summary.total.faults > 0 ? (sum += row.faults) / summary.total.faults : 0 }));
}
