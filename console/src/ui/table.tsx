// A table of any length: only what is seen is drawn. Real <table> markup, so that screen readers have rows and heads.
// `Table` has all of its rows here and sorts them; `LongTable` takes them from wherever they come, in the order they have there.
// Only rows that are seen become rows of TanStack Table: making 100,000 of them anew with each change would take longer than a key press may.
import { flexRender, getCoreRowModel, useReactTable, type ColumnDef, type Row, type SortingState, type Updater } from "@tanstack/react-table";
import { useVirtualizer } from "@tanstack/react-virtual";
import { ArrowDown, ArrowUp } from "lucide-react";
import { memo, useEffect, useMemo, useRef, useState, useSyncExternalStore, type ReactNode } from "react";
import { Rows } from "@/lib/rows";
import { useRem } from "./rem";
import { useChosen, useIsChosen, type Selection } from "./selection";

declare module "@tanstack/react-table" {
  // eslint-disable-next-line @typescript-eslint/no-unused-vars
  interface ColumnMeta<TData, TValue> {
    num?: boolean;
    width?: number; // px of a usual screen; without it a column takes what is left
    wrap?: boolean;
    wide?: boolean; // only where there is room
  }
}
export type Column<T> = ColumnDef<T, unknown>;
export type { SortingState };

interface Common<T> {
  label: string;
  columns: Column<T>[];
  id: (row: T) => string;
  empty?: ReactNode;
  onEnd?: () => void;
  short?: boolean;
  rowHeight?: number;
  marked?: (row: T) => boolean;
}
export interface TableProps<T> extends Common<T> {
  data: readonly T[];
  sorting?: SortingState;
  onSorting?: (next: SortingState) => void;
}
export interface LongTableProps<T> extends Common<T> {
  rows: Rows<T>;
  total?: number;
  selection?: Selection<T>;
  most?: number; // that can be chosen at one time
  order?: SortingState;
  onOrder?: (next: SortingState) => void; // without it, no column can be sorted by
}
const media = typeof matchMedia === "undefined" ? null : matchMedia("(min-width: 1640px)");
const useRoomy = () => useSyncExternalStore((listener) => {
  media?.addEventListener("change", listener);
  return () => media?.removeEventListener("change", listener);
}, () => media?.matches ?? true);
const apply = <S,>(updater: Updater<S>, old: S): S => (typeof updater === "function" ? (updater as (old: S) => S)(old) : updater);

/** Sorted by one column; equals keep their order. */
export function sortRows<T>(data: readonly T[], sorting: SortingState, columns: readonly Column<T>[]): readonly T[] {
  const by = sorting[0];
  const column = by && columns.find((each) => each.id === by.id);
  if (!by || !column) return data;
  const read = column as { accessorFn?: (row: T, index: number) => unknown; accessorKey?: keyof T };
  const keyed = data.map((row, i) => ({ row, key: (read.accessorFn ? read.accessorFn(row, i) : read.accessorKey !== undefined ? row[read.accessorKey] : null) as string | number | null }));
  const sign = by.desc ? -1 : 1;
  keyed.sort((a, b) => (a.key === b.key ? 0 : a.key === null ? 1 : b.key === null ? -1 : a.key < b.key ? -sign : sign));
  return keyed.map((each) => each.row);
}

interface LineProps<T> { row: Row<T>; index: number; columns: readonly Column<T>[]; marked: boolean | undefined; measure: ((element: HTMLElement | null) => void) | undefined; selection: Selection<T> | undefined }
function LineOf<T>({ row, index, marked, measure, selection }: LineProps<T>) {
  const chosen = useIsChosen(selection, row.id);
  return (
    <tr aria-rowindex={index + 2} data-index={index} ref={measure} aria-selected={selection ? chosen : undefined} data-marked={marked}>
      {selection && <td><input type="checkbox" aria-label={`Select ${row.id}`} checked={chosen} onChange={() => selection.toggle(row.id, row.original)} /></td>}
      {row.getVisibleCells().map((cell) => (
        <td key={cell.id} className={`${cell.column.columnDef.meta?.num ? "num" : ""} ${cell.column.columnDef.meta?.wrap ? "wrap" : ""}`}>
          {flexRender(cell.column.columnDef.cell, cell.getContext())}
        </td>
      ))}
    </tr>
  );
}
const Line = memo(LineOf, (a, b) => a.row.original === b.row.original && a.row.id === b.row.id && a.index === b.index && a.columns === b.columns && a.marked === b.marked && a.measure === b.measure && a.selection === b.selection) as typeof LineOf;

/** The box of the head: all rows that are here, up to `most`. */
function ChooseAll<T>({ selection, rows, id, most }: { selection: Selection<T>; rows: Rows<T>; id: (row: T) => string; most: number }) {
  const chosen = useChosen(selection).size;
  const could = Math.min(rows.length, most);
  const full = chosen > 0 && chosen >= could;
  return <input type="checkbox" aria-label={could < rows.length ? `Select the first ${could} rows` : "Select all rows"} checked={full} ref={(box) => { if (box) box.indeterminate = chosen > 0 && !full; }}
    onChange={() => (full ? selection.clear() : selection.set(new Map(rows.slice(0, could).map((row) => [id(row), row]))))} />;
}

