import { useEffect, useMemo, useState } from "react";
import { Link, useSearchParams } from "react-router";
import { useMay, useNodes } from "@/api/queries";
import type { Node } from "@/api/types";
import { NodeActions } from "@/ui/node-actions";
import { Chip, Empty, Loaded, Meter, Page, Panel, State, Time } from "@/ui/bits";
import { Table, type Column, type SortingState } from "@/ui/table";
import { Text } from "@/ui/text";
import { byName, bytes, count, percent, plural } from "@/lib/format";
import { addressNow, readFilters, withFilters } from "@/lib/url";

const kFields = ["state", "service", "queue", "find"] as const;
const kLook: Record<string, string> = { free: "", allocated: "allocated", dirty: "dirty", quarantined: "quarantined", absent: "absent" };

export function GpuStrip({ node }: { node: Node }) {
  const text = Object.entries(node.gpus.reduce<Record<string, number>>((sum, gpu) => ({ ...sum, [gpu.state]: (sum[gpu.state] ?? 0) + 1 }), {})).map(([state, n]) => `${n} ${state}`).join(", ");
  return <span className="strip" role="img" aria-label={text || "no GPU"} title={text}>{node.gpus.map((gpu) => <i key={gpu.index} className={`swatch ${kLook[gpu.state] || "free"}`} />)}</span>;
}

export default function Nodes() {
  useEffect(() => { document.title = "Nodes · Tutti"; }, []);
  const nodes = useNodes();
  const may = useMay();
  const [params, setParams] = useSearchParams();
  const filters = readFilters(params, kFields);
  const [sorting, setSorting] = useState<SortingState>([]);
  const set = (change: Record<string, string | null>) => setParams(withFilters(addressNow(), change), { replace: true });
  const all = nodes.data?.nodes;
  const rows = useMemo(() => [...(all ?? [])]
    .filter((node) => (!filters.state || node.state === filters.state) && (!filters.service || node.service === filters.service) && (!filters.queue || node.queue === filters.queue) &&
      (!filters.find || `${node.name} ${node.driver} ${Object.entries(node.labels).map(([k, v]) => `${k}=${v}`).join(" ")}`.toLowerCase().includes(filters.find.toLowerCase())))
    .sort((a, b) => byName(a.name, b.name)), [all, filters.state, filters.service, filters.queue, filters.find]);
  const values = (of: (node: Node) => string) => [...new Set((all ?? []).map(of))].sort();
  const operate = may("operate-nodes");
  const columns = useMemo<Column<Node>[]>(() => [
    { id: "name", header: "Node", accessorKey: "name", meta: { width: 130 }, cell: ({ row }) => <Link to={`/nodes/${encodeURIComponent(row.original.name)}`} className="plain-link" title={row.original.name}>{row.original.name}</Link> },
    { id: "state", header: "State", accessorKey: "state", meta: { width: 116 }, cell: ({ row }) => <State state={row.original.state} /> },
    { id: "service", header: "Service", accessorKey: "service", meta: { width: 124 }, cell: ({ row }) => <State state={row.original.service} title={row.original.service_reason} /> },
    { id: "gpus", header: "GPUs", accessorFn: (node) => node.gpus.filter((gpu) => gpu.state === "allocated").length / Math.max(1, node.gpus.length), meta: { width: 172 }, cell: ({ row }) => <span className="row"><GpuStrip node={row.original} /><span className="faint">{row.original.gpus.filter((gpu) => gpu.state === "allocated").length}/{row.original.gpus.length}</span></span> },
    { id: "suspicion", header: "Suspicion", accessorKey: "suspicion", meta: { width: 88 }, cell: ({ row }) => <Meter value={row.original.suspicion} max={0.9} label={`suspicion ${row.original.suspicion} of 0.9: how late it is taken`} tone={row.original.suspicion > 0.5 ? "bad" : row.original.suspicion > 0.2 ? "warn" : "neutral"} /> },
    { id: "model", header: "Model", accessorFn: (node) => node.gpus[0]?.model ?? "", meta: { width: 132 }, cell: ({ row }) => <span title={`${row.original.gpus[0]?.model ?? "no GPU"}${row.original.simulated_gpus ? ", simulated" : ""}`}>{row.original.gpus[0]?.model.replace(/^NVIDIA /, "") ?? "no GPU"}</span> },
    { id: "cpus", header: "CPUs used", accessorKey: "cpus_used", meta: { width: 92, num: true, wide: true }, cell: ({ row }) => `${row.original.cpus_used}/${row.original.cpus}` },
    { id: "memory", header: "Memory", accessorKey: "memory_bytes", meta: { width: 96, num: true, wide: true }, cell: ({ row }) => bytes(row.original.memory_bytes) },
    { id: "queue", header: "Queue", accessorKey: "queue", meta: { width: 90, wide: true } },
    { id: "since", header: "Since", accessorFn: (node) => node.service_at ?? node.state_at ?? "", meta: { width: 110, num: true }, cell: ({ row }) => <Time at={row.original.service_at ?? row.original.state_at} /> },
    { id: "why", header: "Why, and what is wrong", enableSorting: false, cell: ({ row }) => <span title={[row.original.service_reason, ...row.original.conditions.map((each) => each.detail)].join("\n")}>{row.original.conditions.map((each) => <Chip key={each.kind + each.subject} tone={each.effect === "watch" ? "neutral" : "warn"}>{each.kind.replaceAll("_", " ")}</Chip>)} {row.original.service_reason}</span> },
    ...(operate ? [{ id: "act", header: "", enableSorting: false, meta: { width: 64 }, cell: ({ row }: { row: { original: Node } }) => <NodeActions node={row.original} menu /> }] : []),
  ], [operate]);
  const count_ = (test: (node: Node) => boolean) => (all ?? []).filter(test).length;
  const anyFilter = Object.values(filters).some(Boolean);
  return (
    <Page title="Nodes" sub={all ? `${plural(all.length, "node")}, ${count(count_((node) => node.state === "reachable" && ["schedulable", "probation"].includes(node.service)))} take work, ${percent(all.length ? count_((node) => node.jobs.length > 0) / all.length : 0)} have some` : undefined}>
      <Panel flush>
        <div className="filters" role="search" aria-label="Filter nodes">
          <Text label="Name or label" value={filters.find} onValue={(value) => set({ find: value })} />
          {([["state", "Any state", (node: Node) => node.state], ["service", "Any service", (node: Node) => node.service], ["queue", "Any queue", (node: Node) => node.queue]] as const).map(([field, label, of]) => <select key={field} aria-label={label.slice(4)} value={filters[field]} onChange={(event) => set({ [field]: event.target.value })}><option value="">{label}</option>{[...new Set([...values(of), ...(filters[field] ? [filters[field]] : [])])].map((value) => <option key={value}>{value}</option>)}</select>)}
        </div>
        <Loaded query={nodes} rows={8}>{() => <Table label="Nodes" columns={columns} data={rows} id={(node) => node.name} sorting={sorting} onSorting={setSorting} {...(operate ? { rowHeight: 39 } : {})}
          empty={anyFilter ? <Empty title="No node matches" /> : <Empty title="No node has joined yet">An admin makes a join token with <code>tutti join-token create</code>; each machine uses it once.</Empty>} />}</Loaded>
      </Panel>
    </Page>
  );
}
