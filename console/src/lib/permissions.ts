// Who may do what, so that the rest is not even offered. The server decides all the same.
// Kept in step with tests/api/access_matrix_test.cpp; see API-WANTED.md 13. Pure.

export type Role = "viewer" | "member" | "operator" | "admin";
export interface Caller {
  user: string;
  roles: Record<string, Role>;
  scopes: readonly string[];
}
/** What a person can want to do, in the words of the pages. */
export type Act =
  | "submit" | "change-job" | "exec" | "urgent"
  | "report-node" | "operate-nodes" | "operate-queues" | "operate-projects" | "reserve" | "webhooks"
  | "secrets" | "admin";
export interface About {
  project?: string;
  owner?: string;
}

const kRank: Record<Role, number> = { viewer: 1, member: 2, operator: 3, admin: 4 };
const kScope: Record<string, number> = { read: 1, submit: 2, operate: 3, admin: 4 };

/** Rank of the caller in a project; without one: the highest anywhere. A credential's scopes bound it. */
export function rankIn(caller: Caller, project?: string): number {
  const everywhere = kRank[caller.roles["*"] as Role] ?? 0;
  const here = project === undefined
    ? Math.max(0, ...Object.values(caller.roles).map((role) => kRank[role] ?? 0))
    : (kRank[caller.roles[project] as Role] ?? 0);
  const bound = Math.max(0, ...caller.scopes.map((scope) => kScope[scope] ?? 0));
  return Math.min(Math.max(everywhere, here), bound);
}

export function may(caller: Caller | null | undefined, act: Act, about: About = {}): boolean {
  if (!caller) return false;
  const everywhere = rankIn({ ...caller, roles: caller.roles["*"] ? { "*": caller.roles["*"] } : {} });
  switch (act) {
    case "submit": return rankIn(caller, about.project) >= kRank.member;
    case "change-job":
    case "exec": {
      const bound = Math.max(0, ...caller.scopes.map((scope) => kScope[scope] ?? 0));
      return (about.owner === caller.user && bound >= kRank.member) || rankIn(caller, about.project ?? "") >= kRank.operator;
    }
    case "urgent":
    case "secrets": return rankIn(caller, about.project) >= kRank.operator;
    case "report-node": return rankIn(caller) >= kRank.member;
    case "operate-nodes":
    case "operate-queues":
    case "operate-projects":
    case "reserve":
    case "webhooks": return everywhere >= kRank.operator;
    case "admin": return everywhere >= kRank.admin;
  }
}
