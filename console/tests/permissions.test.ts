// The table of tests/api/access_matrix_test.cpp, as far as pages offer it.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { may, type Act, type Caller, type Role } from "@/lib/permissions";
import { actsOf } from "@/ui/node-actions";
import { verbsOf } from "@/lib/jobs";

const caller = (name: string): Caller => {
  const [where, role] = name.includes("_") ? name.split("_") : ["nlp", name];
  const scopes = ["read", "submit", "operate", "admin"];
  if (name === "stranger") return { user: name, roles: {}, scopes };
  if (name === "owner") return { user: name, roles: { nlp: "member" }, scopes };
  return { user: name, roles: { [where === "all" ? "*" : where === "other" ? "vision" : "nlp"]: role as Role }, scopes };
};
const kCallers = ["stranger", "viewer", "member", "operator", "owner", "other_member", "other_operator", "other_admin", "all_viewer", "all_member", "all_operator", "all_admin"];
const matrix = readFileSync("../tests/api/access_matrix_test.cpp", "utf8");
/** What the table of the server says of a route, by caller. */
function verdicts(route: string): string {
  for (const row of matrix.matchAll(/\{"([afn]{12})",\s*\{([^}]*)\}\}/g)) if (row[2]!.includes(`"${route}"`)) return row[1]!;
  throw new Error(`${route} is in no row`);
}
const kActs: [Act, string, { project?: string; owner?: string }?][] = [
  ["submit", "jobs.submit"], ["change-job", "jobs.cancel", { project: "nlp", owner: "owner" }], ["exec", "attempts.exec", { project: "nlp", owner: "owner" }], ["report-node", "nodes.report"], ["operate-nodes", "nodes.drain"],
  ["operate-queues", "queues.put"], ["operate-projects", "projects.put"], ["reserve", "reservations.put"], ["webhooks", "webhooks.put"], ["secrets", "secrets.put", { project: "nlp" }], ["admin", "users.create"],
];
describe("what a role may do is what the server allows", () => {
  for (const [act, route, about] of kActs) it(`${act} as ${route}`, () => {
    const said = verdicts(route);
    expect(kCallers.filter((name) => may(caller(name), act, about))).toEqual(kCallers.filter((_, i) => said[i] === "a"));
  });
  it("nobody may do anything who is not known", () => expect(may(null, "submit")).toBe(false));
  it("a credential's scopes bound its holder", () => {
    const token = { ...caller("all_admin"), scopes: ["read"] };
    expect((["submit", "operate-nodes", "admin"] as Act[]).some((act) => may(token, act))).toBe(false);
    expect(may({ ...caller("owner"), scopes: ["read"] }, "change-job", { project: "nlp", owner: "owner" })).toBe(false);
    expect(may({ ...caller("all_admin"), scopes: ["submit"] }, "admin")).toBe(false);
  });
});
describe("what is offered depends on the state", () => {
  it("of a job", () => expect(["queued", "held", "running", "stopping", "failed"].map((state) => verbsOf(state).join(" "))).toEqual(["hold cancel", "release cancel", "requeue cancel", "cancel", ""]));
  it("of a node", () => expect([actsOf("schedulable")[0], actsOf("draining")[0], actsOf("repair")[0]]).toEqual(["drain", "resume", "return"]));
});
