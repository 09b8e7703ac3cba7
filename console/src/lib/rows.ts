// Rows of many pages as one list, without copying them: a page that comes must not cost more the more there are. Pure.
// Invariants: (1) at(i) is the same object as long as the row and how it is looked at are the same; (2) no row is there twice (putTogether).

export class Rows<T> {
  readonly length: number;
  private readonly starts: number[] = [];
  constructor(private readonly pages: readonly (readonly T[])[], private readonly look: (row: T) => T = (row) => row) {
    let sum = 0;
    for (const page of pages) {
      this.starts.push(sum);
      sum += page.length;
    }
    this.length = sum;
  }
  at(i: number): T | undefined {
    let low = 0;
    let high = this.starts.length;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (this.starts[middle]! <= i) low = middle;
      else high = middle;
    }
    const row = this.pages[low]?.[i - (this.starts[low] ?? 0)];
    return row === undefined ? undefined : this.look(row);
  }
  slice(from: number, to: number): T[] {
    const out: T[] = [];
    for (let i = Math.max(0, from); i < Math.min(to, this.length); ++i) out.push(this.at(i)!);
    return out;
  }
}
export const kNoRows = new Rows<never>([]);

/** Newest first by id: the live page, and behind it what the kept ones have below it. */
export function putTogether<T extends { id: number }>(head: readonly T[], kept: readonly (readonly T[])[]): (readonly T[])[] {
  const least = head.at(-1)?.id ?? Infinity;
  const out = [head];
  for (const page of kept) {
    const rest = page.length > 0 && page[0]!.id >= least ? page.filter((row) => row.id < least) : page;
    if (rest.length > 0) out.push(rest);
  }
  return out;
}
/** New rows have pushed the live page past the place where the kept ones begin: between them would be a hole. */
export const holeBetween = (head: readonly { id: number }[], anchor: readonly { id: number }[]) => head.length > 0 && anchor.length > 0 && head.at(-1)!.id > anchor[0]!.id;

/** In an order that moves: each id once, where it was seen last by the newest page. */
export function eachOnce<T extends { id: number }>(head: readonly T[], kept: readonly (readonly T[])[]): T[] {
  const seen = new Set<number>();
  const out: T[] = [];
  for (const page of [head, ...kept]) for (const row of page) if (!seen.has(row.id)) {
    seen.add(row.id);
    out.push(row);
  }
  return out;
}
