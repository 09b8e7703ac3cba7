// What the console would show and openapi.json does not have yet (API-WANTED.md): a server without it leaves it out, and the pages say so.
// When it has come: `npm run types`, and its type goes from here.

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
