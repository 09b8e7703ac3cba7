// Filters live in the address: a link shows others what one sees. Pure.

/** The value of each field, "" where it is not set. Fields that nobody named are dropped. */
export function readFilters<K extends string>(params: URLSearchParams, fields: readonly K[]): Record<K, string> {
  const out = {} as Record<K, string>;
  for (const field of fields) out[field] = params.get(field) ?? "";
  return out;
}

/** A copy of `params` with some fields changed; empty ones are taken out. Others (a tab) stay. */
export function withFilters(params: URLSearchParams, change: Record<string, string | null | undefined>): URLSearchParams {
  const out = new URLSearchParams(params);
  for (const [name, value] of Object.entries(change)) {
    if (value === null || value === undefined || value === "") out.delete(name);
    else out.set(name, value);
  }
  return out;
}

/** Only what is set, as a query of the API. */
export function toQuery<T extends Record<string, string>>(filters: T): Partial<T> {
  return Object.fromEntries(Object.entries(filters).filter(([, value]) => value !== "")) as Partial<T>;
}

export interface SavedView {
  name: string;
  query: string;
}
/** What was stored, as far as it still makes sense. */
export function parseViews(stored: string | null): SavedView[] {
  try {
    const value: unknown = JSON.parse(stored ?? "[]");
    return Array.isArray(value) ? value.filter((view): view is SavedView => typeof view?.name === "string" && typeof view?.query === "string") : [];
  } catch {
    return [];
  }
}
export function putView(views: readonly SavedView[], view: SavedView): SavedView[] {
  return [...views.filter((old) => old.name !== view.name), view].sort((a, b) => a.name.localeCompare(b.name));
}

/** The filters as they stand in the address at this moment: a page may not have been drawn since the last change, and two quick changes must both count. */
export const addressNow = () => new URLSearchParams(window.location.search);
