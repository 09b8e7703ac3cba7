import { useCallback, useEffect, useMemo, useRef, useState } from "react";
import { Link, useSearchParams } from "react-router";
import { useMay, useMe, usePlan, useProjects, useQueueList, useQueues } from "@/api/queries";
import type { QueuedJob } from "@/api/types";
import { PriorityDialog } from "@/ui/actions";
import { Button, Chip, Empty, EtaText, Loaded, Page, Panel, Problem, State } from "@/ui/bits";
import { GanttView } from "@/ui/gantt";
import { LongTable, type Column } from "@/ui/table";
import { Text } from "@/ui/text";
import { useNow } from "@/ui/now";
import { count, percent, plural } from "@/lib/format";
import { may as mayDo } from "@/lib/permissions";
import { ganttOf } from "@/lib/gantt";
import { Rows, eachOnce } from "@/lib/rows";
import { shareOf, type Share } from "@/lib/shares";
import { withChosen } from "@/lib/summary";
import { addressNow, readFilters, toQuery, withFilters } from "@/lib/url";

export type QueueRow = QueuedJob & { share: Share | null };

export function queueColumns(onPriority: ((id: number) => void) | null, mayChange: (row: QueueRow) => boolean): Column<QueueRow>[] {
  return [
    { id: "position", header: "#", meta: { width: 54, num: true }, accessorFn: (job) => job.position ?? 1e9, cell: ({ row }) => (row.original.position === null ? <span className="faint">–</span> : row.original.position + 1) },
    { id: "job", header: "Job", accessorKey: "name", meta: { width: 190 }, cell: ({ row }) => <span title={row.original.name}><Link className="plain-link" to={`/jobs/${row.original.id}`}>{row.original.name}</Link> <span className="faint">{row.original.id}</span></span> },
    { id: "state", header: "State", accessorKey: "state", meta: { width: 96 }, cell: ({ row }) => <State state={row.original.state} /> },
    { id: "project", header: "Project", accessorKey: "project", meta: { width: 164 }, cell: ({ row }) => {
      const { project, share } = row.original;
      return <span title={share ? `holds ${plural(share.gpus, "GPU")}, ${percent(share.has)} of what is held; its weight is ${percent(share.due)} of all` : undefined}>{project || <span className="faint">–</span>}{share && <span className={share.has > share.due ? "share over" : "share"}> {share.has > share.due ? "▲" : "▽"} {Math.round(share.has * 100)}<span className="faint"> of {percent(share.due)}</span></span>}</span>;
    } },
    { id: "owner", header: "Owner", accessorKey: "owner", meta: { width: 92, wide: true } },
    { id: "priority", header: "Priority", accessorKey: "priority", meta: { width: 84, num: true }, cell: ({ row }) => onPriority && mayChange(row.original)
      ? <button type="button" className="button quiet small" title="What if its priority were another?" aria-label={`Priority ${row.original.priority} of job ${row.original.id}: what if?`} onClick={() => onPriority(row.original.id)}>{row.original.priority}</button> : row.original.priority },
    { id: "need", header: "Needs / could have", meta: { width: 150, num: true }, accessorFn: (job) => job.nodes * job.gpus_per_node, cell: ({ row }) => {
      const { nodes, gpus_per_node: gpus, gpu_model: model, best_available: best } = row.original;
      const text = `needs ${plural(nodes, "node")} of ${plural(gpus, "GPU")}${model && ` ${model}`}; ${best ? `most of its gang that could have nodes now: ${plural(best.gpus, "GPU")} on ${plural(best.nodes, "node")}` : "it is not ready, so nothing is looked for"}`;
      return <span title={text}>{count(nodes * gpus)}<span className="faint"> / {best ? count(best.gpus) : "–"}</span></span>;
    } },
    { id: "eta", header: "Start, with range", meta: { width: 178 }, accessorFn: (job) => (job.eta ? Date.parse(job.eta.at) : Infinity), cell: ({ row }) => <EtaText eta={row.original.eta} /> },
    { id: "reasons", header: "Every reason", enableSorting: false, meta: { wrap: true }, cell: ({ row }) => <span className="chips">{row.original.reasons.map((reason, i) => <Chip key={i} title={reason.text} tone={reason.code === "never" ? "bad" : reason.code === "held" ? "warn" : "neutral"}>{reason.code.replaceAll("_", " ")}{reason.need > 0 && <span className="faint"> {count(reason.have)}/{count(reason.need)}</span>}</Chip>)}</span> },
  ];
}

function PlanView({ queue }: { queue: string }) {
  const [horizon, setHorizon] = useState("6h");
  const [by, setBy] = useState<"node" | "job">("node");
  const plan = usePlan(queue, horizon);
  const now = useNow();
  const gantt = useMemo(() => (plan.data ? ganttOf(plan.data, by) : null), [plan.data, by]);
  return (
    <Panel title="Plan" actions={<>
      <div className="segmented" role="group" aria-label="Rows">{(["node", "job"] as const).map((each) => <Button key={each} small aria-pressed={by === each} onClick={() => setBy(each)}>by {each}</Button>)}</div>
      <select className="small" aria-label="How far ahead" value={horizon} onChange={(event) => setHorizon(event.target.value)}>{["1h", "6h", "24h", "48h"].map((each) => <option key={each}>{each}</option>)}</select>
    </>}>
      <Loaded query={plan} rows={8}>{(data) => !gantt || gantt.rows.length === 0 ? <Empty title="Nothing runs and nothing is planned" /> : (
        <div className="stack tight">
          <PlanLegend reserved={data.reservations.length > 0} />
          <GanttView gantt={gantt} now={now} label="Plan" />
          {data.cut && <p className="faint">There is more than is planned ahead: beyond the first jobs that wait for the same nodes, or the 500 that are shown.</p>}
        </div>
      )}</Loaded>
    </Panel>
  );
}
function PlanLegend({ reserved }: { reserved: boolean }) {
  return (
    <div className="legend">
      <span><svg width="16" height="10" aria-hidden="true"><rect width="16" height="10" rx="2" className="gantt-running" /></svg>running, to its predicted end</span>
      <span><i className="swatch planned" aria-hidden="true" />planned</span>
      <span><svg width="20" height="10" aria-hidden="true"><path d="M1 1v8m0-4h18m0-4v8" className="gantt-range" /></svg>four of five start in this range</span>
      {reserved && <span><svg width="16" height="10" aria-hidden="true"><rect x=".5" y=".5" width="15" height="9" className="gantt-reservation" /></svg>reservation</span>}
      <span><svg width="4" height="12" aria-hidden="true"><line x1="2" x2="2" y1="0" y2="12" className="gantt-now" /></svg>now</span>
    </div>
  );
}

