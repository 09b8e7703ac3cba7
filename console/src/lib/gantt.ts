// The planner's plan as rows and bars. Pure. One row per node (bars share it in lanes when jobs run side by side), or one per job.
// Invariants: (1) bars of one lane never overlap; (2) every bar lies within [from, to]; (3) rows come in the order of their names.
import type { Plan } from "@/api/types";
import { byName } from "./format";

export interface Bar {
  kind: "running" | "planned" | "reservation";
  job: number | null;
  name: string;
  from: number;
  to: number;
  open: boolean; // its end lies behind the picture
  rangeTo: number | null; // latest likely end, or start
  rangeFrom: number | null;
  gpus: number;
  lane: number;
}
export interface GanttRow {
  name: string;
  bars: Bar[];
  lanes: number;
}
export interface Gantt {
  from: number;
  to: number;
  rows: GanttRow[];
}
const time = (at: string | null) => (at === null ? null : Date.parse(at));

/** The first lane in which a bar has room. Changes `bars`. */
export function packLanes(bars: Bar[]): number {
  const ends: number[] = [];
  bars.sort((a, b) => a.from - b.from || a.to - b.to || (a.job ?? 0) - (b.job ?? 0));
  for (const bar of bars) {
    let lane = ends.findIndex((end) => end <= bar.from);
    if (lane < 0) lane = ends.push(0) - 1;
    ends[lane] = bar.to;
    bar.lane = lane;
  }
  return Math.max(1, ends.length);
}

export function ganttOf(plan: Plan, by: "node" | "job"): Gantt {
  const at = Date.parse(plan.at);
  const to = Date.parse(plan.until);
  const from = at - (to - at) * 0.08; // a little of what is behind us
  const rows = new Map<string, Bar[]>();
  const put = (row: string, bar: Omit<Bar, "lane">) => {
    if (bar.to <= from || bar.from >= to) return;
    const cut = { ...bar, from: Math.max(bar.from, from), to: Math.min(bar.to, to), open: bar.open || bar.to > to, lane: 0 };
    rows.set(row, [...(rows.get(row) ?? []), cut]);
  };
  const label = (job: number | null, name: string) => (job === null ? "another project's" : `${name} · ${job}`);
  for (const run of plan.running) {
    const bar = { kind: "running" as const, job: run.job_id, name: run.name, from: Date.parse(run.started_at), to: Date.parse(run.ends_at), open: false, rangeFrom: null, rangeTo: time(run.ends_latest_at) };
    if (by === "job") put(label(run.job_id, run.name), { ...bar, gpus: run.nodes.reduce((sum, node) => sum + node.gpus.length, 0) });
    else for (const node of run.nodes) put(node.node, { ...bar, gpus: node.gpus.length });
  }
  for (const start of plan.planned) {
    const bar = { kind: "planned" as const, job: start.job_id, name: start.name, from: Date.parse(start.starts_at), to: Date.parse(start.ends_at), open: false, rangeFrom: Date.parse(start.from), rangeTo: Date.parse(start.to) };
    if (by === "job") put(label(start.job_id, start.name), { ...bar, gpus: start.gpus });
    else if (start.nodes.length === 0) put("not bound to a node yet", { ...bar, gpus: start.gpus });
    else for (const node of start.nodes) put(node.node, { ...bar, gpus: node.count });
  }
  if (by === "node") for (const hold of plan.reservations) for (const node of hold.nodes)
    put(node, { kind: "reservation", job: null, name: hold.name, from: Date.parse(hold.from), to: Date.parse(hold.until), open: false, rangeFrom: null, rangeTo: null, gpus: 0 });
  const out = [...rows].map(([name, bars]) => ({ name, lanes: packLanes(bars), bars }));
  if (by === "node") out.sort((a, b) => byName(a.name, b.name));
  else out.sort((a, b) => a.bars[0]!.from - b.bars[0]!.from);
  return { from, to, rows: out };
}