export function Table<T>({ data, columns, sorting, onSorting, ...rest }: TableProps<T>) {
  const [own, setOwn] = useState<SortingState>([]);
  const order = sorting ?? own;
  const rows = useMemo(() => new Rows([sortRows(data, order, columns)]), [data, order, columns]);
  return <LongTable {...rest} columns={columns} rows={rows} order={order} onOrder={onSorting ?? setOwn} />;
}

const kUnsorted: SortingState = [];
export function LongTable<T>({ label, columns, rows: all, id, empty, selection, most = Infinity, order = kUnsorted, onOrder, onEnd, short, rowHeight = 36, total, marked }: LongTableProps<T>) {
  const wrap = useRef<HTMLDivElement>(null);
  const roomy = useRoomy();
  const rem = useRem();
  const shownColumns = useMemo(() => (roomy ? columns : columns.filter((column) => !column.meta?.wide)), [columns, roomy]);
  const virtual = useVirtualizer({ count: all.length, getScrollElement: () => wrap.current, estimateSize: () => rowHeight * rem, overscan: 6, initialRect: { width: 1200, height: 720 }, useFlushSync: false });
  useEffect(() => virtual.measure(), [virtual, rem]);
  const shown = virtual.getVirtualItems();
  const first = shown[0]?.index ?? 0;
  const last = shown.at(-1)?.index ?? -1;
  const seen = useMemo(() => all.slice(first, last + 1), [all, first, last]);
  const table = useReactTable<T>({
    data: seen,
    columns: shownColumns,
    getRowId: id,
    getCoreRowModel: getCoreRowModel(),
    manualSorting: true,
    enableSorting: onOrder !== undefined,
    enableMultiSort: false,
    state: { sorting: order },
    onSortingChange: (next: Updater<SortingState>) => onOrder?.(apply(next, order)),
  });
  const rows = table.getRowModel().rows;
  useEffect(() => {
    if (onEnd && all.length > 0 && last >= all.length - 20) onEnd();
  }, [last, all.length, onEnd]);
  const before = shown[0]?.start ?? 0;
  const after = virtual.getTotalSize() - (shown.at(-1)?.end ?? 0);
  const minWidth = shownColumns.reduce((sum, column) => sum + (column.meta?.width ?? (column.meta?.wrap ? 240 : 160)), selection ? 40 : 0) * rem;
  const span = shownColumns.length + (selection ? 1 : 0);
  const measure = shownColumns.some((column) => column.meta?.wrap) ? virtual.measureElement : undefined;

  if (all.length === 0 && empty) return <>{empty}</>;
  return (
    <div className={`table-wrap ${short ? "short" : ""}`} ref={wrap} tabIndex={0} role="region" aria-label={label}>
      <table className="table" aria-label={label} aria-rowcount={(total ?? all.length) + 1} style={{ minWidth }}>
        <colgroup>{selection && <col style={{ width: 40 * rem }} />}{table.getVisibleLeafColumns().map((column) => <col key={column.id} style={column.columnDef.meta?.width ? { width: column.columnDef.meta.width * rem } : {}} />)}</colgroup>
        <thead>
          {table.getHeaderGroups().map((group) => (
            <tr key={group.id} aria-rowindex={1}>
              {selection && <th scope="col"><ChooseAll selection={selection} rows={all} id={id} most={most} /></th>}
              {group.headers.map((header) => {
                const direction = header.column.getIsSorted();
                const content = flexRender(header.column.columnDef.header, header.getContext());
                return (
                  <th key={header.id} scope="col" className={header.column.columnDef.meta?.num ? "num" : ""} aria-sort={direction === "asc" ? "ascending" : direction === "desc" ? "descending" : undefined}>
                    {header.column.getCanSort() && header.column.columnDef.header
                      ? <button type="button" className="sort" onClick={header.column.getToggleSortingHandler()}>{content}{direction === "asc" && <ArrowUp size={12} aria-hidden />}{direction === "desc" && <ArrowDown size={12} aria-hidden />}</button>
                      : content || <span className="visually-hidden">Change</span>}
                  </th>
                );
              })}
            </tr>
          ))}
        </thead>
        <tbody>
          {before > 0 && <tr className="spacer" aria-hidden="true"><td colSpan={span} style={{ height: before }} /></tr>}
          {rows.map((row, i) => <Line key={row.id} row={row} index={first + i} columns={shownColumns} marked={marked?.(row.original) || undefined} measure={measure} selection={selection} />)}
          {after > 0 && <tr className="spacer" aria-hidden="true"><td colSpan={span} style={{ height: after }} /></tr>}
        </tbody>
      </table>
    </div>
  );
}
