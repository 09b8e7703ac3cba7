import { useInfiniteQuery } from "@tanstack/react-query";
import { useEffect, useMemo } from "react";
import { Link, useSearchParams } from "react-router";
import { api, ok } from "@/api/client";
import type { Fault } from "@/api/types";
import type { FaultMore } from "@/api/wanted";
import { Button, Chip, Empty, Loaded, Page, Panel, Time } from "@/ui/bits";
import { Table, type Column } from "@/ui/table";
import { count, gpuHours, percent, plural } from "@/lib/format";
import { pareto, type ParetoRow } from "@/lib/summary";
import { addressNow, readFilters, withFilters } from "@/lib/url";
import { Text } from "./jobs";

type Row = Fault & FaultMore;
const kFields = ["node", "job", "class", "since"] as const;
const kColumns: Column<Row>[] = [
  { id: "at", header: "When", accessorKey: "at", meta: { width: 128 }, cell: ({ row }) => <Time at={row.original.at} as="clock" seconds /> },
  { id: "node", header: "Node", accessorKey: "node", meta: { width: 110 }, cell: ({ row }) => <Link to={`/nodes/${encodeURIComponent(row.original.node)}`}>{row.original.node}</Link> },
  { id: "gpu", header: "GPU", accessorFn: (fault) => fault.gpu_uuid ?? "", meta: { width: 120 }, cell: ({ row }) => row.original.gpu_uuid ? <span className="mono" title={`${row.original.gpu_uuid}\nat ${row.original.slot}`}>{row.original.gpu_uuid.replace(/^GPU-/, "").slice(0, 8)}</span> : <span className="faint">–</span> },
  { id: "class", header: "Class", accessorKey: "class", meta: { width: 170 }, cell: ({ row }) => <><Chip title={row.original.rule}>{row.original.class.replaceAll("_", " ")}</Chip>{row.original.xid ? <span className="faint"> Xid {row.original.xid}</span> : null}</> },
  { id: "job", header: "Job hit", accessorFn: (fault) => fault.job_id ?? 0, meta: { width: 86 }, cell: ({ row }) => row.original.job_id !== null ? <Link to={`/jobs/${row.original.job_id}?tab=evidence`}>{row.original.job_id}</Link> : <span className="faint">–</span> },
  { id: "lost", header: "GPU h lost", accessorFn: (fault) => fault.lost_gpu_seconds ?? -1, meta: { width: 92, num: true }, cell: ({ row }) => row.original.lost_gpu_seconds === undefined ? <span className="faint" title="not recorded by this server">–</span> : gpuHours(row.original.lost_gpu_seconds) },
  { id: "action", header: "Action taken", accessorKey: "action", meta: { width: 150 } },
  { id: "blame", header: "Speaks against", accessorKey: "shared_by", meta: { width: 128 }, cell: ({ row }) => row.original.shared_by === 0 ? "nobody" : row.original.shared_by === 1 ? "this one" : `one of ${row.original.shared_by}` },
  { id: "detail", header: "Evidence", accessorKey: "detail", cell: ({ row }) => <span title={row.original.detail}>{row.original.detail}</span> },
];

function Pareto({ title, rows, go }: { title: string; rows: ParetoRow[]; go: (key: string) => void }) {
  const most = Math.max(1, ...rows.map((row) => row.faults));
  return (
    <Panel title={title} flush>
      <div className="table-wrap short" tabIndex={0} role="region" aria-label="Table"><table><thead><tr><th scope="col">{title.slice(3)}</th><th scope="col" className="num">Faults</th><th scope="col"><span className="visually-hidden">As a bar</span></th><th scope="col" className="num">Running share</th><th scope="col" className="num">Jobs</th></tr></thead>
        <tbody>{rows.slice(0, 12).map((row) => <tr key={row.key}><td><Button kind="quiet" small onClick={() => go(row.key)}>{row.key.replaceAll("_", " ")}</Button></td><td className="num">{count(row.faults)}</td><td className="pareto"><span style={{ width: `${(row.faults / most) * 100}%` }} /></td><td className="num">{percent(row.share)}</td><td className="num">{count(row.jobs)}</td></tr>)}</tbody></table></div>
      {rows.length > 12 && <p className="table-foot">and {rows.length - 12} more</p>}
    </Panel>
  );
}

