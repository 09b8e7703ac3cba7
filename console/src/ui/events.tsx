// Events of a job as rows of a table.
import { Link } from "react-router";
import type { ApiEvent } from "@/api/types";
import { Cause, Time } from "./bits";
import type { Column } from "./table";

export const kJobEventColumns: Column<ApiEvent>[] = [
  { id: "at", header: "When", enableSorting: false, meta: { width: 130 }, cell: ({ row }) => <Time at={row.original.at} as="clock" seconds /> },
  { id: "kind", header: "Kind", enableSorting: false, meta: { width: 100 }, cell: ({ row }) => row.original.kind },
  { id: "change", header: "Change", enableSorting: false, meta: { width: 190 }, cell: ({ row }) => <>{row.original.from && <>{row.original.from} <span className="faint">→</span> </>}{row.original.to}</> },
  { id: "cause", header: "Cause", enableSorting: false, meta: { width: 100 }, cell: ({ row }) => <Cause cause={row.original.cause} /> },
  { id: "node", header: "Node", enableSorting: false, meta: { width: 110 }, cell: ({ row }) => (row.original.node ? <Link to={`/nodes/${encodeURIComponent(row.original.node)}`}>{row.original.node}</Link> : "") },
  { id: "detail", header: "Detail", enableSorting: false, cell: ({ row }) => <span title={row.original.detail}>{row.original.detail}</span> },
];
