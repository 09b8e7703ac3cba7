// Policies against one another: what is asked for, and what is said of the answer.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { changeText, compareTo, kMostPolicies, kPolicies, policiesAsked } from "@/lib/replay";

const result = (policy: string, wait: number | null, utilisation = 0.5, more = {}) => ({ policy, wait_mean_seconds: wait, wait_p50_seconds: wait, wait_p90_seconds: wait === null ? null : wait * 2, wait_p99_seconds: wait === null ? null : wait * 4, utilisation, preemptions: 0, goodput: 0.9, jobs: 10, never: 0, ...more });
describe("what is asked for", () => {
  it("has the one that others are compared with first, and each once", () => expect(policiesAsked("las", ["fair", "las", "easy"])).toEqual(["las", "fair", "easy"]));
  it("is never more than the server takes, and of names that it knows", () => {
    const { properties } = (JSON.parse(readFileSync("../api/handlers/openapi.json", "utf8")) as { components: { schemas: { ReplayRequest: { properties: { policies: { maxItems: number; description: string } } } } } }).components.schemas.ReplayRequest;
    expect(kMostPolicies).toBe(properties.policies.maxItems);
    expect(policiesAsked("fair", kPolicies).length).toBe(kMostPolicies);
    for (const policy of kPolicies) expect(properties.policies.description).toMatch(new RegExp(`\\b${policy}\\b`));
  });
});
describe("each result beside that of one of them", () => {
  it("of waits as a share, of use in points; the one itself comes first and has none", () => {
    const rows = compareTo("fair", [result("easy", 90, 0.55), result("fair", 60, 0.5)]);
    expect(rows.map((row) => row.result.policy)).toEqual(["fair", "easy"]);
    expect(rows[0]).toMatchObject({ wait_p50: null, utilisation: null, goodput: null });
    expect(rows[1]).toMatchObject({ wait_p50: 0.5, wait_p90: 0.5, goodput: 0, wait_mean: 0.5, wait_p99: 0.5 });
    expect(rows[1]!.utilisation).toBeCloseTo(5);
  });
  it("of means and the longest waits", () => expect(compareTo("a", [result("a", 1, 0.5, { wait_mean_seconds: 10, wait_p99_seconds: 100 }), result("b", 1, 0.5, { wait_mean_seconds: 20, wait_p99_seconds: 50 })])[1]).toMatchObject({ wait_mean: 1, wait_p99: -0.5 }));
  it("makes nothing up: no wait, a wait of nothing, or no such policy in the answer", () => {
    expect(compareTo("fair", [result("fair", null), result("easy", 5)])[1]!.wait_p50).toBeNull();
    expect(compareTo("fair", [result("fair", 5), result("easy", null)])[1]!.wait_p50).toBeNull();
    expect(compareTo("fair", [result("fair", 0), result("easy", 5)])[1]!.wait_p50).toBeNull();
    expect(compareTo("las", [result("fair", 5), result("easy", 4)]).map((row) => [row.result.policy, row.wait_p50, row.utilisation])).toEqual([["fair", null, null], ["easy", null, null]]);
  });
  it("is said with its sign", () => expect([changeText(0.5, "share"), changeText(-0.123, "share"), changeText(12.345, "share"), changeText(0.004, "share"), changeText(null, "share"), changeText(5.04, "points"), changeText(-0.04, "points")]).toEqual(["+50 %", "−12 %", "+1,235 %", "same", "", "+5 pts", "same"]));
});
