import { useEffect, useMemo, useState } from "react";
import { Link, useSearchParams } from "react-router";
import { useMay, usePendingJobs, usePlan, useProjects, useQueue, useQueues } from "@/api/queries";
import type { QueueMore } from "@/api/wanted";
import { PriorityDialog } from "@/ui/actions";
import { Button, Chip, Empty, EtaText, Loaded, Page, Panel, State } from "@/ui/bits";
import { GanttView } from "@/ui/gantt";
import { Table, type Column } from "@/ui/table";
import { useNow } from "@/ui/now";
import { count, percent, plural } from "@/lib/format";
import { ganttOf, ganttOfEtas } from "@/lib/gantt";
import { shareOf, type Share } from "@/lib/shares";
import { reasonsOf } from "@/lib/summary";
import { addressNow, withFilters } from "@/lib/url";

export type QueueRow = Omit<QueueMore["jobs"][number], "nodes"> & { project: string; owner: string; need: number | null; nodes: number | null; share: Share | null };

export function queueColumns(onPriority: ((id: number) => void) | null, mayChange: (row: QueueRow) => boolean): Column<QueueRow>[] {
  return [
    { id: "position", header: "#", meta: { width: 54, num: true }, accessorFn: (job) => job.position ?? 1e9, cell: ({ row }) => (row.original.position === null ? <span className="faint">–</span> : row.original.position + 1) },
    { id: "job", header: "Job", accessorKey: "name", meta: { width: 180 }, cell: ({ row }) => <span title={row.original.name}><Link className="plain-link" to={`/jobs/${row.original.id}`}>{row.original.name}</Link> <span className="faint">{row.original.id}</span></span> },
    { id: "state", header: "State", accessorKey: "state", meta: { width: 96 }, cell: ({ row }) => <State state={row.original.state} /> },
    { id: "project", header: "Project", accessorKey: "project", meta: { width: 164 }, cell: ({ row }) => {
      const { project, share } = row.original;
      return <span title={share ? `holds ${plural(share.gpus, "GPU")}, ${percent(share.has)} of what is held; its weight is ${percent(share.due)} of all` : undefined}>{project || <span className="faint">–</span>}{share && <span className={share.has > share.due ? "share over" : "share"}> {share.has > share.due ? "▲" : "▽"} {Math.round(share.has * 100)}<span className="faint"> of {percent(share.due)}</span></span>}</span>;
    } },
    { id: "priority", header: "Priority", accessorKey: "priority", meta: { width: 84, num: true }, cell: ({ row }) => onPriority && mayChange(row.original)
      ? <button type="button" className="button quiet small" title="What if its priority were another?" aria-label={`Priority ${row.original.priority} of job ${row.original.id}: what if?`} onClick={() => onPriority(row.original.id)}>{row.original.priority}</button> : row.original.priority },
    { id: "need", header: "Needs", meta: { width: 92, num: true }, accessorFn: (job) => job.need ?? -1, cell: ({ row }) => {
      const { need, nodes, best_available: best } = row.original;
      return need === null ? <span className="faint">–</span> : <span title={best ? `best available now: ${plural(best.gpus, "GPU")} on ${plural(best.nodes, "node")}` : `${need} GPUs on ${nodes} nodes`}>{need} GPU{need === 1 ? "" : "s"}{best && <span className="faint"> / {best.gpus}</span>}</span>;
    } },
    { id: "eta", header: "Start, with range", meta: { width: 186 }, accessorFn: (job) => (job.eta ? Date.parse(job.eta.at) : Infinity), cell: ({ row }) => <EtaText eta={row.original.eta} /> },
    { id: "reasons", header: "Every reason", enableSorting: false, meta: { wrap: true }, cell: ({ row }) => <span className="chips">{row.original.reasons.map((reason, i) => <Chip key={i} title={reason.text} tone={reason.code === "never" ? "bad" : reason.code === "held" ? "warn" : "neutral"}>{reason.code.replaceAll("_", " ")}{reason.need > 0 && <span className="faint"> {count(reason.have)}/{count(reason.need)}</span>}</Chip>)}</span> },
  ];
}

