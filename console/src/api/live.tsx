// One event stream for the whole page. Its events make the queries that they concern old; open tables and pictures follow by themselves.
// A page that nobody looks at gives its connection back after a while and goes on behind the last event when it is seen again.
import { useQueryClient } from "@tanstack/react-query";
import { createContext, useContext, useEffect, useMemo, useRef, useState, type ReactNode } from "react";
import { EventStream, type StreamState } from "./stream";
import type { ApiEvent, NodeList } from "./types";

interface Live {
  state: StreamState;
  retryAt: number | null;
  retryNow: () => void;
  subscribe: (listener: (event: ApiEvent) => void) => () => void;
}
const LiveContext = createContext<Live>({ state: "connecting", retryAt: null, retryNow: () => {}, subscribe: () => () => {} });
export const useLive = () => useContext(LiveContext);

/** Which queries an event makes old. */
export function concerned(event: Pick<ApiEvent, "kind" | "job_id" | "node">): string[][] {
  const keys: string[][] = [];
  if (event.job_id !== null) keys.push(["job", String(event.job_id)], ["jobs"], ["job-counts"], ["queue"], ["plan"], ["cluster"]);
  if (event.kind === "state" || event.kind === "attempt" || event.node !== null || event.kind === "gpu" || event.kind === "service")
    keys.push(["map"], ["nodes"], ["cluster"]);
  if (event.kind === "attempt" || event.kind === "state") keys.push(["projects"], ["queues"], ["usage"]);
  if (event.node !== null) keys.push(["node", event.node]);
  if (event.kind === "fault" || event.kind === "gpu") keys.push(["faults"]);
  return keys;
}

/** How long an answer counts as new although events come: what is large or dear to the server is not asked for with each of them. */
const kRestMs: Record<string, number> = { jobs: 1000, plan: 5000, "job-counts": 5000, map: 2000, nodes: 2000, projects: 3000, queues: 3000, usage: 20_000, faults: 1500, queue: 1000, cluster: 1000 };
/** The list of nodes is 3 kB each: the more there are, the longer it rests. */
const restOf = (key: readonly string[], nodes: number) => (kRestMs[key[0]!] ?? 0) * (key[0] === "nodes" ? Math.min(8, Math.max(1, nodes / 256)) : 1);

const kHiddenMs = 30_000;

export function LiveProvider({ children }: { children: ReactNode }) {
  const queries = useQueryClient();
  const [state, setState] = useState<{ state: StreamState; retryAt: number | null }>({ state: "connecting", retryAt: null });
  const listeners = useRef(new Set<(event: ApiEvent) => void>());
  const stream = useRef<EventStream | null>(null);

  useEffect(() => {
    const old = new Map<string, string[]>();
    const asked = new Map<string, number>();
    let timer: ReturnType<typeof setTimeout> | null = null;
    const flush = () => {
      timer = null;
      const now = performance.now();
      const nodes = queries.getQueryData<NodeList>(["nodes"])?.nodes.length ?? 0;
      for (const [name, key] of old) {
        if (now - (asked.get(key[0]!) ?? -Infinity) < restOf(key, nodes)) continue;
        old.delete(name);
        asked.set(key[0]!, now);
        void queries.invalidateQueries({ queryKey: key });
      }
      if (old.size > 0) timer = setTimeout(flush, 400);
    };
    const mark = (key: string[]) => {
      old.set(key.join("\n"), key);
      timer ??= setTimeout(flush, 400);
    };
    const events = new EventStream({
      url: "/v1/events",
      onData: (data) => {
        const event = data as ApiEvent;
        for (const key of concerned(event)) mark(key);
        for (const listener of listeners.current) listener(event);
      },
      onState: (next, wait) => setState({ state: next, retryAt: wait === null ? null : Date.now() + wait }),
      onHeal: () => void queries.invalidateQueries(),
    });
    stream.current = events;
    events.start();

    let hidden: ReturnType<typeof setTimeout> | null = null;
    const seen = () => {
      if (hidden) clearTimeout(hidden);
      hidden = null;
      if (document.hidden) hidden = setTimeout(() => events.stop("paused"), kHiddenMs);
      else {
        events.start();
        events.retryNow();
      }
    };
    const online = () => events.retryNow();
    document.addEventListener("visibilitychange", seen);
    window.addEventListener("online", online);
    return () => {
      document.removeEventListener("visibilitychange", seen);
      window.removeEventListener("online", online);
      if (hidden) clearTimeout(hidden);
      if (timer) clearTimeout(timer);
      events.stop();
    };
  }, [queries]);

  const value = useMemo<Live>(() => ({
    ...state,
    retryNow: () => stream.current?.retryNow(),
    subscribe: (listener) => {
      listeners.current.add(listener);
      return () => listeners.current.delete(listener);
    },
  }), [state]);
  return <LiveContext.Provider value={value}>{children}</LiveContext.Provider>;
}
