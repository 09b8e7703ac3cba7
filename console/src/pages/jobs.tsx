import { useCallback, useEffect, useMemo, useState } from "react";
import { Link, useSearchParams } from "react-router";
import type { RowSelectionState, SortingState } from "@tanstack/react-table";
import { Bookmark, ChevronDown } from "lucide-react";
import { useJobList } from "@/api/joblist";
import { useCluster, useMay, useMe, useProjects, useQueues } from "@/api/queries";
import type { ListedJob, Schema } from "@/api/types";
import { BulkDialog, type BulkTarget } from "@/ui/actions";
import { Button, Cause, Empty, Loaded, Page, Panel, Problem, State, Time } from "@/ui/bits";
import { Menu, Modal, type Choice } from "@/ui/overlay";
import { Table, type Column } from "@/ui/table";
import { count, number, percent, plural } from "@/lib/format";
import { kActive, kPending, kStates, kTerminal, verbsOf } from "@/lib/jobs";
import { addressNow, parseViews, putView, readFilters, toQuery, withFilters, type SavedView } from "@/lib/url";

const kFields = ["state", "project", "queue", "user", "name", "since", "array"] as const;
const kGroups = ["state", "project", "queue", "owner", "cause", "name"] as const;
type GroupBy = (typeof kGroups)[number];
const kViews = "tutti.job-views";

function readViews(): SavedView[] {
  try {
    return parseViews(localStorage.getItem(kViews));
  } catch {
    return [];
  }
}
function Views({ query, go }: { query: string; go: (query: string) => void }) {
  const [views, setViews] = useState(readViews);
  const [naming, setNaming] = useState(false);
  const [name, setName] = useState("");
  const store = (next: SavedView[]) => {
    setViews(next);
    try {
      localStorage.setItem(kViews, JSON.stringify(next));
    } catch {
      // no storage: until the page is closed
    }
  };
  const known = views.find((view) => view.query === query);
  const items: (Choice | "-")[] = [
    ...views.map((view) => ({ label: <>{view.name}{view.query === query ? " ✓" : ""}</>, onSelect: () => go(view.query) })),
    ...(views.length > 0 ? ["-" as const] : []),
    { label: "Save this view…", onSelect: () => { setName(""); setNaming(true); } },
    ...(known ? [{ label: `Forget “${known.name}”`, danger: true, onSelect: () => store(views.filter((view) => view !== known)) }] : []),
  ];
  return (
    <>
      <Menu label={<><Bookmark size={14} aria-hidden />{known ? known.name : "Views"}<ChevronDown size={13} aria-hidden /></>} items={items} />
      <Modal open={naming} onClose={() => setNaming(false)} title="Save this view">
        <form className="stack" onSubmit={(event) => { event.preventDefault(); store(putView(views, { name: name.trim(), query })); setNaming(false); }}>
          <label className="field">Name <input value={name} onChange={(event) => setName(event.target.value)} required pattern=".*\S.*" maxLength={60} autoFocus /><span className="help">Kept in this browser.</span></label>
          <div className="dialog-foot"><Button onClick={() => setNaming(false)}>Back</Button><Button kind="primary" type="submit">Save</Button></div>
        </form>
      </Modal>
    </>
  );
}