function PlanView({ queue }: { queue: string }) {
  const [horizon, setHorizon] = useState("6h");
  const [by, setBy] = useState<"node" | "job">("node");
  const plan = usePlan(queue, horizon);
  const list = useQueue(queue);
  const now = useNow();
  const gantt = useMemo(() => (plan.data ? ganttOf(plan.data, by) : null), [plan.data, by]);
  const minute = Math.floor(now / 10_000) * 10_000;
  const etas = useMemo(() => (plan.data === null && list.data ? ganttOfEtas(list.data.jobs, minute) : null), [plan.data, list.data, minute]);
  return (
    <Panel title="Plan" actions={plan.data ? <>
      <div className="segmented" role="group" aria-label="Rows">{(["node", "job"] as const).map((each) => <Button key={each} small aria-pressed={by === each} onClick={() => setBy(each)}>by {each}</Button>)}</div>
      <select className="small" aria-label="How far ahead" value={horizon} onChange={(event) => setHorizon(event.target.value)}>{["1h", "6h", "24h", "48h"].map((each) => <option key={each}>{each}</option>)}</select>
    </> : undefined}>
      <Loaded query={plan}>{(data) => data && gantt
        ? <div className="stack tight">
          <PlanLegend reserved={data.reservations.length > 0} />
          {gantt.rows.length === 0 ? <Empty title="Nothing runs and nothing is planned" /> : <GanttView gantt={gantt} now={now} label="Plan" />}
          {data.cut && <p className="faint">There is more than can be shown.</p>}
        </div>
        : <div className="stack tight">
          <p className="muted">The planner's estimated starts. Which nodes, predicted ends and reservations on a time axis: not offered by this server.</p>
          {etas && etas.rows.length > 0 ? <><PlanLegend etasOnly /><GanttView gantt={etas} now={now} label="Estimated starts" /></> : <Empty title="No start is planned" />}
        </div>}</Loaded>
    </Panel>
  );
}
export function PlanLegend({ reserved, etasOnly }: { reserved?: boolean; etasOnly?: boolean }) {
  return (
    <div className="legend">
      {!etasOnly && <span><svg width="16" height="10" aria-hidden="true"><rect width="16" height="10" rx="2" className="gantt-running" /></svg>running, to its predicted end</span>}
      <span><i className="swatch planned" aria-hidden="true" />planned</span>
      <span><svg width="20" height="10" aria-hidden="true"><path d="M1 1v8m0-4h18m0-4v8" className="gantt-range" /></svg>four of five start in this range</span>
      {reserved && <span><svg width="16" height="10" aria-hidden="true"><rect x=".5" y=".5" width="15" height="9" className="gantt-reservation" /></svg>reservation</span>}
      <span><svg width="4" height="12" aria-hidden="true"><line x1="2" x2="2" y1="0" y2="12" className="gantt-now" /></svg>now</span>
    </div>
  );
}

export default function QueuePage() {
  useEffect(() => { document.title = "Queue · Tutti"; }, []);
  const [params, setParams] = useSearchParams();
  const queue = params.get("queue") ?? "";
  const view = params.get("view") === "plan" ? "plan" : "list";
  const reason = params.get("reason") ?? "";
  const list = useQueue(queue);
  const pending = usePendingJobs();
  const projects = useProjects();
  const queues = useQueues();
  const may = useMay();
  const [changing, setChanging] = useState<number | null>(null);
  const rows = useMemo(() => {
    const known = new Map((pending.data?.jobs ?? []).map((job) => [job.id, job]));
    const shares = shareOf(projects.data?.projects ?? []);
    return (list.data?.jobs ?? []).map((job): QueueRow => {
      const more = known.get(job.id);
      const project = job.project ?? more?.project ?? "";
      const nodes = job.nodes ?? more?.nodes ?? null;
      const gpus = job.gpus_per_node ?? more?.gpus_per_node ?? null;
      return { ...job, project, owner: job.owner ?? more?.owner ?? "", nodes, need: nodes === null || gpus === null ? null : nodes * gpus, share: shares.get(project) ?? null };
    }).filter((job) => !reason || job.reasons.some((each) => each.code === reason) || job.state === reason);
  }, [list.data, pending.data, projects.data, reason]);
  const reasons = list.data ? reasonsOf(list.data) : [];
  const mayAny = may("submit");
  const columns = useMemo(() => queueColumns(mayAny ? setChanging : null, (row) => may("change-job", { project: row.project, owner: row.owner })), [mayAny, list.data]); // eslint-disable-line react-hooks/exhaustive-deps
  const set = (change: Record<string, string | null>) => setParams(withFilters(addressNow(), change), { replace: true });
  return (
    <Page title="Queue" sub={list.data ? `${plural(list.data.total ?? list.data.jobs.length, "job")} pending${list.data.total === undefined && list.data.jobs.length >= 200 ? ", the first 200 are shown" : ""}` : undefined} actions={<>
      <div className="segmented" role="group" aria-label="View">{(["list", "plan"] as const).map((each) => <Button key={each} aria-pressed={view === each} onClick={() => set({ view: each === "list" ? null : each })}>{each === "list" ? "List" : "Plan"}</Button>)}</div>
      <select aria-label="Queue" value={queue} onChange={(event) => set({ queue: event.target.value })}><option value="">All queues</option>{[...new Set([...(queues.data?.queues.map((each) => each.name) ?? []), ...(queue ? [queue] : [])])].map((name) => <option key={name}>{name}</option>)}</select>
    </>}>
      {view === "plan" ? <PlanView queue={queue} /> : (
        <Panel flush>
          {reasons.length > 0 && <div className="filters" role="group" aria-label="By first reason">{reasons.map((each) => <Button key={each.code} small aria-pressed={reason === each.code} title={each.text} onClick={() => set({ reason: reason === each.code ? null : each.code })}>{each.code.replaceAll("_", " ")} <span className="faint">{count(each.jobs)}</span></Button>)}</div>}
          <Loaded query={list} rows={10}>{() => <Table label="Pending jobs" columns={columns} data={rows} id={(job) => String(job.id)} rowHeight={38}
            empty={<Empty title={reason ? "No job waits for this reason" : "No job waits"}>{reason ? <Button small onClick={() => set({ reason: null })}>All reasons</Button> : "What is submitted now starts as soon as it fits."}</Empty>} />}</Loaded>
        </Panel>
      )}
      <PriorityDialog id={changing ?? 0} open={changing !== null} onClose={() => setChanging(null)} />
    </Page>
  );
}
