// Long lists: pages put together without copying them, and who is chosen of them.
import { describe, expect, it } from "vitest";
import { joinGroups, lookedAt } from "@/api/joblist";
import type { ListedJob } from "@/api/types";
import { Rows, eachOnce, holeBetween, putTogether } from "@/lib/rows";
import { Selection } from "@/ui/selection";
import { sortRows, type Column } from "@/ui/table";

const jobs = (...ids: number[]) => ids.map((id) => ({ id, state: "running" }) as ListedJob);
const ids = (pages: readonly (readonly { id: number }[])[]) => pages.flat().map((row) => row.id);

describe("rows of many pages", () => {
  it("are found by their place, from the first to the last", () => {
    const pages = [[], ["a"], ["b", "c", "d"], [], ["e"]];
    const rows = new Rows(pages);
    expect(rows.length).toBe(5);
    expect(rows.slice(0, 99)).toEqual(["a", "b", "c", "d", "e"]);
    expect(rows.slice(2, 4)).toEqual(["c", "d"]);
    expect([rows.at(5), rows.at(-1), new Rows([]).at(0)]).toEqual([undefined, undefined, undefined]);
  });
  it("of two hundred pages cost no more than of one: nothing is copied", () => {
    const pages = Array.from({ length: 200 }, (_, p) => Array.from({ length: 500 }, (_, i) => p * 500 + i));
    let looked = 0;
    const rows = new Rows(pages, (row) => (looked += 1, row));
    expect([rows.length, rows.at(99_999), rows.at(49_500)]).toEqual([100_000, 99_999, 49_500]);
    expect(looked).toBe(2);
  });
  it("are the live page and behind it the kept ones, each once", () => expect(ids(putTogether(jobs(9, 8, 7), [jobs(8, 7, 6), jobs(5, 4)]))).toEqual([9, 8, 7, 6, 5, 4]));
  it("drop from the kept ones what no longer matches in the live part", () => expect(ids(putTogether(jobs(9, 7), [jobs(9, 8, 7, 6)]))).toEqual([9, 7, 6]));
  it("keep pages that nothing is taken from as they are", () => {
    const far = jobs(3, 2);
    expect(putTogether(jobs(9), [jobs(9, 8), far])[2]).toBe(far);
  });
  it("have no hole where more came in front than a page holds", () => expect([holeBetween(jobs(30, 20), jobs(10, 9)), holeBetween(jobs(30, 10), jobs(10, 9)), holeBetween(jobs(12, 5), jobs(10, 9)), holeBetween([], jobs(1))]).toEqual([true, false, false, false]));
  it("of an order that moves are there once, where the newest page has them", () => expect(eachOnce(jobs(4, 1), [jobs(1, 7), jobs(7, 8)]).map((job) => job.id)).toEqual([4, 1, 7, 8]));
  it("are the same object until a state changes: what is the same is not drawn again", () => {
    const [a, b] = jobs(1, 2) as [ListedJob, ListedJob];
    const look = lookedAt(new Map([[2, "failed"]]));
    expect(look(a)).toBe(a);
    expect(look(b)).toMatchObject({ id: 2, state: "failed" });
    expect(look(b)).toBe(look(b));
    expect(lookedAt(new Map([[2, "running"]]))(b)).toBe(b);
  });
});

describe("the selection", () => {
  it("tells of each change once, and has the rows", () => {
    const selection = new Selection<string>();
    let told = 0;
    const stop = selection.subscribe(() => void (told += 1));
    selection.toggle("1", "a");
    selection.toggle("2", "b");
    selection.toggle("1", "a");
    expect([told, [...selection.all().values()], selection.has("1"), selection.has("2")]).toEqual([3, ["b"], false, true]);
    const before = selection.all();
    selection.clear();
    selection.clear(); // of nothing: nobody is told
    expect([told, before.size, selection.all().size]).toEqual([4, 1, 0]);
    stop();
    selection.toggle("3", "c");
    expect(told).toBe(4);
  });
});

describe("sorting what is here", () => {
  const columns: Column<{ n: number | null; s: string }>[] = [{ id: "n", accessorFn: (row) => row.n }, { id: "s", accessorKey: "s" }];
  const rows = [{ n: 2, s: "b" }, { n: null, s: "a" }, { n: 1, s: "c" }, { n: 2, s: "d" }];
  const sorted = (id: string, desc: boolean) => sortRows(rows, [{ id, desc }], columns).map((row) => row.s).join("");
  it("has what is not known last in both directions, and keeps the order of equals", () => expect([sorted("n", false), sorted("n", true), sorted("s", true)]).toEqual(["cbda", "bdca", "dcba"]));
  it("by nothing, or by a column that is not there, changes nothing", () => expect([sortRows(rows, [], columns), sortRows(rows, [{ id: "x", desc: true }], columns)]).toEqual([rows, rows]));
});

describe("groups", () => {
  const group = (key: string, jobs: number, gpus: number) => ({ key, jobs, gpus });
  it("are put together from the counts of each state; GPUs are those that active jobs hold", () => {
    expect(joinGroups([group("nlp", 10, 80), group("vision", 2, 8)], [group("nlp", 3, 24)], [group("nlp", 4, 32), group("vision", 1, 4)], [group("vision", 1, 4)])).toEqual([
      { key: "nlp", jobs: 10, gpus: 32, pending: 3, active: 4, failed: 0 }, { key: "vision", jobs: 2, gpus: 4, pending: 0, active: 1, failed: 1 },
    ]);
  });
});