const kColumns: Column<ListedJob>[] = [
  { id: "id", accessorKey: "id", header: "Job", meta: { width: 74 }, cell: ({ row }) => <Link to={`/jobs/${row.original.id}`}>{row.original.id}</Link> },
  { id: "name", accessorKey: "name", header: "Name", cell: ({ row }) => <Link to={`/jobs/${row.original.id}`} className="plain-link" title={row.original.name}>{row.original.name}</Link> },
  { id: "state", accessorKey: "state", header: "State", meta: { width: 116 }, cell: ({ row }) => <State state={row.original.state} title={row.original.reason} /> },
  { id: "cause", accessorFn: (job) => job.cause ?? "", header: "Cause", meta: { width: 104 }, cell: ({ row }) => <Cause cause={row.original.cause} /> },
  { id: "project", accessorKey: "project", header: "Project", meta: { width: 104 } },
  { id: "owner", accessorKey: "owner", header: "Owner", meta: { width: 92 } },
  { id: "queue", accessorKey: "queue", header: "Queue", meta: { width: 96, wide: true } },
  { id: "priority", accessorKey: "priority", header: "Priority", meta: { width: 76, num: true } },
  { id: "gpus", accessorFn: (job) => job.nodes * job.gpus_per_node, header: "GPUs", meta: { width: 92, num: true }, cell: ({ row }) => { const { nodes, gpus_per_node: gpus } = row.original; return <span title={`${plural(nodes, "node")} of ${gpus} GPUs`}>{nodes > 1 ? <span className="faint">{nodes}×{gpus} </span> : null}{nodes * gpus}</span>; } },
  { id: "attempt", accessorKey: "attempt", header: "Attempts", meta: { width: 88, num: true } },
  { id: "progress", accessorFn: (job) => (job.progress?.total ? job.progress.step / job.progress.total : -1), header: "Progress", meta: { width: 112, num: true }, cell: ({ row }) => { const progress = row.original.progress; return progress?.total ? <span title={`step ${count(progress.step)} of ${count(progress.total)}`}>{percent(progress.step / progress.total)} <span className="faint">{number(progress.step)}</span></span> : <span className="faint">–</span>; } },
  { id: "created", accessorKey: "created_at", header: "Submitted", meta: { width: 106, num: true }, cell: ({ row }) => <Time at={row.original.created_at} /> },
  { id: "ended", accessorFn: (job) => job.ended_at ?? "", header: "Ended", meta: { width: 100, num: true, wide: true }, cell: ({ row }) => <Time at={row.original.ended_at} /> },
];

function Groups({ rows, by, more, go }: { rows: ListedJob[]; by: GroupBy; more: boolean; go: (value: string) => void }) {
  const groups = useMemo(() => {
    const out = new Map<string, { jobs: number; gpus: number; active: number; pending: number; failed: number }>();
    for (const job of rows) {
      const key = String(job[by] ?? "none");
      const sum = out.get(key) ?? { jobs: 0, gpus: 0, active: 0, pending: 0, failed: 0 };
      sum.jobs += 1;
      const active = (kActive as readonly string[]).includes(job.state);
      if (active) { sum.active += 1; sum.gpus += job.nodes * job.gpus_per_node; }
      if ((kPending as readonly string[]).includes(job.state)) sum.pending += 1;
      if (job.state === "failed") sum.failed += 1;
      out.set(key, sum);
    }
    return [...out].sort((a, b) => b[1].jobs - a[1].jobs);
  }, [rows, by]);
  return (
    <div className="table-wrap" tabIndex={0} role="region" aria-label="Table">
      <table><thead><tr><th scope="col">{by}</th><th scope="col" className="num">Jobs</th><th scope="col" className="num">Pending</th><th scope="col" className="num">Active</th><th scope="col" className="num">GPUs held</th><th scope="col" className="num">Failed</th></tr></thead>
        <tbody>{groups.map(([key, sum]) => <tr key={key}><td>{key === "none" || by === "cause" ? key : <Button kind="quiet" small onClick={() => go(key)}>{key}</Button>}</td><td className="num">{count(sum.jobs)}</td><td className="num">{count(sum.pending)}</td><td className="num">{count(sum.active)}</td><td className="num">{count(sum.gpus)}</td><td className="num">{count(sum.failed)}</td></tr>)}</tbody></table>
      {more && <p className="table-foot">Of the newest {count(rows.length)} jobs. Counts over all: not offered by this server.</p>}
    </div>
  );
}

