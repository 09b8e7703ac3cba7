// What the pages ask for. Keys begin with the word that live.tsx makes old.
import { QueryClient, keepPreviousData, useQuery } from "@tanstack/react-query";
import { may, type About, type Act } from "@/lib/permissions";
import { ApiError, api, ok } from "./client";
import { usePaged } from "./paged";
import type { ClusterMap } from "./types";

export function makeQueryClient() {
  return new QueryClient({
    defaultOptions: {
      queries: {
        staleTime: 2000,
        placeholderData: keepPreviousData,
        // A server that is away is asked again; one that says no is not.
        retry: (failures, error) => failures < 3 && (!(error instanceof ApiError) || error.status === 0 || error.status >= 500 || error.status === 429),
        retryDelay: (failures) => Math.min(8000, 400 * 2 ** failures),
        refetchOnWindowFocus: true,
      },
      mutations: { retry: false },
    },
  });
}

/** Routes that speak JSON and something else, asked for JSON. */
const data = <T>(answer: T) => answer as Exclude<T, string>;

export const useMe = () => useQuery({ queryKey: ["me"], queryFn: () => ok(api.GET("/v1/me")), staleTime: 60_000, refetchInterval: 300_000 });
/** May the one who looks at this page do that? */
export function useMay() {
  const { data } = useMe();
  return (act: Act, about?: About) => may(data, act, about);
}

export const useCluster = () => useQuery({ queryKey: ["cluster"], queryFn: () => ok(api.GET("/v1/cluster")), refetchInterval: 10_000 });
export const useNodes = () => useQuery({ queryKey: ["nodes"], queryFn: () => ok(api.GET("/v1/nodes")), refetchInterval: 30_000 });
export const useNode = (name: string) => useQuery({ queryKey: ["node", name], queryFn: () => ok(api.GET("/v1/nodes/{name}", { params: { path: { name } } })), placeholderData: undefined, refetchInterval: 15_000 });

/** The map that is shown, with its tag: nothing is sent when nothing has changed, and what is the same object is not drawn anew. */
let lastMap: { tag: string; map: ClusterMap } | null = null;
export const useMap = () => useQuery({
  queryKey: ["map"],
  queryFn: async () => {
    const answer = await api.GET("/v1/map", { params: { header: lastMap ? { "If-None-Match": lastMap.tag } : {} } });
    if (answer.response.status === 304 && lastMap) return lastMap.map;
    const map = await ok(Promise.resolve(answer));
    const tag = answer.response.headers.get("ETag");
    lastMap = tag ? { tag, map } : null;
    return map;
  },
  structuralSharing: false, // 16,384 GPUs are quicker drawn than compared
  refetchInterval: 15_000,
});

type QueueFilters = { queue?: string; project?: string; user?: string; reason?: string };
const askQueue = (query: QueueFilters & { page_size?: number; page_token?: string }) => ok(api.GET("/v1/queue", { params: { query } }));
/** How many wait, and why: sums over all; of the jobs only the first. */
export const useQueue = () => useQuery({ queryKey: ["queue", "sums"], queryFn: () => askQueue({ page_size: 1 }), refetchInterval: 10_000 });
/** Pending jobs in order, of any number. Behind the first page they are asked for again more seldom. */
export const useQueueList = (filters: QueueFilters) => usePaged(["queue", "list", filters], ["queue-kept", filters], (token) => askQueue({ ...filters, ...(token ? { page_token: token } : {}) }), { head: 10_000, kept: 20_000 });
export const usePlan = (queue: string, horizon: string) => useQuery({
  queryKey: ["plan", queue, horizon],
  queryFn: () => ok(api.GET("/v1/plan", { params: { query: { horizon, ...(queue ? { queue } : {}) } } })),
  refetchInterval: 15_000,
});
/** The first that will start, whoever comes before them in the order. */
export const useNextStarts = () => useQuery({
  queryKey: ["plan", "next"],
  queryFn: async () => (await ok(api.GET("/v1/plan", { params: { query: { horizon: "48h", limit: 6 } } }))).planned,
  refetchInterval: 15_000,
});
export const useQueues = () => useQuery({ queryKey: ["queues"], queryFn: () => ok(api.GET("/v1/queues")), refetchInterval: 60_000 });
export const useProjects = () => useQuery({ queryKey: ["projects"], queryFn: () => ok(api.GET("/v1/projects")), refetchInterval: 60_000 });
export const useReservations = () => useQuery({ queryKey: ["reservations"], queryFn: () => ok(api.GET("/v1/reservations")), refetchInterval: 60_000 });
export type FaultFilter = { node?: string; job?: number; gpu?: string; class?: string; action?: string; since?: string };
export const useFaults = (filter: FaultFilter & { limit?: number }) => useQuery({
  queryKey: ["faults", filter],
  queryFn: () => ok(api.GET("/v1/faults", { params: { query: filter } })),
  refetchInterval: 60_000,
});
export const useFaultSummary = (groupBy: "node" | "class" | "gpu" | "action", filter: FaultFilter) => useQuery({
  queryKey: ["faults", "summary", groupBy, filter],
  queryFn: () => ok(api.GET("/v1/faults:summary", { params: { query: { group_by: groupBy, ...filter } } })),
  refetchInterval: 60_000,
});
export const useUsage = (since: string, groupBy: string, more: { project?: string; until?: string } = {}) => useQuery({
  queryKey: ["usage", since, groupBy, more],
  queryFn: async () => data(await ok(api.GET("/v1/usage", { params: { query: { since, group_by: groupBy, ...more } } }))),
  refetchInterval: 60_000,
});

