// Series of the API as charts take them. Pure.
import type { Series } from "@/api/types";

export function groupSeries(series: readonly Series[]): [string, Series[]][] {
  const by = new Map<string, Series[]>();
  for (const each of series) by.set(each.name, [...(by.get(each.name) ?? []), each]);
  const order = ["loss", "step_seconds", "throughput", "compute_seconds", "gpu_utilisation", "gpu_memory_bytes", "gpu_power_watts", "gpu_temperature_celsius", "nvlink_bytes_per_second", "ib_bytes_per_second", "step"];
  const rank = (name: string) => (order.includes(name) ? order.indexOf(name) : order.length);
  return [...by].sort((a, b) => rank(a[0]) - rank(b[0]) || a[0].localeCompare(b[0]));
}

export const labelOf = (series: Series) => [series.rank !== null ? `rank ${series.rank}` : "", series.node ?? "", series.gpu !== null ? `GPU ${series.gpu}` : ""].filter(Boolean).join(" ") || series.name;

/** One time axis for all; where a series has no value there is a hole. */
export function alignSeries(series: readonly Series[], from: number): { at: number[]; lines: Line[] } {
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

interface Line { label: string; values: (number | null)[] }
const middle = (sorted: number[]) => (sorted.length % 2 ? sorted[sorted.length >> 1]! : (sorted[sorted.length / 2 - 1]! + sorted[sorted.length / 2]!) / 2);
/** Of more lines than can be told apart: lowest, median and highest at each time, and the one that is furthest from the others. */
export function fewLines(lines: readonly Line[], most = 12): Line[] {
  if (lines.length <= most) return [...lines];
  const length = lines[0]!.values.length;
  const [low, median, high] = [0, 1, 2].map(() => new Array<number | null>(length).fill(null)) as [(number | null)[], (number | null)[], (number | null)[]];
  for (let i = 0; i < length; ++i) {
    const sorted = lines.map((line) => line.values[i] ?? null).filter((value) => value !== null).sort((a, b) => a - b);
    if (sorted.length === 0) continue;
    [low[i], median[i], high[i]] = [sorted[0]!, middle(sorted), sorted.at(-1)!];
  }
  let furthest: Line | null = null;
  let distance = 0;
  for (const line of lines) {
    let far = 0;
    line.values.forEach((value, i) => { if (value !== null && median[i] !== null) far += value - median[i]!; });
    if (Math.abs(far) > distance) [furthest, distance] = [line, Math.abs(far)];
  }
  return [{ label: `median of ${lines.length}`, values: median }, { label: "lowest", values: low }, { label: "highest", values: high }, ...(furthest ? [{ label: `${furthest.label}, furthest from it`, values: furthest.values }] : [])];
}
