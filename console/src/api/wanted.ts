// Routes that the console asks for and that openapi.json does not have yet (API-WANTED.md). A server without them answers null here, and the
// pages say so. When one has come: `npm run types`, and its type goes from here.
import { wanted } from "./client";

/** Of each policy of a replay. */
export interface FaultMore {
  lost_gpu_seconds?: number | null;
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
export const getShare = (name: string) => wanted<{ points: { at: string; usage_share: number; target_share: number; gpus: number; deserved_gpus: number }[] }>(`/v1/projects/${part(name)}/share`);
