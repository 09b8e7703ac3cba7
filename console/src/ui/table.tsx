// A table of any length: sorted, selected and only drawn where it is seen. Real <table> markup, so that screen readers have rows and heads.
// Only rows that are seen become rows of TanStack Table: making 100,000 of them anew with each change would take longer than a key press may.
import { flexRender, getCoreRowModel, useReactTable, type ColumnDef, type Row, type RowSelectionState, type SortingState, type Updater } from "@tanstack/react-table";
import { useVirtualizer } from "@tanstack/react-virtual";
import { ArrowDown, ArrowUp } from "lucide-react";
import { memo, useEffect, useMemo, useRef, useState, useSyncExternalStore, type ReactNode } from "react";

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

interface LineProps<T> { row: Row<T>; index: number; columns: readonly Column<T>[]; selected: boolean | undefined; marked: boolean | undefined; measure: ((element: HTMLElement | null) => void) | undefined; onSelect: ((id: string) => void) | undefined }
function LineOf<T>({ row, index, selected, marked, measure, onSelect }: LineProps<T>) {
  return (
    <tr aria-rowindex={index + 2} data-index={index} ref={measure} aria-selected={selected} data-marked={marked}>
      {onSelect && <td><input type="checkbox" aria-label={`Select ${row.id}`} checked={selected ?? false} onChange={() => onSelect(row.id)} /></td>}
      {row.getVisibleCells().map((cell) => (
        <td key={cell.id} className={`${cell.column.columnDef.meta?.num ? "num" : ""} ${cell.column.columnDef.meta?.wrap ? "wrap" : ""}`}>
          {flexRender(cell.column.columnDef.cell, cell.getContext())}
        </td>
      ))}
    </tr>
  );
}
const Line = memo(LineOf, (a, b) => a.row.original === b.row.original && a.row.id === b.row.id && a.index === b.index && a.columns === b.columns && a.selected === b.selected && a.marked === b.marked && a.measure === b.measure && a.onSelect === b.onSelect) as typeof LineOf;

export function Table<T>({ label, columns, data, id, empty, selection, onSelection, sorting, onSorting, onEnd, short, rowHeight = 36, total, marked }: TableProps<T>) {
  const wrap = useRef<HTMLDivElement>(null);
  const roomy = useRoomy();
  const all = useMemo(() => (roomy ? columns : columns.filter((column) => !column.meta?.wide)), [columns, roomy]);
  const [own, setOwn] = useState<SortingState>([]);
  const order = sorting ?? own;
  const sorted = useMemo(() => sortRows(data, order, columns), [data, order, columns]);
  const virtual = useVirtualizer({ count: sorted.length, getScrollElement: () => wrap.current, estimateSize: () => rowHeight, overscan: 6, initialRect: { width: 1200, height: 720 } });
  const shown = virtual.getVirtualItems();
  const first = shown[0]?.index ?? 0;
  const last = shown.at(-1)?.index ?? -1;
  const seen = useMemo(() => sorted.slice(first, last + 1), [sorted, first, last]);
  const table = useReactTable<T>({
    data: seen as T[],
    columns: all,
    getRowId: id,
    getCoreRowModel: getCoreRowModel(),
    manualSorting: true,
    enableMultiSort: false,
    state: { sorting: order },
    onSortingChange: (next: Updater<SortingState>) => (onSorting ?? setOwn)(apply(next, order)),
  });
  const rows = table.getRowModel().rows;
  useEffect(() => {
    if (onEnd && sorted.length > 0 && last >= sorted.length - 20) onEnd();
  }, [last, sorted.length, onEnd]);
  const latest = useRef({ selection, onSelection });
  latest.current = { selection, onSelection };
  const [toggle] = useState(() => (row: string) => {
    const { [row]: was, ...rest } = latest.current.selection ?? {};
    latest.current.onSelection?.(was ? rest : { ...rest, [row]: true });
  });
  const chosen = onSelection && selection ? Object.keys(selection).length : 0;
  const before = shown[0]?.start ?? 0;
  const after = virtual.getTotalSize() - (shown.at(-1)?.end ?? 0);
  const minWidth = all.reduce((sum, column) => sum + (column.meta?.width ?? (column.meta?.wrap ? 320 : 160)), onSelection ? 40 : 0);
  const span = all.length + (onSelection ? 1 : 0);
  const measure = all.some((column) => column.meta?.wrap) ? virtual.measureElement : undefined;

  if (data.length === 0 && empty) return <>{empty}</>;
  return (
    <div className={`table-wrap ${short ? "short" : ""}`} ref={wrap} tabIndex={0} role="region" aria-label={label}>
      <table className="table" aria-label={label} aria-rowcount={(total ?? data.length) + 1} style={{ minWidth }}>
        <colgroup>{onSelection && <col style={{ width: 40 }} />}{table.getVisibleLeafColumns().map((column) => <col key={column.id} style={column.columnDef.meta?.width ? { width: column.columnDef.meta.width } : {}} />)}</colgroup>
        <thead>
          {table.getHeaderGroups().map((group) => (
            <tr key={group.id} aria-rowindex={1}>
              {onSelection && <th scope="col"><input type="checkbox" aria-label="Select all rows" checked={chosen > 0 && chosen >= data.length} ref={(box) => { if (box) box.indeterminate = chosen > 0 && chosen < data.length; }} onChange={() => onSelection(chosen >= data.length ? {} : Object.fromEntries(data.map((row) => [id(row), true])))} /></th>}
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
          {rows.map((row, i) => <Line key={row.id} row={row} index={first + i} columns={all} selected={onSelection ? !!selection?.[row.id] : undefined} marked={marked?.(row.original) || undefined} measure={measure} onSelect={onSelection ? toggle : undefined} />)}
          {after > 0 && <tr className="spacer" aria-hidden="true"><td colSpan={span} style={{ height: after }} /></tr>}
        </tbody>
      </table>
    </div>
  );
}
