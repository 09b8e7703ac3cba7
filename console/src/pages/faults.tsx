import { useInfiniteQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useState } from "react";
import { Link, useSearchParams } from "react-router";
import { api, ok } from "@/api/client";
import { useFaultSummary, type FaultFilter } from "@/api/queries";
import type { Fault } from "@/api/types";
import type { FaultMore } from "@/api/wanted";
import { Button, Chip, Empty, Loaded, Page, Panel, Time } from "@/ui/bits";
import { Table, type Column } from "@/ui/table";
import { Text } from "@/ui/text";
import { count, gpuHours, percent, plural } from "@/lib/format";
import { pareto } from "@/lib/summary";
import { addressNow, readFilters, toQuery, withFilters } from "@/lib/url";

type Row = Fault & FaultMore;
const kFields = ["node", "job", "gpu", "class", "action", "since"] as const;
const kSince = [["24h", "24 h"], ["7d", "7 days"], ["30d", "30 days"]] as const;
const kPage = 500;
type By = "node" | "class" | "gpu" | "action";
const kColumns: Column<Row>[] = [
  { id: "at", header: "When", accessorKey: "at", meta: { width: 128 }, cell: ({ row }) => <Time at={row.original.at} as="clock" seconds /> },
  { id: "node", header: "Node", accessorKey: "node", meta: { width: 110 }, cell: ({ row }) => <Link to={`/nodes/${encodeURIComponent(row.original.node)}`}>{row.original.node}</Link> },
  { id: "gpu", header: "GPU", accessorFn: (fault) => fault.gpu_uuid ?? "", meta: { width: 120 }, cell: ({ row }) => row.original.gpu_uuid ? <span className="mono" title={`${row.original.gpu_uuid}\nat ${row.original.slot}`}>{row.original.gpu_uuid.replace(/^GPU-/, "").slice(0, 8)}</span> : <span className="faint">–</span> },
  { id: "class", header: "Class", accessorKey: "class", meta: { width: 170 }, cell: ({ row }) => <><Chip title={row.original.rule}>{row.original.class.replaceAll("_", " ")}</Chip>{row.original.xid ? <span className="faint"> Xid {row.original.xid}</span> : null}</> },
  { id: "job", header: "Job hit", accessorFn: (fault) => fault.job_id ?? 0, meta: { width: 86 }, cell: ({ row }) => row.original.job_id !== null ? <Link to={`/jobs/${row.original.job_id}?tab=evidence`}>{row.original.job_id}</Link> : <span className="faint">–</span> },
  { id: "lost", header: "GPU h lost", accessorFn: (fault) => fault.lost_gpu_seconds ?? -1, meta: { width: 92, num: true, wide: true }, cell: ({ row }) => row.original.lost_gpu_seconds === undefined ? <span className="faint" title="not recorded by this server">–</span> : gpuHours(row.original.lost_gpu_seconds) },
  { id: "action", header: "Action taken", accessorKey: "action", meta: { width: 150 } },
  { id: "blame", header: "Speaks against", accessorKey: "shared_by", meta: { width: 120, wide: true }, cell: ({ row }) => row.original.shared_by === 0 ? "nobody" : row.original.shared_by === 1 ? "this one" : `one of ${row.original.shared_by}` },
  { id: "detail", header: "Evidence", accessorKey: "detail", cell: ({ row }) => <span title={row.original.detail}>{row.original.detail}</span> },
];

const kBars = 12;
const wordOf = (by: By, key: string) => (key === "" ? `no ${by}` : by === "gpu" ? key.replace(/^GPU-/, "").slice(0, 8) : key.replaceAll("_", " "));
/** The few that make most of it. Sums are the server's, over all that match. */
function Pareto({ choices, filter, go }: { choices: readonly By[]; filter: FaultFilter; go: (by: By, key: string) => void }) {
  const [by, setBy] = useState(choices[0]!);
  const summary = useFaultSummary(by, filter);
  const rows = useMemo(() => (summary.data ? pareto(summary.data) : []), [summary.data]);
  const most = Math.max(1, rows[0]?.faults ?? 0);
  return (
    <Panel title={`By ${by === "gpu" ? "GPU" : by}`} flush actions={<div className="segmented" role="group" aria-label="What makes a row">{choices.map((each) => <Button key={each} small aria-pressed={by === each} onClick={() => setBy(each)}>{each === "gpu" ? "GPU" : each}</Button>)}</div>}>
      <Loaded query={summary} rows={4}>{() => rows.length === 0 ? <Empty title="None" /> : (
        <div className="table-wrap short" tabIndex={0} role="region" aria-label={`Faults by ${by}`}><table className="bar-table"><thead><tr><th scope="col">{capital(by === "gpu" ? "GPU" : by)}</th><th scope="col" className="num">Faults</th><th scope="col"><span className="visually-hidden">As a bar</span></th><th scope="col" className="num">Running share</th><th scope="col" className="num">Jobs hit</th></tr></thead>
          <tbody>{rows.slice(0, kBars).map((row) => <tr key={row.key}><td className="clip">{row.key ? <Button kind="quiet" small title={row.key} onClick={() => go(by, row.key)}>{wordOf(by, row.key)}</Button> : <span className="faint">{wordOf(by, row.key)}</span>}</td><td className="num">{count(row.faults)}</td><td className="pareto"><span style={{ width: `${(row.faults / most) * 100}%` }} /></td><td className="num">{percent(row.share)}</td><td className="num">{count(row.jobs)}</td></tr>)}</tbody></table></div>
      )}</Loaded>
      {rows.length > kBars && <p className="table-foot">and {count(rows.length - kBars)} more</p>}
    </Panel>
  );
}
const capital = (text: string) => text[0]!.toUpperCase() + text.slice(1);

