// Routes that the console asks for and that openapi.json does not have yet (API-WANTED.md). A server without them answers null here, and the
// pages say so. When one has come: `npm run types`, and its type goes from here.
import { wanted } from "./client";
import type { ClusterMap, Schema } from "./types";

/** Of the map, beside what it has: how busy each GPU is. */
export interface MapMore {
  utilisation?: (number | null)[] | null;
}
export interface Series {
  name: string;
  unit: string;
  node: string | null;
  gpu: number | null;
  rank: number | null;
  at_seconds: number[];
  mean: (number | null)[];
  min?: (number | null)[];
  max?: (number | null)[];
}
export interface Metrics {
  from: string;
  until: string;
  bucket_seconds: number;
  simulated: boolean;
  series: Series[];
}
export interface FaultMore {
  lost_gpu_seconds?: number | null;
}
export interface History {
  from: string;
  until: string;
  decisions: number;
  density: { at: string; decisions: number; faults: number; starts: number; preemptions: number }[];
}
export interface Decision {
  id: number;
  at: string;
  kind: string;
  job_id: number | null;
  node: string | null;
  text: string;
}
export interface Replay {
  results: { policy: string; wait_p50_seconds: number | null; wait_p90_seconds: number | null; utilisation: number; preemptions: number; goodput: number; jobs: number }[];
}
export interface ControlPlaneMore {
  replicas?: { name: string; last_seen_at: string | null }[];
  cycle_seconds_p50?: number;
  cycle_seconds_p99?: number;
  database?: { version: string; size_bytes: number; connections: number; lag_bytes: number | null; last_backup_at: string | null };
}
export interface UsageMore {
  capacity_gpu_seconds?: number;
  unusable_gpu_seconds?: number;
}
export interface ProjectMore {
  deserved_gpus?: number;
  usage_share?: number;
  target_share?: number;
  use: { borrowed_gpus?: number };
}

const part = encodeURIComponent;
const query = (values: Record<string, string | number | null | undefined>) => {
  const out = new URLSearchParams();
  for (const [name, value] of Object.entries(values)) if (value !== null && value !== undefined && value !== "") out.set(name, String(value));
  const text = out.toString();
  return text ? `?${text}` : "";
};
export const getJobMetrics = (id: string, attempt: number | string, points = 2000) => wanted<Metrics>(`/v1/jobs/${part(id)}/attempts/${attempt}/metrics${query({ points })}`);
export const getNodeMetrics = (name: string, points = 2000) => wanted<Metrics>(`/v1/nodes/${part(name)}/metrics${query({ points })}`);
export const getHistory = () => wanted<History>("/v1/history");
export const getHistoryMap = (at: string) => wanted<ClusterMap>("/v1/history/map" + query({ at }));
export const getHistoryQueue = (at: string) => wanted<Schema["Queue"]>("/v1/history/queue" + query({ at }));
export const getDecisions = (since: string, until: string) => wanted<{ decisions: Decision[]; next_page_token: string }>("/v1/history/decisions" + query({ since, until, limit: 200 }));
export const postReplay = (since: string, until: string, policies: string[]) =>
  wanted<Replay>("/v1/history:replay", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ since, until, policies }) });
export const getScore = (name: string) => wanted<{ points: { at: string; probability: number; ratio: number; suspicion: number }[] }>(`/v1/nodes/${part(name)}/score`);
export const getNodeAttempts = (name: string) => wanted<{ attempts: { job_id: number; name: string; project: string; number: number; gpus: number[]; from: string; until: string | null; result: string | null; cause: string | null }[] }>(`/v1/nodes/${part(name)}/attempts`);
export const getShare = (name: string) => wanted<{ points: { at: string; usage_share: number; target_share: number; gpus: number; deserved_gpus: number }[] }>(`/v1/projects/${part(name)}/share`);
export const getPolicy = () => wanted<{ active: { name: string; settings: Record<string, unknown> }; choices: string[] }>("/v1/policy");