export default function Jobs() {
  useEffect(() => { document.title = "Jobs · Tutti"; }, []);
  const [params, setParams] = useSearchParams();
  const filters = readFilters(params, kFields);
  const group = (kGroups as readonly string[]).includes(params.get("group") ?? "") ? (params.get("group") as GroupBy) : null;
  const set = (change: Record<string, string | null>) => setParams(withFilters(addressNow(), change), { replace: true });
  const list = useJobList(toQuery(filters));
  const me = useMe();
  const may = useMay();
  const queues = useQueues();
  const projects = useProjects();
  const cluster = useCluster();
  const [selection, setSelection] = useState<RowSelectionState>({});
  const [sorting, setSorting] = useState<SortingState>([]);
  const [bulk, setBulk] = useState<{ action: "cancel" | "hold" | "release" | "requeue" | "update"; target: BulkTarget } | null>(null);
  const filterKey = JSON.stringify(filters);
  useEffect(() => setSelection({}), [filterKey]);

  const chosen = useMemo(() => list.rows.filter((job) => selection[String(job.id)]), [list.rows, selection]);
  const mine = chosen.filter((job) => may("change-job", { project: job.project, owner: job.owner }));
  const mayAny = may("submit");
  const verbs = ["cancel", "hold", "release", "requeue"] as const;
  const anyFilter = Object.values(filters).some(Boolean);
  const open = (action: "cancel" | "hold" | "release" | "requeue" | "update") => setBulk({ action, target: { ids: mine.map((job) => job.id) } });
  const openAll = (action: "cancel" | "hold" | "release" | "requeue" | "update") => {
    const states = filters.state ? filters.state.split(",").flatMap((state): string[] => (state === "pending" ? [...kPending] : state === "active" ? [...kActive] : [state])).filter((state) => !(kTerminal as readonly string[]).includes(state)) : [];
    const filter: NonNullable<Schema["BulkRequest"]["filter"]> = {
      ...(states.length ? { state: states as never } : {}), ...(filters.project ? { project: filters.project } : {}), ...(filters.queue ? { queue: filters.queue } : {}),
      ...(filters.user ? { user: filters.user } : {}), ...(filters.name ? { name: filters.name } : {}), ...(filters.since ? { since: filters.since } : {}), ...(filters.array ? { array: Number(filters.array) } : {}),
    };
    setBulk({ action, target: { filter: Object.keys(filter).length ? filter : { all: true }, text: anyFilter ? "all that match the filter and are not over" : "all jobs that are not over" } });
  };
  const onEnd = useCallback(() => list.fetchMore(), [list]);
  const total = cluster.data && !anyFilter ? Object.values(cluster.data.jobs as Record<string, number>).reduce((sum, n) => sum + n, 0) : undefined;
  const actions: Choice[] = [...verbs.map((verb) => ({ label: verb[0]!.toUpperCase() + verb.slice(1), danger: verb === "cancel", onSelect: () => openAll(verb) })), { label: "Set priority", onSelect: () => openAll("update") }];

  return (
    <Page title="Jobs" actions={<>
      <Views query={params.toString()} go={(query) => setParams(new URLSearchParams(query))} />
      {mayAny && <Menu label={<>{anyFilter ? "All that match" : "All jobs"}<ChevronDown size={13} aria-hidden /></>} ariaLabel="Change all jobs that match" items={actions} />}
      {mayAny && <Link className="button primary" to="/submit">Submit</Link>}
    </>}>
      <Panel flush>
        <div className="filters" role="search" aria-label="Filter jobs">
          <select aria-label="State" value={filters.state} onChange={(event) => set({ state: event.target.value })}>
            <option value="">Any state</option>
            <optgroup label="Together"><option value="pending">pending</option><option value="active">active</option><option value="terminal">terminal</option></optgroup>
            <optgroup label="One">{kStates.map((state) => <option key={state}>{state}</option>)}</optgroup>
            {filters.state.includes(",") && <option value={filters.state}>{filters.state}</option>}
          </select>
          <select aria-label="Project" value={filters.project} onChange={(event) => set({ project: event.target.value })}><option value="">Any project</option>{[...new Set([...(projects.data?.projects.map((project) => project.name) ?? []), ...(filters.project ? [filters.project] : [])])].map((name) => <option key={name}>{name}</option>)}</select>
          <select aria-label="Queue" value={filters.queue} onChange={(event) => set({ queue: event.target.value })}><option value="">Any queue</option>{[...new Set([...(queues.data?.queues.map((queue) => queue.name) ?? []), ...(filters.queue ? [filters.queue] : [])])].map((name) => <option key={name}>{name}</option>)}</select>
          <Text label="Owner" value={filters.user} onValue={(value) => set({ user: value })} />
          <Text label="Exact name" value={filters.name} onValue={(value) => set({ name: value })} />
          <select aria-label="Submitted" value={filters.since} onChange={(event) => set({ since: event.target.value })}>{[["", "Any time"], ["1h", "Last hour"], ["24h", "Last 24 h"], ["7d", "Last 7 days"], ["30d", "Last 30 days"]].map(([value, label]) => <option key={value} value={value}>{label}</option>)}{!["", "1h", "24h", "7d", "30d"].includes(filters.since) && <option value={filters.since}>{filters.since}</option>}</select>
          <select aria-label="Group by" value={group ?? ""} onChange={(event) => set({ group: event.target.value })}><option value="">No groups</option>{kGroups.map((each) => <option key={each} value={each}>By {each}</option>)}</select>
          {me.data && filters.user !== me.data.user && <Button small kind="quiet" onClick={() => set({ user: me.data.user })}>Mine</Button>}
          {(anyFilter || group) && <Button small kind="quiet" onClick={() => set({ ...Object.fromEntries(kFields.map((field) => [field, null])), group: null })}>Clear</Button>}
          {filters.array && <span className="chip">tasks of array {filters.array}</span>}
        </div>
        {chosen.length > 0 && (
          <div className="bulk" role="region" aria-label="Selected jobs">
            <b>{count(chosen.length)} selected</b>
            {mine.length < chosen.length && <span className="faint">{count(chosen.length - mine.length)} of others</span>}
            {mine.length > 0 && verbs.filter((verb) => mine.some((job) => verbsOf(job.state).includes(verb))).map((verb) => <Button key={verb} small kind={verb === "cancel" ? "danger" : "plain"} onClick={() => open(verb)}>{verb[0]!.toUpperCase() + verb.slice(1)}</Button>)}
            {mine.length > 0 && <Button small onClick={() => open("update")}>Set priority</Button>}
            <Button small kind="quiet" onClick={() => setSelection({})}>Clear</Button>
          </div>
        )}
        <Loaded query={list.head} rows={12}>{() => group
          ? <Groups rows={list.rows} by={group} more={list.hasMore} go={(value) => set({ [group === "owner" ? "user" : group]: value, group: null })} />
          : <>
            <Table label="Jobs" columns={kColumns} data={list.rows} id={(job) => String(job.id)} {...(mayAny ? { selection, onSelection: setSelection } : {})} sorting={sorting} onSorting={setSorting} onEnd={onEnd} {...(total !== undefined ? { total } : {})}
              empty={anyFilter ? <Empty title="No job matches"><Button small onClick={() => setParams(new URLSearchParams())}>Show all jobs</Button></Empty> : <Empty title="No job yet">{mayAny && <Link to="/submit">Submit the first one</Link>}</Empty>} />
            {list.error ? <Problem error={list.error} retry={list.fetchMore} /> : null}
            {list.rows.length > 0 && <div className="table-foot"><span>{count(list.rows.length)} loaded{total !== undefined && total >= list.rows.length ? ` of ${count(total)}` : ""}{sorting.length > 0 && list.hasMore ? "; sorted among those" : ""}</span><span>{list.fetching ? "Loading more" : list.hasMore ? "Scroll for more" : "These are all"}</span></div>}
          </>}</Loaded>
      </Panel>
      <BulkDialog action={bulk?.action ?? null} target={bulk?.target ?? { ids: [] }} onClose={() => setBulk(null)} onDone={() => setSelection({})} />
    </Page>
  );
}

/** Text that becomes part of the address when one stops typing. */
export function Text({ label, value, onValue }: { label: string; value: string; onValue: (value: string) => void }) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  useEffect(() => {
    if (text === value) return;
    const timer = setTimeout(() => onValue(text.trim()), 350);
    return () => clearTimeout(timer);
  }, [text]); // eslint-disable-line react-hooks/exhaustive-deps
  return <input aria-label={label} placeholder={label} value={text} onChange={(event) => setText(event.target.value)} spellCheck={false} autoComplete="off" />;
}
