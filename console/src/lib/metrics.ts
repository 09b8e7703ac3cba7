// Series of the API as charts take them. Pure.
import type { Series } from "@/api/wanted";

export function groupSeries(series: readonly Series[]): [string, Series[]][] {
  const by = new Map<string, Series[]>();
  for (const each of series) by.set(each.name, [...(by.get(each.name) ?? []), each]);
  const order = ["loss", "step_seconds", "throughput", "compute_seconds", "gpu_utilisation", "gpu_memory_bytes", "gpu_power_watts", "gpu_temperature_celsius", "nvlink_bytes_per_second", "ib_bytes_per_second", "step"];
  const rank = (name: string) => (order.includes(name) ? order.indexOf(name) : order.length);
  return [...by].sort((a, b) => rank(a[0]) - rank(b[0]) || a[0].localeCompare(b[0]));
}

export const labelOf = (series: Series) => [series.rank !== null ? `rank ${series.rank}` : "", series.node ?? "", series.gpu !== null ? `GPU ${series.gpu}` : ""].filter(Boolean).join(" ") || series.name;

/** One time axis for all; where a series has no value there is a hole. */
export function alignSeries(series: readonly Series[], from: number): { at: number[]; lines: { label: string; values: (number | null)[] }[] } {
  const first = series[0];
  if (!first) return { at: [], lines: [] };
  const same = series.every((each) => each.at_seconds.length === first.at_seconds.length && each.at_seconds.every((at, i) => at === first.at_seconds[i]));
  if (same) return { at: first.at_seconds.map((at) => from + at), lines: series.map((each) => ({ label: labelOf(each), values: each.mean })) };
  const all = [...new Set(series.flatMap((each) => each.at_seconds))].sort((a, b) => a - b);
  const place = new Map(all.map((at, i) => [at, i]));
  return {
    at: all.map((at) => from + at),
    lines: series.map((each) => {
      const values = new Array<number | null>(all.length).fill(null);
      each.at_seconds.forEach((at, i) => { values[place.get(at)!] = each.mean[i] ?? null; });
      return { label: labelOf(each), values };
    }),
  };
}
