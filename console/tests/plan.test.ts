import { describe, expect, it } from "vitest";
import type { Attempt, Job, Plan } from "@/api/types";
import { ganttOf, packLanes, type Bar } from "@/lib/gantt";
import { shareByDay, shareOf, treeOrder } from "@/lib/shares";
import { goodputParts, pareto, withChosen } from "@/lib/summary";
import { ticks, timelineOf } from "@/lib/timeline";

const at = (minutes: number) => new Date(Date.UTC(2026, 9, 1, 12) + minutes * 60_000).toISOString();
const ms = (minutes: number) => Date.parse(at(minutes));
const plan: Plan = {
  at: at(0), until: at(360), cut: false,
  running: [{ job_id: 1, name: "a", project: "p", queue: "q", nodes: [{ node: "n10", gpus: [0] }, { node: "n2", gpus: [0, 1] }], started_at: at(-60), ends_at: at(60), ends_latest_at: null }, { job_id: null, name: "", project: "", queue: "q", nodes: [{ node: "n2", gpus: [2] }], started_at: at(-5), ends_at: at(400), ends_latest_at: null }],
  planned: [{ job_id: 2, name: "b", project: "p", queue: "q", nodes: [{ node: "n2", count: 1 }], starts_at: at(60), from: at(50), to: at(90), ends_at: at(900), gpus: 1, backfill: false }, { job_id: 3, name: "c", project: "p", queue: "q", nodes: [], starts_at: at(100), from: at(90), to: at(190), ends_at: at(300), gpus: 4, backfill: false }],
  reservations: [{ name: "maint", nodes: ["n10"], from: at(120), until: at(180), projects: [] }],
};
describe("the plan", () => {
  const rows = ganttOf(plan, "node").rows;
  it("has a row per node, by number", () => expect(rows.map((row) => row.name)).toEqual(["n2", "n10", "not bound to a node yet"]));
  it("puts bars that overlap into lanes of their own", () => {
    for (const row of rows) for (const a of row.bars) for (const b of row.bars) if (a !== b && a.lane === b.lane) expect(a.to <= b.from || b.to <= a.from).toBe(true);
    expect(rows[0]!.lanes).toBe(2);
  });
  it("keeps every bar within the picture and marks ends that lie behind it", () => {
    const gantt = ganttOf(plan, "node");
    for (const row of gantt.rows) for (const bar of row.bars) expect(bar.from >= gantt.from && bar.to <= gantt.to && bar.from < bar.to).toBe(true);
    expect(rows[0]!.bars.map((bar) => [bar.job, bar.open])).toEqual([[1, false], [null, true], [2, true]]);
  });
  it("has a row per job on demand, in the order of their starts", () => expect(ganttOf(plan, "job").rows.map((row) => row.bars[0]!.job)).toEqual([1, null, 2, 3]));
  it("packs a thousand bars without overlap", () => {
    const bars = Array.from({ length: 1000 }, (_, i) => ({ job: i, from: (i * 7919) % 1000, to: ((i * 7919) % 1000) + 1 + (i % 50) }) as Bar);
    const lanes = packLanes(bars);
    const ends = new Array<number>(lanes).fill(-1);
    for (const bar of bars) {
      expect(bar.from).toBeGreaterThanOrEqual(ends[bar.lane]!);
      ends[bar.lane] = bar.to;
    }
  });
});