export default function Faults() {
  useEffect(() => { document.title = "Faults · Tutti"; }, []);
  const [params, setParams] = useSearchParams();
  const filters = readFilters(params, kFields);
  const set = (change: Record<string, string | null>) => setParams(withFilters(addressNow(), change), { replace: true });
  const { job, ...texts } = filters;
  const filter = useMemo<FaultFilter>(() => ({ ...toQuery(texts), ...(/^\d+$/.test(job) ? { job: Number(job) } : {}) }), [params]); // eslint-disable-line react-hooks/exhaustive-deps
  const pages = useInfiniteQuery({
    queryKey: ["faults", "ledger", filter],
    queryFn: ({ pageParam }) => ok(api.GET("/v1/faults", { params: { query: { limit: kPage, ...filter, ...(pageParam ? { before: pageParam } : {}) } } })),
    initialPageParam: 0,
    getNextPageParam: (last) => (last.faults.length === kPage ? last.faults.at(-1)!.id : undefined),
    refetchInterval: (query) => ((query.state.data?.pages.length ?? 0) > 1 ? false : 60_000),
  });
  const rows = useMemo(() => pages.data?.pages.flatMap((page) => page.faults) ?? [], [pages.data]);
  // Sums look 30 days back where no time is chosen; the ledger has all there is.
  const classes = useFaultSummary("class", {});
  const actions = useFaultSummary("action", {});
  const total = useFaultSummary("class", filter);
  const anyFilter = Object.values(filters).some(Boolean);
  const known = (summary: typeof classes, chosen: string) => [...new Set([...(summary.data?.rows.map((row) => row.key) ?? []), ...(chosen ? [chosen] : [])])].filter(Boolean).sort().map((key) => <option key={key} value={key}>{key.replaceAll("_", " ")}</option>);
  return (
    <Page title="Faults" sub={total.data ? `${plural(total.data.total.faults, "fault")} ${filters.since ? `in the last ${kSince.find(([value]) => value === filters.since)?.[1] ?? filters.since}` : "in the last 30 days"}${anyFilter ? " that match" : ""}, ${plural(total.data.total.jobs_hit, "job")} hit` : undefined}>
      <div className="stack">
        {(total.data?.total.faults ?? 0) > 0 && <div className="cols-2"><Pareto choices={["node", "gpu"]} filter={filter} go={(by, key) => set({ [by]: key })} /><Pareto choices={["class", "action"]} filter={filter} go={(by, key) => set({ [by]: key })} /></div>}
        <Panel title="Ledger" flush>
          <div className="filters" role="search" aria-label="Filter faults">
            <Text label="Node" value={filters.node} onValue={(node) => set({ node })} /><Text label="Job" value={filters.job} onValue={(value) => set({ job: value })} /><Text label="GPU UUID" value={filters.gpu} onValue={(gpu) => set({ gpu })} />
            <select aria-label="Class" value={filters.class} onChange={(event) => set({ class: event.target.value })}><option value="">Any class</option>{known(classes, filters.class)}</select>
            <select aria-label="Action" value={filters.action} onChange={(event) => set({ action: event.target.value })}><option value="">Any action</option>{known(actions, filters.action)}</select>
            <select aria-label="Since" value={filters.since} onChange={(event) => set({ since: event.target.value })}><option value="">Any time</option>{kSince.map(([value, label]) => <option key={value} value={value}>Last {label}</option>)}</select>
            {anyFilter && <Button small kind="quiet" onClick={() => setParams(new URLSearchParams())}>Clear</Button>}
          </div>
          <Loaded query={pages} rows={8}>{() => <Table label="Faults" columns={kColumns} data={rows} id={(fault) => String(fault.id)} onEnd={() => { if (pages.hasNextPage && !pages.isFetchingNextPage) void pages.fetchNextPage(); }} empty={<Empty title={anyFilter ? "No fault matches" : "No fault so far"}>{!anyFilter && "What GPUs, nodes and links do wrong is written down here, with what was done about it."}</Empty>} />}</Loaded>
          {pages.hasNextPage && <div className="table-foot"><span>{count(rows.length)} loaded; a column sorts these</span><span>{pages.isFetchingNextPage ? "Loading more" : "Scroll for more"}</span></div>}
        </Panel>
      </div>
    </Page>
  );
}
