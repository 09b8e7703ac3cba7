import { describe, expect, it } from "vitest";
import { parseViews, putView, readFilters, toQuery, withFilters } from "@/lib/url";
import { safeTarget } from "@/lib/target";

describe("filters in the address", () => {
  it("read only what is theirs", () => {
    expect(readFilters(new URLSearchParams("state=running&evil=1"), ["state", "user"])).toEqual({ state: "running", user: "" });
  });
  it("change without touching the rest; empty ones go", () => {
    const before = new URLSearchParams("tab=logs&state=running&user=ada");
    expect(withFilters(before, { state: "", user: "bob", queue: null }).toString()).toBe("tab=logs&user=bob");
    expect(before.toString()).toBe("tab=logs&state=running&user=ada");
  });
  it("come back as they were written, whatever they hold", () => {
    const value = "a&b=c #%\u00e9";
    expect(readFilters(new URLSearchParams(withFilters(new URLSearchParams(), { name: value }).toString()), ["name"]).name).toBe(value);
  });
  it("ask the server only for what is set", () => expect(toQuery({ state: "", user: "ada" })).toEqual({ user: "ada" }));
});
describe("saved views", () => {
  it("survive a broken store", () => {
    expect(parseViews(null)).toEqual([]);
    expect(parseViews("{")).toEqual([]);
    expect(parseViews('[{"name":"a","query":"x=1"},{"name":3},null]')).toEqual([{ name: "a", query: "x=1" }]);
  });
  it("replace those of the same name", () => expect(putView([{ name: "a", query: "1" }, { name: "c", query: "3" }], { name: "a", query: "2" })).toEqual([{ name: "a", query: "2" }, { name: "c", query: "3" }]));
});
describe("after signing in", () => {
  it.each([[null, "/"], ["/jobs?state=running", "/jobs?state=running"], ["//evil.example", "/"], ["/\\evil.example", "/"], ["https://evil.example", "/"], ["/login?to=/", "/"]])("%s leads to %s", (to, target) => expect(safeTarget(to)).toBe(target));
});