const kFields = ["queue", "project", "user", "reason"] as const;
export default function QueuePage() {
  useEffect(() => { document.title = "Queue · Tutti"; }, []);
  const [params, setParams] = useSearchParams();
  const filters = readFilters(params, kFields);
  const view = params.get("view") === "plan" ? "plan" : "list";
  const list = useQueueList(toQuery(filters));
  const projects = useProjects();
  const queues = useQueues();
  const may = useMay();
  const [changing, setChanging] = useState<number | null>(null);
  const { head, pages } = list;
  const loaded = useMemo(() => eachOnce(head.data?.jobs ?? [], pages?.map((page) => page.jobs) ?? []), [head.data, pages]);
  const rows = useMemo(() => {
    const shares = shareOf(projects.data?.projects ?? []);
    return new Rows([loaded.map((job): QueueRow => ({ ...job, share: shares.get(job.project) ?? null }))]);
  }, [loaded, projects.data]);
  const reasons = withChosen(head.data?.by_reason ?? [], filters.reason);
  const mayAny = may("submit");
  const me = useMe().data;
  const columns = useMemo(() => queueColumns(mayAny ? setChanging : null, (row) => mayDo(me, "change-job", { project: row.project, owner: row.owner })), [mayAny, me]);
  const fetchMore = useRef(list.fetchMore);
  fetchMore.current = list.fetchMore;
  const onEnd = useCallback(() => fetchMore.current(), []);
  const set = (change: Record<string, string | null>) => setParams(withFilters(addressNow(), change), { replace: true });
  const named = (names: string[] | undefined, chosen: string) => [...new Set([...(names ?? []), ...(chosen ? [chosen] : [])])].map((name) => <option key={name}>{name}</option>);
  const anyFilter = Object.values(filters).some(Boolean);
  return (
    <Page title="Queue" sub={head.data ? `${plural(head.data.total, "job")} pending${anyFilter ? " that match" : ""}` : undefined} actions={<>
      <div className="segmented" role="group" aria-label="View">{(["list", "plan"] as const).map((each) => <Button key={each} aria-pressed={view === each} onClick={() => set({ view: each === "list" ? null : each })}>{each === "list" ? "List" : "Plan"}</Button>)}</div>
      <select aria-label="Queue" value={filters.queue} onChange={(event) => set({ queue: event.target.value })}><option value="">All queues</option>{named(queues.data?.queues.map((each) => each.name), filters.queue)}</select>
    </>}>
      {view === "plan" ? <PlanView queue={filters.queue} /> : (
        <Panel flush>
          <div className="filters" role="search" aria-label="Filter the queue">
            <select aria-label="Project" value={filters.project} onChange={(event) => set({ project: event.target.value })}><option value="">Any project</option>{named(projects.data?.projects.map((each) => each.name), filters.project)}</select>
            <Text label="Owner" value={filters.user} onValue={(user) => set({ user })} />
            {reasons.length > 0 && <span className="chips" role="group" aria-label="By what keeps them most">{reasons.map((each) => <Button key={each.code} small aria-pressed={filters.reason === each.code} title={`${each.text}: ${plural(each.jobs, "job")} that ask for ${plural(each.gpus, "GPU")}`} onClick={() => set({ reason: filters.reason === each.code ? null : each.code })}>{each.code.replaceAll("_", " ")} <span className="faint">{count(each.jobs)}</span></Button>)}</span>}
            {anyFilter && <Button small kind="quiet" onClick={() => set({ queue: null, project: null, user: null, reason: null })}>Clear</Button>}
          </div>
          <Loaded query={head} rows={10}>{(data) => <>
            <LongTable label="Pending jobs" columns={columns} rows={rows} id={(job) => String(job.id)} rowHeight={38} onEnd={onEnd} total={data.total}
              empty={<Empty title={anyFilter ? "No job that waits matches" : "No job waits"}>{anyFilter ? <Button small onClick={() => set({ queue: null, project: null, user: null, reason: null })}>All that wait</Button> : "What is submitted now starts as soon as it fits."}</Empty>} />
            {list.error ? <Problem error={list.error} retry={list.fetchMore} /> : null}
            {rows.length > 0 && list.hasMore && <div className="table-foot"><span>{count(loaded.length)} of {count(data.total)} loaded, in the planner's order</span><span>{list.fetching ? "Loading more" : "Scroll for more"}</span></div>}
          </>}</Loaded>
        </Panel>
      )}
      <PriorityDialog id={changing ?? 0} open={changing !== null} onClose={() => setChanging(null)} />
    </Page>
  );
}
