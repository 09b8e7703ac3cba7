// What the pages ask for. Keys begin with the word that live.tsx makes old.
import { QueryClient, keepPreviousData, useQuery } from "@tanstack/react-query";
import { may, type About, type Act } from "@/lib/permissions";
import { ApiError, api, ok } from "./client";
import { getControlPlane, getHistory, getMap, getPlan, getPolicy, type ClusterMap, type MapNode, type QueueMore } from "./wanted";
import type { Node } from "./types";

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

const kLetters: Record<string, string> = { free: "f", allocated: "a", dirty: "d", quarantined: "q", absent: "x" };
/** /v1/nodes as the map would be: for servers that have no /v1/map. */
export function mapOfNodes(nodes: readonly Node[], at = new Date().toISOString()): ClusterMap {
  const sorted = [...nodes].sort((a, b) =>
    (a.labels["topology.block"] ?? "").localeCompare(b.labels["topology.block"] ?? "", undefined, { numeric: true }) ||
    (a.labels["topology.rack"] ?? "").localeCompare(b.labels["topology.rack"] ?? "", undefined, { numeric: true }) ||
    a.name.localeCompare(b.name, undefined, { numeric: true }));
  const racks: ClusterMap["racks"] = [];
  const seen = new Map<string, number>();
  const out: MapNode[] = sorted.map((node) => {
    const block = node.labels["topology.block"] ?? "";
    const rack = node.labels["topology.rack"] ?? "";
    const key = `${block}\n${rack}`;
    let at = seen.get(key);
    if (at === undefined) {
      at = racks.push({ block, rack }) - 1;
      seen.set(key, at);
    }
    const gpus = [...node.gpus].sort((a, b) => a.index - b.index);
    return {
      name: node.name, rack: at, state: node.state, service: node.service, conditions: node.conditions.length,
      gpus: gpus.map((gpu) => kLetters[gpu.state] ?? "x").join(""), jobs: gpus.map((gpu) => gpu.job_id),
    };
  });
  return { at, racks, nodes: out };
}
let serverHasMap = true;
export const useMap = () => useQuery({
  queryKey: ["nodes", "map"],
  queryFn: async () => {
    const map = serverHasMap ? await getMap() : null;
    if (map) return map;
    serverHasMap = false; // asked once
    return mapOfNodes((await ok(api.GET("/v1/nodes"))).nodes);
  },
  refetchInterval: 15_000,
});

export const useQueue = (queue: string) => useQuery({
  queryKey: ["queue", queue],
  queryFn: async () => (await ok(api.GET("/v1/queue", { params: { query: queue ? { queue } : {} } }))) as QueueMore,
  refetchInterval: 10_000,
});
export const usePlan = (queue: string, horizon: string, enabled = true) => useQuery({ queryKey: ["queue", "plan", queue, horizon], queryFn: () => getPlan(queue, horizon), refetchInterval: 15_000, enabled });
/** Owner, project and size of pending jobs, for servers whose queue does not say them. */
export const usePendingJobs = () => useQuery({
  queryKey: ["jobs", "pending"],
  queryFn: () => ok(api.GET("/v1/jobs", { params: { query: { state: "pending", page_size: 500 } } })),
  refetchInterval: 30_000,
});
export const useQueues = () => useQuery({ queryKey: ["queues"], queryFn: () => ok(api.GET("/v1/queues")), refetchInterval: 60_000 });
export const useProjects = () => useQuery({ queryKey: ["projects"], queryFn: () => ok(api.GET("/v1/projects")), refetchInterval: 60_000 });
export const useReservations = () => useQuery({ queryKey: ["reservations"], queryFn: () => ok(api.GET("/v1/reservations")), refetchInterval: 60_000 });
export const useFaults = (filter: { node?: string; job?: number; limit?: number }) => useQuery({
  queryKey: ["faults", filter],
  queryFn: () => ok(api.GET("/v1/faults", { params: { query: filter } })),
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
export const useHistory = () => useQuery({ queryKey: ["history"], queryFn: getHistory, staleTime: 60_000 });
export const useControlPlane = () => useQuery({ queryKey: ["control-plane"], queryFn: getControlPlane, refetchInterval: 5000 });
export const usePolicy = () => useQuery({ queryKey: ["policy"], queryFn: getPolicy, staleTime: 60_000 });