export default function Faults() {
  useEffect(() => { document.title = "Faults · Tutti"; }, []);
  const [params, setParams] = useSearchParams();
  const filters = readFilters(params, kFields);
  const set = (change: Record<string, string | null>) => setParams(withFilters(addressNow(), change), { replace: true });
  const job = /^\d+$/.test(filters.job) ? Number(filters.job) : undefined;
  const pages = useInfiniteQuery({
    queryKey: ["faults", "ledger", filters.node, job],
    queryFn: ({ pageParam }) => ok(api.GET("/v1/faults", { params: { query: { limit: 1000, ...(filters.node ? { node: filters.node } : {}), ...(job !== undefined ? { job } : {}), ...(pageParam ? { before: pageParam } : {}) } } })),
    initialPageParam: 0,
    getNextPageParam: (last) => (last.faults.length === 1000 ? last.faults.at(-1)!.id : undefined),
    refetchInterval: (query) => ((query.state.data?.pages.length ?? 0) > 1 ? false : 60_000),
  });
  const all = useMemo(() => pages.data?.pages.flatMap((page) => page.faults) ?? [], [pages.data]);
  const hours = { "24h": 24, "7d": 168, "30d": 720 }[filters.since] ?? null;
  const rows = useMemo(() => {
    const after = hours === null ? 0 : Date.now() - hours * 3_600_000;
    return all.filter((fault) => (!filters.class || fault.class === filters.class) && Date.parse(fault.at) >= after);
  }, [all, filters.class, hours]);
  const byNode = useMemo(() => pareto(rows, (fault) => fault.node), [rows]);
  const byClass = useMemo(() => pareto(rows, (fault) => fault.class), [rows]);
  const anyFilter = Object.values(filters).some(Boolean);
  return (
    <Page title="Faults" sub={pages.data ? `${plural(rows.length, "fault")}${pages.hasNextPage ? ", older ones not loaded" : ""}` : undefined}>
      <div className="stack">
        {rows.length > 0 && <div className="cols-2"><Pareto title="By node" rows={byNode} go={(node) => set({ node })} /><Pareto title="By class" rows={byClass} go={(kind) => set({ class: kind })} /></div>}
        <Panel title="Ledger" flush>
          <div className="filters" role="search" aria-label="Filter faults">
            <Text label="Node" value={filters.node} onValue={(node) => set({ node })} /><Text label="Job" value={filters.job} onValue={(value) => set({ job: value })} />
            <select aria-label="Class" value={filters.class} onChange={(event) => set({ class: event.target.value })}><option value="">Any class</option>{[...new Set([...all.map((fault) => fault.class), ...(filters.class ? [filters.class] : [])])].sort().map((kind) => <option key={kind}>{kind}</option>)}</select>
            <select aria-label="Since" value={filters.since} onChange={(event) => set({ since: event.target.value })}>{[["", "Any time"], ["24h", "Last 24 h"], ["7d", "Last 7 days"], ["30d", "Last 30 days"]].map(([value, label]) => <option key={value} value={value}>{label}</option>)}</select>
            {anyFilter && <Button small kind="quiet" onClick={() => setParams(new URLSearchParams())}>Clear</Button>}
          </div>
          <Loaded query={pages} rows={8}>{() => <Table label="Faults" columns={kColumns} data={rows} id={(fault) => String(fault.id)} empty={<Empty title={anyFilter ? "No fault matches" : "No fault so far"}>{!anyFilter && "What GPUs, nodes and links do wrong is written down here, with what was done about it."}</Empty>} />}</Loaded>
          {pages.hasNextPage && <div className="table-foot"><Button small onClick={() => void pages.fetchNextPage()} disabled={pages.isFetchingNextPage}>Older faults</Button></div>}
        </Panel>
      </div>
    </Page>
  );
}
