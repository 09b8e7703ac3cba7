import { useCallback, useEffect, useRef, useState } from "react";
import { Link, useSearchParams } from "react-router";
import { Bookmark, ChevronDown, X } from "lucide-react";
import { useJobCount, useJobGroups, useJobList, type GroupBy, type JobFilters } from "@/api/joblist";
import { useMay, useMe, useProjects, useQueues } from "@/api/queries";
import type { ListedJob } from "@/api/types";
import { BulkDialog, type BulkTarget } from "@/ui/actions";
import { Button, Cause, Empty, Loaded, Page, Panel, Problem, State, Time } from "@/ui/bits";
import { Menu, Modal, type Choice } from "@/ui/overlay";
import { Selection, useChosen } from "@/ui/selection";
import { Span } from "@/ui/span";
import { LongTable, type Column } from "@/ui/table";
import { Text } from "@/ui/text";
import { count, number, percent, plural } from "@/lib/format";
import { bulkFilter, kCauseText, kStates, verbsOf } from "@/lib/jobs";
import { isInstant } from "@/lib/span";
import { addressNow, parseViews, putView, readFilters, toQuery, withFilters, type SavedView } from "@/lib/url";

const kFields = ["state", "cause", "project", "queue", "user", "q", "name", "since", "until", "array"] as const;
const kGroups: readonly GroupBy[] = ["state", "project", "queue", "user", "cause", "name"];
const kGroupText: Record<GroupBy, string> = { state: "state", project: "project", queue: "queue", user: "owner", cause: "cause", name: "name" };
const kMostAtOnce = 1000; // ids that one change takes
type BulkVerb = "cancel" | "hold" | "release" | "requeue" | "update";
const kVerbs = ["cancel", "hold", "release", "requeue"] as const;
const capital = (text: string) => text[0]!.toUpperCase() + text.slice(1);
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

function Groups({ filters, by, go }: { filters: JobFilters; by: GroupBy; go: (value: string) => void }) {
  const groups = useJobGroups(filters, by);
  return (
    <Loaded query={groups} rows={8}>{(data) => data.groups.length === 0 ? <Empty title="No job matches" /> : (
      <div className="table-wrap" tabIndex={0} role="region" aria-label={`Jobs by ${kGroupText[by]}`}>
        <table><thead><tr><th scope="col">{capital(kGroupText[by])}</th><th scope="col" className="num">Jobs</th>{data.parted && <><th scope="col" className="num">Pending</th><th scope="col" className="num">Active</th><th scope="col" className="num">GPUs held</th><th scope="col" className="num">Failed</th></>}</tr></thead>
          <tbody>{data.groups.map((group) => <tr key={group.key}><td className="clip">{by === "cause" && group.key === "none" ? <span className="faint">none</span> : <Button kind="quiet" small title={by === "cause" ? kCauseText[group.key] : group.key} onClick={() => go(group.key)}>{group.key}</Button>}</td><td className="num">{count(group.jobs)}</td>{data.parted && <><td className="num">{count(group.pending)}</td><td className="num">{count(group.active)}</td><td className="num">{count(group.gpus)}</td><td className="num">{count(group.failed)}</td></>}</tr>)}</tbody></table>
        {data.cut && <p className="table-foot">The 1,000 largest groups are shown.</p>}
      </div>
    )}</Loaded>
  );
}

