// A stretch of time as people choose it: the last hours up to now, or from one day to another, both included, of the clock on the wall here.
// For the API it is an instant, or a duration (so long ago); it stands in the address as the API takes it. Pure.

/** "1h", "24h", …: how far back. */
export const kLast = [["1h", "Last hour"], ["24h", "Last 24 h"], ["7d", "Last 7 days"], ["30d", "Last 30 days"]] as const;

const kDay = /^(\d{4})-(\d{2})-(\d{2})$/;
const pad = (value: number, digits = 2) => String(value).padStart(digits, "0");
/** When a day begins, or `later` days after it. null: not a day, or one that somebody is still typing. */
function dayBegins(day: string, later = 0): string | null {
  const [, year, month, date] = (kDay.exec(day) ?? []).map(Number);
  if (year === undefined || year < 2000 || month! < 1 || month! > 12) return null;
  const at = new Date(year, month! - 1, date);
  if (at.getDate() !== date) return null; // February 30
  return new Date(year, month! - 1, date! + later).toISOString();
}
/** The first instant of a day, and the one at which it is over. */
export const sinceOf = (day: string) => dayBegins(day);
export const untilOf = (day: string) => dayBegins(day, 1);

const dayAt = (ms: number) => {
  const date = new Date(ms);
  return `${pad(date.getFullYear(), 4)}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
};
export const isInstant = (text: string) => /^\d{4}-/.test(text) && Number.isFinite(Date.parse(text));
/** The day on which it begins, and the last one that is in it: until is not included. "" where it is no instant. */
export const firstDay = (since: string) => (isInstant(since) ? dayAt(Date.parse(since)) : "");
export const lastDay = (until: string) => (isInstant(until) ? dayAt(Date.parse(until) - 1) : "");

/** What a choice of the list says: "" any time, "days" from one day to another, or how far back. */
export const chosenSpan = (since: string, until: string) => (until || isInstant(since) ? "days" : since);
/** What is filtered by after it was chosen. Days begin with the last seven. */
export function spanChosen(choice: string, now: number): { since: string; until: string } {
  if (choice !== "days") return { since: choice, until: "" };
  const today = new Date(now);
  return { since: new Date(today.getFullYear(), today.getMonth(), today.getDate() - 6).toISOString(), until: untilOf(dayAt(now))! };
}
const kUnit: Record<string, number> = { h: 3_600_000, d: 86_400_000 };
/** As two instants, for what takes nothing else. Without an end: up to now. null where it is not both. */
export function asInstants({ since, until }: { since: string; until: string }, now: number): { since: string; until: string } | null {
  const [, count, unit] = /^(\d+)([hd])$/.exec(since) ?? [];
  const from = unit ? new Date(now - Number(count) * kUnit[unit]!).toISOString() : since;
  const to = until || new Date(now).toISOString();
  return isInstant(from) && isInstant(to) ? { since: from, until: to } : null;
}
