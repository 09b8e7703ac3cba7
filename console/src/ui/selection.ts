// Which rows are chosen. Outside of React's state, so that a click on one row draws that row and the bar that counts, and not the page.
import { useSyncExternalStore } from "react";

export class Selection<T> {
  private chosen: ReadonlyMap<string, T> = new Map();
  private readonly listeners = new Set<() => void>();
  readonly subscribe = (listener: () => void) => {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  };
  /** A new map with each change. */
  readonly all = () => this.chosen;
  has(id: string) {
    return this.chosen.has(id);
  }
  toggle(id: string, row: T) {
    const next = new Map(this.chosen);
    if (!next.delete(id)) next.set(id, row);
    this.set(next);
  }
  set(next: ReadonlyMap<string, T>) {
    if (next.size === 0 && this.chosen.size === 0) return;
    this.chosen = next;
    for (const listener of this.listeners) listener();
  }
  clear() {
    this.set(new Map());
  }
}
const never = () => () => {};
export const useChosen = <T,>(selection: Selection<T>) => useSyncExternalStore(selection.subscribe, selection.all);
export const useIsChosen = <T,>(selection: Selection<T> | undefined, id: string) => useSyncExternalStore(selection?.subscribe ?? never, () => selection?.has(id) ?? false);
