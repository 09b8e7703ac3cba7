// A table of any length: sorted, selected and only drawn where it is seen. Real <table> markup, so that screen readers have rows and heads.
import { flexRender, getCoreRowModel, getSortedRowModel, useReactTable, type ColumnDef, type RowSelectionState, type SortingState, type Updater } from "@tanstack/react-table";
import { useVirtualizer } from "@tanstack/react-virtual";
import { ArrowDown, ArrowUp } from "lucide-react";
import { useEffect, useMemo, useRef, useSyncExternalStore, type ReactNode } from "react";

declare module "@tanstack/react-table" {
  // eslint-disable-next-line @typescript-eslint/no-unused-vars
  interface ColumnMeta<TData, TValue> {
    num?: boolean;
    width?: number; // px; without it a column takes what is left
    wrap?: boolean;
    wide?: boolean; // only where there is room
  }
}
export type Column<T> = ColumnDef<T, unknown>;

export interface TableProps<T> {
  label: string;
  columns: Column<T>[];
  data: readonly T[];
  id: (row: T) => string;
  empty?: ReactNode;
  selection?: RowSelectionState;
  onSelection?: (next: RowSelectionState) => void;
  sorting?: SortingState;
  onSorting?: (next: SortingState) => void;
  onEnd?: () => void;
  short?: boolean;
  rowHeight?: number;
  total?: number;
  marked?: (row: T) => boolean;
}
const media = typeof matchMedia === "undefined" ? null : matchMedia("(min-width: 1640px)");
const useRoomy = () => useSyncExternalStore((listener) => {
  media?.addEventListener("change", listener);
  return () => media?.removeEventListener("change", listener);
}, () => media?.matches ?? true);
const apply = <S,>(updater: Updater<S>, old: S): S => (typeof updater === "function" ? (updater as (old: S) => S)(old) : updater);

export function Table<T>({ label, columns, data, id, empty, selection, onSelection, sorting, onSorting, onEnd, short, rowHeight = 36, total, marked }: TableProps<T>) {
  const wrap = useRef<HTMLDivElement>(null);
  const roomy = useRoomy();
  const shownColumns = useMemo(() => (roomy ? columns : columns.filter((column) => !column.meta?.wide)), [columns, roomy]);
  const all = useMemo<Column<T>[]>(() => !onSelection ? shownColumns : [{
    id: "select",
    enableSorting: false,
    meta: { width: 40 },
    header: ({ table }) => (
      <input type="checkbox" aria-label="Select all rows" checked={table.getIsAllRowsSelected()}
        ref={(box) => { if (box) box.indeterminate = table.getIsSomeRowsSelected(); }} onChange={table.getToggleAllRowsSelectedHandler()} />
    ),
    cell: ({ row }) => <input type="checkbox" aria-label={`Select ${row.id}`} checked={row.getIsSelected()} onChange={row.getToggleSelectedHandler()} />,
  }, ...shownColumns], [shownColumns, onSelection]);
  const table = useReactTable<T>({
    data: data as T[],
    columns: all,
    getRowId: id,
    getCoreRowModel: getCoreRowModel(),
    getSortedRowModel: getSortedRowModel(),
    enableSorting: !!onSorting || sorting === undefined,
    enableRowSelection: !!onSelection,
    state: { ...(selection ? { rowSelection: selection } : {}), ...(sorting ? { sorting } : {}) },
    ...(onSelection ? { onRowSelectionChange: (next: Updater<RowSelectionState>) => onSelection(apply(next, selection ?? {})) } : {}),
    ...(onSorting ? { onSortingChange: (next: Updater<SortingState>) => onSorting(apply(next, sorting ?? [])) } : {}),
  });
  const rows = table.getRowModel().rows;
  const virtual = useVirtualizer({ count: rows.length, getScrollElement: () => wrap.current, estimateSize: () => rowHeight, overscan: 12, initialRect: { width: 1200, height: 720 } });
  const shown = virtual.getVirtualItems();
  const last = shown.at(-1)?.index ?? -1;
  useEffect(() => {
    if (onEnd && rows.length > 0 && last >= rows.length - 20) onEnd();
  }, [last, rows.length, onEnd]);
  const before = shown[0]?.start ?? 0;
  const after = virtual.getTotalSize() - (shown.at(-1)?.end ?? 0);
  const minWidth = all.reduce((sum, column) => sum + (column.meta?.width ?? (column.meta?.wrap ? 320 : 160)), 0);

  if (rows.length === 0 && empty) return <>{empty}</>;
  return (
    <div className={`table-wrap ${short ? "short" : ""}`} ref={wrap} tabIndex={0} role="region" aria-label={label}>
      <table className="table" aria-label={label} aria-rowcount={(total ?? rows.length) + 1} style={{ minWidth }}>
        <colgroup>{table.getVisibleLeafColumns().map((column) => <col key={column.id} style={column.columnDef.meta?.width ? { width: column.columnDef.meta.width } : {}} />)}</colgroup>
        <thead>
          {table.getHeaderGroups().map((group) => (
            <tr key={group.id} aria-rowindex={1}>
              {group.headers.map((header) => {
                const sorted = header.column.getIsSorted();
                const content = flexRender(header.column.columnDef.header, header.getContext());
                return (
                  <th key={header.id} scope="col" className={header.column.columnDef.meta?.num ? "num" : ""} aria-sort={sorted === "asc" ? "ascending" : sorted === "desc" ? "descending" : undefined}>
                    {header.column.getCanSort() && header.column.columnDef.header && header.id !== "select"
                      ? <button type="button" className="sort" onClick={header.column.getToggleSortingHandler()}>{content}{sorted === "asc" && <ArrowUp size={12} aria-hidden />}{sorted === "desc" && <ArrowDown size={12} aria-hidden />}</button>
                      : content}
                  </th>
                );
              })}
            </tr>
          ))}
        </thead>
        <tbody>
          {before > 0 && <tr className="spacer" aria-hidden="true"><td colSpan={all.length} style={{ height: before }} /></tr>}
          {shown.map((item) => {
            const row = rows[item.index];
            if (!row) return null;
            return (
              <tr key={row.id} aria-rowindex={item.index + 2} data-index={item.index} ref={virtual.measureElement} aria-selected={onSelection ? row.getIsSelected() : undefined} data-marked={marked?.(row.original) || undefined}>
                {row.getVisibleCells().map((cell) => (
                  <td key={cell.id} className={`${cell.column.columnDef.meta?.num ? "num" : ""} ${cell.column.columnDef.meta?.wrap ? "wrap" : ""}`}>
                    {flexRender(cell.column.columnDef.cell, cell.getContext())}
                  </td>
                ))}
              </tr>
            );
          })}
          {after > 0 && <tr className="spacer" aria-hidden="true"><td colSpan={all.length} style={{ height: after }} /></tr>}
        </tbody>
      </table>
    </div>
  );
}
