// What an admin is told of the scheduler that answers, and of the one that leads.
import { describe, expect, it } from "vitest";
import { consoleAt, planeSays } from "@/lib/plane";

const told = { ready: true, role: "leader", detail: "leader, term 3", leader: "host-a", since: "2026-10-01T00:00:00Z" } as const;
const away = { ready: false, detail: "the store cannot be read", since: null } as const;
describe("who leads", () => {
  it("is this one", () => expect(planeSays(told)).toEqual({ tone: "good", head: "This scheduler leads.", text: "" }));
  it("is this one, whose store is away", () => {
    const says = planeSays({ ...told, ...away });
    expect([says.tone, says.head]).toEqual(["bad", "The store is away."]);
    expect(says.text).toContain("the store cannot be read");
  });
  it("is another: that this is a standby is no fault, and said", () => {
    const says = planeSays({ ...told, ready: false, role: "standby", detail: "standby; host-a leads, term 3" });
    expect([says.tone, says.head]).toEqual(["warn", "This scheduler is a standby."]);
    expect(says.text).toMatch(/^host-a leads\./);
    expect(says.text).not.toContain("away");
  });
  it("is another, and the store does not answer the standby", () => expect(planeSays({ ...told, ...away, role: "standby" }).text).toContain("may be away"));
  it("is not known while it recovers", () => {
    const says = planeSays({ ...away, role: "none", detail: "recovering: the store is unavailable", leader: "" });
    expect([says.tone, says.text]).toEqual(["bad", "It says: recovering: the store is unavailable. Who leads is not known."]);
  });
});
describe("the way to the leader's page", () => {
  it.each([["https://a.example:7070", "https://a.example:7070/console/admin?tab=health"], ["http://a/", "http://a/console/admin?tab=health"], ["", null], [undefined, null], ["javascript:alert(1)", null], ["a.example:7070", null]])("%j: %j", (url, page) => expect(consoleAt(url)).toBe(page));
});