/** What is chosen, and what can be done with it. In the place of the foot: nothing moves under the mouse. */
function Chosen({ selection, open, foot }: { selection: Selection<ListedJob>; open: (action: BulkVerb, ids: number[]) => void; foot: React.ReactNode }) {
  const may = useMay();
  const jobs = [...useChosen(selection).values()];
  if (jobs.length === 0) return <div className="table-foot">{foot}</div>;
  const mine = jobs.filter((job) => may("change-job", { project: job.project, owner: job.owner }));
  const act = (action: BulkVerb) => open(action, mine.map((job) => job.id));
  return (
    <div className="bulk" role="region" aria-label="Selected jobs">
      <b aria-live="polite">{count(jobs.length)} selected</b>
      {jobs.length >= kMostAtOnce && <span className="faint">the most at one time</span>}
      {mine.length < jobs.length && <span className="faint">{count(jobs.length - mine.length)} of others</span>}
      {kVerbs.filter((verb) => mine.some((job) => verbsOf(job.state).includes(verb))).map((verb) => <Button key={verb} small kind={verb === "cancel" ? "danger" : "plain"} onClick={() => act(verb)}>{capital(verb)}</Button>)}
      {mine.length > 0 && <Button small onClick={() => act("update")}>Set priority</Button>}
      <Button small kind="quiet" onClick={() => selection.clear()}>Clear</Button>
    </div>
  );
}

function List({ filters, anyFilter, selection, open, showAll }: { filters: JobFilters; anyFilter: boolean; selection: Selection<ListedJob>; open: (action: BulkVerb, ids: number[]) => void; showAll: () => void }) {
  const list = useJobList(filters);
  const counts = useJobCount(filters, "state");
  const mayAny = useMay()("submit");
  const fetchMore = useRef(list.fetchMore);
  fetchMore.current = list.fetchMore;
  const onEnd = useCallback(() => fetchMore.current(), []);
  const total = counts.data && !counts.isPlaceholderData ? counts.data.groups.reduce((sum, group) => sum + group.jobs, 0) : undefined;
  const known = total !== undefined && total >= list.rows.length;
  return (
    <Loaded query={list.head} rows={12}>{() => <>
      <LongTable label="Jobs" columns={kColumns} rows={list.rows} id={idOf} {...(mayAny ? { selection, most: kMostAtOnce } : {})} onEnd={onEnd} {...(known ? { total } : {})}
        empty={anyFilter ? <Empty title="No job matches"><Button small onClick={showAll}>Show all jobs</Button></Empty> : <Empty title="No job yet">{mayAny && <Link to="/submit">Submit the first one</Link>}</Empty>} />
      {list.error ? <Problem error={list.error} retry={list.fetchMore} /> : null}
      {list.rows.length > 0 && <Chosen selection={selection} open={open} foot={<><span>{count(list.rows.length)} loaded{known ? ` of ${count(total!)}` : ""}, newest first</span><span>{list.fetching ? "Loading more" : list.hasMore ? "Scroll for more" : "These are all"}</span></>} />}
    </>}</Loaded>
  );
}
const idOf = (job: ListedJob) => String(job.id);

