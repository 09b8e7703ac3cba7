// Who may do what, as GET /v1/me says it, so that the rest is not even offered. The server decides all the same. Pure.
import type { Me } from "@/api/types";
import type { operations } from "@/api/schema";

/** What a person can want to do, in the words of the pages; and the route that it comes down to. */
const kRoute = {
  submit: "jobs.submit", "change-job": "jobs.cancel", exec: "attempts.exec",
  urgent: "jobs.cancel", // a priority of 90 and up: whoever may change the jobs of anybody there
  "report-node": "nodes.report", "operate-nodes": "nodes.drain", "operate-queues": "queues.put", "operate-projects": "projects.put",
  reserve: "reservations.put", webhooks: "webhooks.put", secrets: "secrets.put", admin: "users.create", "control-plane": "control_plane.get", replay: "history.replay",
} as const satisfies Record<string, keyof operations>;
export type Act = keyof typeof kRoute;
export interface About {
  project?: string;
  owner?: string;
}
export type Caller = Pick<Me, "user" | "permissions" | "own_jobs">;

/** Without a project: in any. */
function lists(by: Me["permissions"], route: string, project?: string): boolean {
  if (by["*"]?.includes(route)) return true;
  return project === undefined ? Object.values(by).some((routes) => routes.includes(route)) : !!by[project]?.includes(route);
}

export function may(caller: Caller | null | undefined, act: Act, about: About = {}): boolean {
  if (!caller) return false;
  const route = kRoute[act];
  if (lists(caller.permissions, route, about.project)) return true;
  return act !== "urgent" && about.owner !== undefined && about.owner === caller.user && lists(caller.own_jobs, route, about.project);
}
