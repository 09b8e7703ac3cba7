// One clock for all ages on a page: a tick a second, not a timer per cell.
import { useSyncExternalStore } from "react";

let now = Date.now();
let timer: ReturnType<typeof setInterval> | null = null;
const listeners = new Set<() => void>();

function subscribe(listener: () => void) {
  listeners.add(listener);
  timer ??= setInterval(() => {
    now = Date.now();
    for (const each of listeners) each();
  }, 1000);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0 && timer) {
      clearInterval(timer);
      timer = null;
    }
  };
}
const get = () => {
  if (Date.now() - now > 1500) now = Date.now();
  return now;
};
export const useNow = () => useSyncExternalStore(subscribe, get);
/** What `say` makes of the time. Who asks is drawn anew only when that is another word: most ages change once a minute. */
export const useSaid = (say: (now: number) => string): string => useSyncExternalStore(subscribe, () => say(get()));
