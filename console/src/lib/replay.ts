// Policies against one another, from POST /v1/history:replay: what to ask, and each result beside that of one of them. Pure.
import type { Schema } from "@/api/types";

/** What a scheduler can be started with, and two that know how long jobs run: no scheduler does, they are the bound. */
export const kPolicies = ["fair", "checkpoint", "las", "easy", "fifo", "srtf", "srsf"] as const;
export const knowsTheEnd = (policy: string) => policy === "srtf" || policy === "srsf";
export const kMostPolicies = 5;

/** What is asked for: the one that others are compared with first, each once, no more than are taken at a time. */
export const policiesAsked = (against: string, chosen: readonly string[]) => [...new Set([against, ...chosen])].slice(0, kMostPolicies);

type Result = Schema["ReplayResult"]["results"][number];
export interface Compared {
  result: Result;
  /** Against that of the one they are compared with: of waits as a share of it, of use and goodput in points of percent. null: that one itself, or nothing to compare. */
  wait_p50: number | null;
  wait_p90: number | null;
  wait_p99: number | null;
  wait_mean: number | null;
  utilisation: number | null;
  goodput: number | null;
}
const share = (value: number | null | undefined, of: number | null | undefined) => (value === null || value === undefined || !of ? null : value / of - 1);
/** In the order of the answer, the one they are compared with first. */
export function compareTo(against: string, results: readonly Result[]): Compared[] {
  const base = results.find((each) => each.policy === against);
  const order = base ? [base, ...results.filter((each) => each !== base)] : results;
  return order.map((result) => {
    const other = base && result !== base ? base : null;
    return {
      result,
      wait_p50: share(result.wait_p50_seconds, other?.wait_p50_seconds), wait_p90: share(result.wait_p90_seconds, other?.wait_p90_seconds),
      wait_p99: share(result.wait_p99_seconds, other?.wait_p99_seconds), wait_mean: share(result.wait_mean_seconds, other?.wait_mean_seconds),
      utilisation: other ? (result.utilisation - other.utilisation) * 100 : null, goodput: other ? (result.goodput - other.goodput) * 100 : null,
    };
  });
}

/** "+12 %", "−0.3 pts", "same"; "" where there is nothing to compare. */
export function changeText(change: number | null, unit: "share" | "points"): string {
  if (change === null || !Number.isFinite(change)) return "";
  const value = unit === "share" ? Math.round(change * 100) : Math.round(change * 10) / 10;
  if (value === 0) return "same";
  return `${value > 0 ? "+" : "−"}${Math.abs(value).toLocaleString("en")}${unit === "share" ? " %" : " pts"}`;
}