const attempt = (number: number, times: Partial<Attempt>) => ({ number, epoch: number, state: "ended", result: "failed", cause: "user", detail: "", placed_at: null, preflight_at: null, starting_at: null, running_at: null, fault_at: null, stopping_at: null, ended_at: null, ...times }) as Attempt;
describe("the timeline of a job", () => {
  const job = { created_at: at(0), ended_at: null, state: "queued", attempt: 1 } as Pick<Job, "created_at" | "ended_at" | "state" | "attempt">;
  it("has a lane per attempt and one for the wait now", () => {
    const line = timelineOf(job, [attempt(1, { placed_at: at(5), starting_at: at(6), running_at: at(7), fault_at: at(20), stopping_at: at(20), ended_at: at(22) })], [{ step: 5, epoch: 1, at: at(15), state: "good" } as never], ms(30));
    expect(line.lanes[0]!.pieces.map((piece) => [piece.phase, (piece.to - piece.from) / 60_000])).toEqual([["queued", 5], ["preflight", 1], ["starting", 1], ["running", 13], ["stopping", 2]]);
    expect(line.lanes[0]!.marks.map((mark) => mark.kind)).toEqual(["checkpoint", "fault", "end"]);
    expect(line.lanes[1]).toMatchObject({ attempt: 2, text: "queued", pieces: [{ phase: "queued", from: ms(22), to: ms(30) }] });
    expect(line.to).toBe(ms(30));
  });
  it("tells a planned stop from a fault", () => {
    const line = timelineOf({ ...job, state: "running" }, [attempt(1, { placed_at: at(1), running_at: at(2), stopping_at: at(5), ended_at: at(6), cause: "preempted", result: "stopped" })], [], ms(10));
    expect(line.lanes[0]!.marks.map((mark) => mark.kind)).toEqual(["stop", "end"]);
  });
  it("an axis has round instants, and not too many", () => {
    const marks = ticks(ms(0), ms(61), 8, 0);
    expect(marks.length).toBeLessThanOrEqual(8);
    for (const mark of marks) expect(mark % 600_000).toBe(0);
    expect(ticks(ms(0), ms(0), 8).length).toBeLessThanOrEqual(2);
  });
});
describe("sums", () => {
  it("goodput does not invent idle time", () => {
    const total = { gpu_seconds: 100, lost_by_cause: { gpu: 10, user: 30 } } as never;
    expect(goodputParts(total).map((part) => [part.label, part.seconds])).toEqual([["used and kept", 60], ["lost: user", 30], ["lost: gpu", 10]]);
    expect(goodputParts({ ...(total as object), capacity_gpu_seconds: 150 } as never).at(-1)).toMatchObject({ kind: "idle", seconds: 50 });
  });
  it("a Pareto has the running share of all, also of those that are in no row", () => {
    const rows = pareto({ rows: [{ key: "b", faults: 3, jobs_hit: 2 }, { key: "a", faults: 1, jobs_hit: 1 }], total: { faults: 8, jobs_hit: 2 } });
    expect(rows.map((row) => [row.key, row.faults, row.jobs, row.share])).toEqual([["b", 3, 2, 0.375], ["a", 1, 1, 0.5]]);
    expect(pareto({ rows: [], total: { faults: 0, jobs_hit: 0 } })).toEqual([]);
  });
  it("projects stand below their parents, each once, also in a ring or without its parent", () => {
    const project = (name: string, parent: string | null) => ({ name, parent });
    const order = (all: { name: string; parent: string | null }[]) => treeOrder(all).map((row) => `${row.depth}${row.project.name}`).join(" ");
    expect(order([project("b", null), project("a1", "a"), project("a", null), project("a11", "a1"), project("c", "gone")])).toBe("0b 0a 1a1 2a11 0c");
    expect(order([project("x", "y"), project("y", "x")])).toBe("0x 1y");
    const many = Array.from({ length: 10_000 }, (_, i) => project(`p${i}`, i % 100 ? `p${i - (i % 100)}` : null));
    expect(treeOrder(many).length).toBe(10_000);
  });
  it("shares go along the tree, and a loop in it hangs nothing", () => {
    const project = (name: string, parent: string | null, weight: number, gpus: number) => ({ name, parent, weight, use: { gpus, active_jobs: 0, pending_jobs: 0 } });
    const shares = shareOf([project("a", null, 3, 6), project("b", null, 1, 2), project("a1", "a", 1, 6), project("a2", "a", 1, 0)]);
    expect([shares.get("a"), shares.get("a1")?.due, shares.get("b")?.has]).toEqual([{ gpus: 6, has: 0.75, due: 0.75 }, 0.375, 0.25]);
    expect(shareOf([project("x", "y", 1, 0), project("y", "x", 1, 0)]).size).toBe(2);
  });
  it("by day, in order, of what was used at all", () => {
    const rows = [{ project: "a", day: "2026-11-02", gpu_seconds: 30 }, { project: "b", day: "2026-11-02", gpu_seconds: 10 }, { project: "b", day: "2026-11-01", gpu_seconds: 5 }, { project: "a", day: "2026-11-03", gpu_seconds: 0 }];
    expect([...shareByDay(rows, "a")]).toEqual([["2026-11-01", 0], ["2026-11-02", 0.75]]);
  });
});

describe("why jobs wait", () => {
  const reasons = [{ code: "free_gpus", text: "not enough are free", jobs: 3, gpus: 24 }];
  it("is as the server says it", () => expect([withChosen(reasons, ""), withChosen(reasons, "free_gpus"), withChosen([], "")]).toEqual([reasons, reasons, []]));
  it("has what is filtered by also when no job waits for it any more", () => expect(withChosen(reasons, "held").map((each) => [each.code, each.jobs])).toEqual([["free_gpus", 3], ["held", 0]]));
});