export interface JobWithTag {
  job: import("./types").Job;
  etag: string | null;
}
export const useJob = (id: string) => useQuery({
  queryKey: ["job", id],
  queryFn: async (): Promise<JobWithTag> => {
    let etag: string | null = null;
    const job = await ok(api.GET("/v1/jobs/{id}", { params: { path: { id } } }).then((answer) => {
      etag = answer.response.headers.get("ETag");
      return answer;
    }));
    return { job, etag };
  },
  placeholderData: undefined,
  refetchInterval: (query) => (query.state.data && ["running", "starting", "stopping"].includes(query.state.data.job.state) ? 3000 : 15_000),
});
export const useAttempts = (id: string) => useQuery({
  queryKey: ["job", id, "attempts"],
  queryFn: async () => {
    const attempts: import("./types").Attempt[] = [];
    let goodput: import("./types").Schema["AttemptList"]["goodput"] | null = null;
    let token: string | undefined;
    for (let page = 0; page < 10; ++page) {
      const answer = await ok(api.GET("/v1/jobs/{id}/attempts", { params: { path: { id }, query: token ? { page_token: token } : {} } }));
      attempts.push(...answer.attempts);
      goodput = answer.goodput;
      token = answer.next_page_token;
      if (!token) break;
    }
    return { attempts, goodput };
  },
  placeholderData: undefined,
  refetchInterval: 15_000,
});
export const useExplain = (id: string, enabled = true) => useQuery({ queryKey: ["job", id, "explain"], queryFn: () => ok(api.GET("/v1/jobs/{id}/explain", { params: { path: { id } } })), placeholderData: undefined, enabled, refetchInterval: 10_000 });
export const useCheckpoints = (id: string) => useQuery({ queryKey: ["job", id, "checkpoints"], queryFn: () => ok(api.GET("/v1/jobs/{id}/checkpoints", { params: { path: { id } } })), placeholderData: undefined, refetchInterval: 15_000 });
export const useJobEvents = (id: string) => useQuery({
  queryKey: ["job", id, "events"],
  queryFn: async () => {
    const events: import("./types").ApiEvent[] = [];
    let after = 0;
    for (let page = 0; page < 10; ++page) {
      const answer = data(await ok(api.GET("/v1/jobs/{id}/events", { params: { path: { id }, query: { after } }, headers: { Accept: "application/json" } })));
      events.push(...answer.events);
      if (answer.next_after === after || answer.events.length === 0) break;
      after = answer.next_after;
    }
    return events;
  },
  placeholderData: undefined,
});
export const useControlPlane = () => useQuery({ queryKey: ["control-plane"], queryFn: () => ok(api.GET("/v1/control-plane")), refetchInterval: 5000 });

// Measurements are kept in steps of ten seconds: asked for as often, and with no more points than a chart has pixels.
const kPoints = 600;
export const useJobMetrics = (id: string, attempt: number, live: boolean) => useQuery({
  queryKey: ["job", id, "metrics", attempt],
  queryFn: () => ok(api.GET("/v1/jobs/{id}/attempts/{n}/metrics", { params: { path: { id, n: String(attempt) }, query: { points: kPoints } } })),
  placeholderData: undefined, structuralSharing: false, staleTime: 9000, refetchInterval: live ? 10_000 : false,
});
export const useNodeMetrics = (name: string, since: string) => useQuery({
  queryKey: ["node", name, "metrics", since],
  queryFn: () => ok(api.GET("/v1/nodes/{name}/metrics", { params: { path: { name }, query: { points: kPoints, from: new Date(Date.now() - Number(since) * 3_600_000).toISOString() } } })),
  structuralSharing: false, staleTime: 9000, refetchInterval: 10_000,
});
export const useNodeScore = (name: string) => useQuery({ queryKey: ["node", name, "score"], queryFn: () => ok(api.GET("/v1/nodes/{name}/score", { params: { path: { name } } })), staleTime: 60_000, placeholderData: undefined });
export const useNodeAttempts = (name: string) => useQuery({ queryKey: ["node", name, "attempts"], queryFn: () => ok(api.GET("/v1/nodes/{name}/attempts", { params: { path: { name }, query: { page_size: 100 } } })), staleTime: 10_000, placeholderData: undefined });
export const useNodeInspections = (name: string) => useQuery({ queryKey: ["node", name, "inspections"], queryFn: () => ok(api.GET("/v1/nodes/{name}/inspections", { params: { path: { name }, query: { page_size: 50 } } })), staleTime: 10_000, placeholderData: undefined });
export const useWaits = (name: string, since: string) => useQuery({ queryKey: ["usage", "waits", name, since], queryFn: () => ok(api.GET("/v1/projects/{name}/waits", { params: { path: { name }, query: { since } } })), refetchInterval: 60_000 });

// The past does not change: what was asked for once is kept.
export const useHistory = (since: string) => useQuery({ queryKey: ["history", since], queryFn: () => ok(api.GET("/v1/history", { params: { query: since ? { since } : {} } })), staleTime: 60_000 });
export const usePastMap = (at: string) => useQuery({ queryKey: ["history", "map", at], queryFn: () => ok(api.GET("/v1/history/map", { params: { query: { at } } })), staleTime: Infinity, structuralSharing: false });
export const usePastQueue = (at: string) => useQuery({ queryKey: ["history", "queue", at], queryFn: () => ok(api.GET("/v1/history/queue", { params: { query: { at, page_size: 1000 } } })), staleTime: Infinity });
export const useDecisions = (since: string, until: string) => useQuery({ queryKey: ["history", "decisions", since, until], queryFn: () => ok(api.GET("/v1/history/decisions", { params: { query: { since, until, order: "desc", limit: 200 } } })), staleTime: Infinity });
