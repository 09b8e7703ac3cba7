// The list of jobs, newest first, of any length, as the server filters it; and how many there are. States of kept rows follow the events.
import { useQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useState } from "react";
import { Rows, holeBetween, putTogether } from "@/lib/rows";
import { api, ok } from "./client";
import { useLive } from "./live";
import { usePaged } from "./paged";
import type { JobGroups, ListedJob } from "./types";

export type JobFilters = Partial<Record<"state" | "cause" | "project" | "queue" | "user" | "q" | "name" | "since" | "until" | "array", string>>;
export type GroupBy = "state" | "project" | "queue" | "user" | "cause" | "name";
const kPage = 200;

function asQuery(filters: JobFilters) {
  const { array, ...rest } = filters;
  return { ...rest, ...(array ? { array: Number(array) } : {}) };
}
const ask = (filters: JobFilters, token?: string) => ok(api.GET("/v1/jobs", { params: { query: { ...asQuery(filters), page_size: token ? 500 : kPage, ...(token ? { page_token: token } : {}) } } }));
const askCount = (filters: JobFilters, groupBy: GroupBy) => ok(api.GET("/v1/jobs:count", { params: { query: { ...asQuery(filters), group_by: groupBy } } }));

/** Rows with the states that events told since. The same object for the same row and state. */
export function lookedAt(states: ReadonlyMap<number, ListedJob["state"]>): (job: ListedJob) => ListedJob {
  const made = new WeakMap<ListedJob, ListedJob>();
  return (job) => {
    const state = states.get(job.id);
    if (!state || state === job.state) return job;
    let out = made.get(job);
    if (!out) made.set(job, (out = { ...job, state }));
    return out;
  };
}

export function useJobList(filters: JobFilters) {
  const paged = usePaged(["jobs", "head", filters], ["jobs-kept", filters], (token) => ask(filters, token), { head: 15_000, kept: false });
  const { head, anchor, pages, restart } = paged;
  const [states, setStates] = useState<ReadonlyMap<number, ListedJob["state"]>>(new Map());
  const { subscribe } = useLive();
  const keeps = anchor !== null;
  useEffect(() => {
    if (!keeps) return;
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
  }, [subscribe, keeps]);
  const jobs = head.data?.jobs;
  const hole = !!jobs && !!anchor && holeBetween(jobs, anchor.jobs);
  useEffect(() => { if (hole) restart(); }, [hole]); // eslint-disable-line react-hooks/exhaustive-deps
  const rows = useMemo(() => {
    const kept = anchor && !hole ? [anchor.jobs, ...(pages?.map((page) => page.jobs) ?? [])] : [];
    const [first, ...rest] = putTogether(jobs ?? [], kept);
    // What is live needs no event; what is kept does.
    const look = lookedAt(states);
    const live = new Set(first);
    return new Rows([first!, ...rest], (job) => (live.has(job) ? job : look(job)));
  }, [jobs, anchor, pages, states, hole]);
  return { ...paged, rows };
}

/** Jobs in groups; asked for again at leisure, as it is a sum over all of them. */
export const useJobCount = (filters: JobFilters, groupBy: GroupBy) => useQuery({
  queryKey: ["job-counts", groupBy, filters],
  queryFn: () => askCount(filters, groupBy),
  refetchInterval: 30_000,
});

export interface Group {
  key: string;
  jobs: number;
  gpus: number; // that active ones hold
  pending: number;
  active: number;
  failed: number;
}
/** Four counts of the same groups as one table, most jobs first. */
export function joinGroups(all: JobGroups["groups"], pending: JobGroups["groups"], active: JobGroups["groups"], failed: JobGroups["groups"]): Group[] {
  const of = (groups: JobGroups["groups"]) => new Map(groups.map((group) => [group.key, group]));
  const [waits, runs, fails] = [of(pending), of(active), of(failed)];
  return all.map(({ key, jobs }) => ({ key, jobs, gpus: runs.get(key)?.gpus ?? 0, pending: waits.get(key)?.jobs ?? 0, active: runs.get(key)?.jobs ?? 0, failed: fails.get(key)?.jobs ?? 0 }));
}
export const useJobGroups = (filters: JobFilters, groupBy: GroupBy) => useQuery({
  queryKey: ["job-counts", "groups", groupBy, filters],
  queryFn: async () => {
    const counts = await Promise.all([filters, ...(filters.state ? [] : (["pending", "active", "failed"] as const).map((state) => ({ ...filters, state })))].map((each) => askCount(each, groupBy)));
    const [all, pending, active, failed] = counts;
    return { groups: joinGroups(all!.groups, pending?.groups ?? [], active?.groups ?? [], failed?.groups ?? []), cut: counts.some((count) => count.cut), parted: !filters.state };
  },
  refetchInterval: 30_000,
});
