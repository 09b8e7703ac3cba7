// The list of jobs, newest first, of any length. Its first page is live; what lies behind is fetched as one scrolls and then kept, since asking
// again for two hundred pages with each event would help nobody. States of kept rows follow the event stream.
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useState } from "react";
import { api, ok } from "./client";
import { useLive } from "./live";
import type { ListedJob } from "./types";

export type JobFilters = Partial<Record<"state" | "project" | "queue" | "user" | "name" | "since" | "array", string>>;
const kPage = 200;

function ask(filters: JobFilters, token?: string) {
  const { array, ...rest } = filters;
  return ok(api.GET("/v1/jobs", { params: { query: { ...rest, ...(array ? { array: Number(array) } : {}), page_size: token ? 500 : kPage, ...(token ? { page_token: token } : {}) } } }));
}

/** Rows of the live page, and behind them those of the kept pages; a row is there once. Pure. */
export function mergeRows(head: readonly ListedJob[], kept: readonly ListedJob[], states: ReadonlyMap<number, ListedJob["state"]>): ListedJob[] {
  const least = head.at(-1)?.id ?? Infinity;
  const seen = new Set(head.map((job) => job.id));
  const rest = kept.filter((job) => job.id < least && !seen.has(job.id)).map((job) => {
    const state = states.get(job.id);
    return state && state !== job.state ? { ...job, state } : job;
  });
  return [...head, ...rest];
}

export function useJobList(filters: JobFilters) {
  const key = JSON.stringify(filters);
  const head = useQuery({ queryKey: ["jobs", "head", filters], queryFn: () => ask(filters), refetchInterval: 15_000 });
  // Behind the first page as it was when one scrolled beyond it for the first time.
  const [anchor, setAnchor] = useState<{ key: string; token: string; rows: ListedJob[] } | null>(null);
  const mine = anchor?.key === key ? anchor : null;
  const more = useInfiniteQuery({
    queryKey: ["jobs-kept", filters, mine?.token],
    queryFn: ({ pageParam }) => ask(filters, pageParam),
    initialPageParam: mine?.token ?? "",
    getNextPageParam: (last) => last.next_page_token || undefined,
    enabled: mine !== null,
    staleTime: Infinity,
    refetchOnWindowFocus: false,
    refetchOnReconnect: false,
    placeholderData: undefined,
  });
  const [states, setStates] = useState<ReadonlyMap<number, ListedJob["state"]>>(new Map());
  const { subscribe } = useLive();
  useEffect(() => {
    if (!mine) return;
    const fresh = new Map<number, ListedJob["state"]>();
    let timer: ReturnType<typeof setTimeout> | null = null;
    const stop = subscribe((event) => {
      if (event.kind !== "state" || event.job_id === null) return;
      fresh.set(event.job_id, event.to as ListedJob["state"]);
      timer ??= setTimeout(() => {
        timer = null;
        setStates(new Map(fresh));
      }, 1000);
    });
    return () => {
      stop();
      if (timer) clearTimeout(timer);
    };
  }, [subscribe, mine]);
  const rows = useMemo(() => mergeRows(head.data?.jobs ?? [], [...(mine?.rows ?? []), ...(more.data?.pages.flatMap((page) => page.jobs) ?? [])], states), [head.data, mine, more.data, states]);
  const hasMore = mine ? more.hasNextPage || more.isPending : !!head.data?.next_page_token;
  const fetchMore = () => {
    if (head.isPlaceholderData) return;
    if (!mine) {
      if (head.data?.next_page_token) setAnchor({ key, token: head.data.next_page_token, rows: head.data.jobs });
    } else if (more.hasNextPage && !more.isFetchingNextPage) void more.fetchNextPage();
  };
  return { rows, head, hasMore, fetching: more.isFetching, error: more.error, fetchMore };
}
