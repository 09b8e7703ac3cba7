// Numbers, durations and instants as people read them. Pure.

const kUnits: readonly (readonly [string, number])[] = [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]];

/** "2d 4h", "3m 20s", "0.4s": at most two units. */
export function duration(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  const sign = seconds < 0 ? "−" : "";
  let rest = Math.abs(seconds);
  if (rest < 1) return rest === 0 ? "0s" : `${sign}${rest < 0.1 ? Math.round(rest * 1000) + "ms" : rest.toFixed(1) + "s"}`;
  if (rest < 9.95 && Math.abs(rest - Math.round(rest)) > 0.05) return `${sign}${rest.toFixed(1)}s`;
  rest = Math.round(rest);
  const parts: string[] = [];
  for (const [name, size] of kUnits) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0) parts.push(`${count}${name}`);
    else if (parts.length > 0) break;
    if (parts.length === 2) break;
  }
  return sign + parts.join(" ");
}

const kBinary = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
export function bytes(count: number | null | undefined): string {
  if (count === null || count === undefined) return "–";
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < kBinary.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value >= 100 || unit === 0 ? Math.round(value) : value.toFixed(1)} ${kBinary[unit]}`;
}

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
/** 12,345 */
export function count(value: number | null | undefined): string {
  return value === null || value === undefined ? "–" : grouped.format(value);
}

/** Few digits that still tell something: 0.00123, 1.53, 1,234. */
export function number(value: number | null | undefined): string {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1000) return grouped.format(value);
  if (size >= 100) return value.toFixed(1).replace(/\.0$/, "");
  if (size >= 0.01 || size === 0) return String(Number(value.toFixed(3)));
  return value.toExponential(2);
}

export function percent(part: number | null | undefined, digits = 0): string {
  return part === null || part === undefined || !Number.isFinite(part) ? "–" : `${(part * 100).toFixed(digits)} %`;
}

/** GPU-hours, from GPU-seconds. */
export function gpuHours(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined) return "–";
  const hours = seconds / 3600;
  return hours >= 100 ? grouped.format(hours) : hours >= 10 ? hours.toFixed(1) : hours === 0 ? "0" : hours < 0.01 ? "<0.01" : hours.toFixed(2);
}

/** "1 job", "3 jobs". */
export function plural(value: number, one: string, many = one + "s"): string {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** "3m ago", "in 2h 5m", "now". */
export function relative(at: string | number | null | undefined, now: number): string {
  const time = instant(at);
  if (time === null) return "–";
  const seconds = (time - now) / 1000;
  if (Math.abs(seconds) < 1) return "now";
  const short = duration(Math.abs(seconds) >= 600 ? Math.round(seconds / 60) * 60 : seconds).replace("−", "");
  return seconds < 0 ? `${short} ago` : `in ${short}`;
}

export function instant(at: string | number | null | undefined): number | null {
  if (at === null || at === undefined || at === "") return null;
  const time = typeof at === "number" ? at : Date.parse(at);
  return Number.isFinite(time) ? time : null;
}

const pad = (value: number) => String(value).padStart(2, "0");

/** Local: "14:05", "14:05:09", with the day in front unless it is today's. */
export function localTime(at: string | number | null | undefined, now: number, seconds = false): string {
  const time = instant(at);
  if (time === null) return "–";
  const date = new Date(time);
  const clock = `${pad(date.getHours())}:${pad(date.getMinutes())}${seconds ? ":" + pad(date.getSeconds()) : ""}`;
  const today = new Date(now);
  if (date.getDate() === today.getDate() && Math.abs(time - now) < 86_400_000) return clock;
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  return `${date.getFullYear() === today.getFullYear() ? day.slice(5) : day} ${clock}`;
}

/** "2026-10-01 14:05:09 UTC", for the hover. */
export function utcTime(at: string | number | null | undefined): string {
  const time = instant(at);
  return time === null ? "" : new Date(time).toISOString().replace("T", " ").replace(/\.\d+Z$/, " UTC");
}

/** "14:05 (13:50–14:40)" */
export function etaText(eta: { at: string; from: string; to: string } | null | undefined, now: number): string {
  if (!eta) return "not known";
  const [from, to] = [localTime(eta.from, now), localTime(eta.to, now)];
  return from === to ? localTime(eta.at, now) : `${localTime(eta.at, now)} (${from}–${to})`;
}

/** Names in the order of their numbers: n2 before n10. One collator: `localeCompare` makes one with each call. */
export const byName = new Intl.Collator(undefined, { numeric: true }).compare;

/** "0–3, 6" */
export function ranges(numbers: readonly number[]): string {
  const out: [number, number][] = [];
  for (const each of [...numbers].sort((a, b) => a - b)) {
    const last = out.at(-1);
    if (last && each <= last[1] + 1) last[1] = each;
    else out.push([each, each]);
  }
  return out.map(([from, to]) => (from === to ? String(from) : to === from + 1 ? `${from}, ${to}` : `${from}–${to}`)).join(", ");
}
