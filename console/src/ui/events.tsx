// Events as rows of a table: of a job, or of everything until some time.
import { Link } from "react-router";
import type { ApiEvent } from "@/api/types";
import { Cause, Time } from "./bits";
import type { Column } from "./table";

export const kEventColumns: Column<ApiEvent>[] = [
  { id: "at", header: "When", enableSorting: false, meta: { width: 130 }, cell: ({ row }) => <Time at={row.original.at} as="clock" seconds /> },
  { id: "what", header: "Of", enableSorting: false, meta: { width: 110 }, cell: ({ row }) => row.original.job_id !== null ? <Link to={`/jobs/${row.original.job_id}?tab=events`}>job {row.original.job_id}</Link> : row.original.node ? <Link to={`/nodes/${encodeURIComponent(row.original.node)}`}>{row.original.node}</Link> : "" },
  { id: "kind", header: "Kind", enableSorting: false, meta: { width: 100 }, cell: ({ row }) => row.original.kind },
  { id: "change", header: "Change", enableSorting: false, meta: { width: 190 }, cell: ({ row }) => <>{row.original.from && <>{row.original.from} <span className="faint">→</span> </>}{row.original.to}</> },
  { id: "cause", header: "Cause", enableSorting: false, meta: { width: 100 }, cell: ({ row }) => <Cause cause={row.original.cause} /> },
  { id: "detail", header: "Detail", enableSorting: false, cell: ({ row }) => <span title={row.original.detail}>{row.original.detail}</span> },
];
/** Of one job: it need not be said of which. */
export const kJobEventColumns: Column<ApiEvent>[] = kEventColumns.map((column) => (column.id === "what" ? { ...column, header: "Node", cell: ({ row }) => (row.original.node ? <Link to={`/nodes/${encodeURIComponent(row.original.node)}`}>{row.original.node}</Link> : "") } : column));
