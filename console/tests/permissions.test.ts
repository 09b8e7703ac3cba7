// What is offered, against what /v1/me says and the table of tests/api/access_matrix_test.cpp.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { may, type Caller } from "@/lib/permissions";
import { actsOf } from "@/ui/node-actions";
import { bulkFilter, verbsOf } from "@/lib/jobs";

const matrix = readFileSync("../tests/api/access_matrix_test.cpp", "utf8");
/** What the table of the server says of a route, a letter per caller. */
function verdicts(route: string): string {
  for (const row of matrix.matchAll(/\{"([afn]{12})",\s*\{([^}]*)\}\}/g)) if (row[2]!.includes(`"${route}"`)) return row[1]!;
  throw new Error(`${route} is in no row`);
}
describe("one route stands for all that a page offers beside it", () => {
  it.each([
    ["jobs.cancel", ["jobs.hold", "jobs.release", "jobs.requeue", "jobs.update"]], ["nodes.drain", ["nodes.cordon", "nodes.resume", "nodes.quarantine", "nodes.repair", "nodes.return", "nodes.retire", "nodes.inspect"]],
    ["users.create", ["users.change", "users.delete", "join_tokens.create", "audit.list"]],
  ])("%s", (route, others) => {
    for (const other of others) expect(verdicts(other), other).toBe(verdicts(route));
  });
});
describe("who may what, as /v1/me says it", () => {
  const ada: Caller = { user: "ada", permissions: { "*": ["jobs.list"], nlp: ["jobs.submit"], vision: ["jobs.submit", "jobs.cancel"] }, own_jobs: { "*": [], nlp: ["jobs.cancel"], vision: [] } };
  it("nobody may do anything who is not known", () => expect([may(null, "submit"), may(undefined, "admin")]).toEqual([false, false]));
  it("holds in its project, and without one in any", () => expect([may(ada, "submit", { project: "nlp" }), may(ada, "submit", { project: "speech" }), may(ada, "submit"), may(ada, "operate-nodes")]).toEqual([true, false, true, false]));
  it("of own jobs holds for those only", () => {
    const change = (project: string, owner: string) => may(ada, "change-job", { project, owner });
    expect([change("nlp", "ada"), change("nlp", "bob"), change("vision", "bob"), change("speech", "ada")]).toEqual([true, false, true, false]);
  });
  it("an urgent priority is for those who may change anybody's job", () => expect([may(ada, "urgent", { project: "nlp", owner: "ada" }), may(ada, "urgent", { project: "vision" })]).toEqual([false, true]));
  it("what holds everywhere holds in each project", () => expect(may({ user: "o", permissions: { "*": ["jobs.cancel"] }, own_jobs: {} }, "change-job", { project: "x", owner: "y" })).toBe(true));
});
describe("what is offered depends on the state", () => {
  it("of a job", () => expect(["queued", "held", "running", "stopping", "failed"].map((state) => verbsOf(state).join(" "))).toEqual(["hold cancel", "release cancel", "requeue cancel", "cancel", ""]));
  it("of a node", () => expect([actsOf("schedulable")[0], actsOf("draining")[0], actsOf("repair")[0]]).toEqual(["drain", "resume", "return"]));
});
describe("a change to all that match", () => {
  it("has the filter of the list", () => expect(bulkFilter({ state: "pending", project: "nlp", array: "7", user: "", queue: "" })).toEqual({ state: ["queued", "delayed", "blocked", "held"], project: "nlp", array: 7 }));
  it("is of all jobs where nothing is filtered", () => expect(bulkFilter({})).toEqual({ all: true }));
  it("is not offered where it would reach more than is shown", () => expect([bulkFilter({ q: "llama" }), bulkFilter({ cause: "gpu", project: "nlp" }), bulkFilter({ since: "7d", until: "1d" }), bulkFilter({ state: "failed" }), bulkFilter({ state: "terminal", user: "ada" })]).toEqual([null, null, null, null, null]));
});