function Filters({ filters, set, group }: { filters: Record<(typeof kFields)[number], string>; set: (change: Record<string, string | null>) => void; group: GroupBy | null }) {
  const me = useMe();
  const queues = useQueues();
  const projects = useProjects();
  const any = Object.values(filters).some(Boolean);
  const named = (names: string[] | undefined, chosen: string) => [...new Set([...(names ?? []), ...(chosen ? [chosen] : [])])].map((name) => <option key={name}>{name}</option>);
  return (
    <div className="filters" role="search" aria-label="Filter jobs">
      <Text label="Part of the name" value={filters.q} onValue={(value) => set({ q: value })} />
      <select aria-label="State" value={filters.state} onChange={(event) => set({ state: event.target.value })}>
        <option value="">Any state</option>
        <optgroup label="Together"><option value="pending">pending</option><option value="active">active</option><option value="terminal">terminal</option></optgroup>
        <optgroup label="One">{kStates.map((state) => <option key={state}>{state}</option>)}</optgroup>
        {filters.state.includes(",") && <option value={filters.state}>{filters.state}</option>}
      </select>
      <select aria-label="Cause" value={filters.cause} onChange={(event) => set({ cause: event.target.value })}><option value="">Any cause</option>{named(Object.keys(kCauseText), filters.cause)}</select>
      <select aria-label="Project" value={filters.project} onChange={(event) => set({ project: event.target.value })}><option value="">Any project</option>{named(projects.data?.projects.map((project) => project.name), filters.project)}</select>
      <select aria-label="Queue" value={filters.queue} onChange={(event) => set({ queue: event.target.value })}><option value="">Any queue</option>{named(queues.data?.queues.map((queue) => queue.name), filters.queue)}</select>
      <Text label="Owner" value={filters.user} onValue={(value) => set({ user: value })} />
      <Span label="Submitted" any="Any time" since={filters.since} until={filters.until} onSpan={set} />
      {filters.until && !isInstant(filters.until) && <Button small title="Also later ones" onClick={() => set({ until: null })}>more than {filters.until} ago<X size={12} aria-hidden /></Button>}
      <select aria-label="Group by" value={group ?? ""} onChange={(event) => set({ group: event.target.value })}><option value="">No groups</option>{kGroups.map((each) => <option key={each} value={each}>By {kGroupText[each]}</option>)}</select>
      {filters.name && <Button small title="Also other names" onClick={() => set({ name: null })}><span className="ellipsis">named {filters.name}</span><X size={12} aria-hidden /></Button>}
      {filters.array && <Button small title="Also other jobs" onClick={() => set({ array: null })}>tasks of array {filters.array}<X size={12} aria-hidden /></Button>}
      {me.data && filters.user !== me.data.user && <Button small kind="quiet" onClick={() => set({ user: me.data.user })}>Mine</Button>}
      {(any || group) && <Button small kind="quiet" onClick={() => set({ ...Object.fromEntries(kFields.map((field) => [field, null])), group: null })}>Clear</Button>}
    </div>
  );
}

export default function Jobs() {
  useEffect(() => { document.title = "Jobs · Tutti"; }, []);
  const [params, setParams] = useSearchParams();
  const filters = readFilters(params, kFields);
  const group = kGroups.find((each) => each === params.get("group")) ?? null;
  const set = (change: Record<string, string | null>) => setParams(withFilters(addressNow(), change), { replace: true });
  const mayAny = useMay()("submit");
  const [bulk, setBulk] = useState<{ action: BulkVerb; target: BulkTarget } | null>(null);
  const [selection] = useState(() => new Selection<ListedJob>());
  const address = params.toString();
  useEffect(() => selection.clear(), [selection, address]); // what one no longer sees is not chosen
  const anyFilter = Object.values(filters).some(Boolean);
  const all = bulkFilter(filters);
  const openAll = (action: BulkVerb) => all && setBulk({ action, target: { filter: all, text: anyFilter ? "all that match the filter and are not over" : "all jobs that are not over" } });
  const actions: Choice[] = [...kVerbs.map((verb) => ({ label: capital(verb), danger: verb === "cancel", onSelect: () => openAll(verb) })), { label: "Set priority", onSelect: () => openAll("update") }];
  return (
    <Page title="Jobs" actions={<>
      <Views query={address} go={(query) => setParams(new URLSearchParams(query))} />
      {mayAny && all && <Menu label={<>{anyFilter ? "All that match" : "All jobs"}<ChevronDown size={13} aria-hidden /></>} ariaLabel="Change all jobs that match" items={actions} />}
      {mayAny && <Link className="button primary" to="/submit">Submit</Link>}
    </>}>
      <Panel flush>
        <Filters filters={filters} set={set} group={group} />
        {group ? <Groups filters={toQuery(filters)} by={group} go={(value) => set({ [group]: value, group: null })} />
          : <List selection={selection} filters={toQuery(filters)} anyFilter={anyFilter} open={(action, ids) => setBulk({ action, target: { ids } })} showAll={() => setParams(new URLSearchParams())} />}
      </Panel>
      <BulkDialog action={bulk?.action ?? null} target={bulk?.target ?? { ids: [] }} onClose={() => setBulk(null)} onDone={() => selection.clear()} />
    </Page>
  );
}
