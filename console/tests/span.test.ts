// A stretch of time as it is chosen, as it stands in the address, and as it is asked for.
import { describe, expect, it } from "vitest";
import { asInstants, chosenSpan, firstDay, lastDay, sinceOf, spanChosen, untilOf } from "@/lib/span";

const here = (year: number, month: number, date: number) => new Date(year, month - 1, date).toISOString();
describe("from day to day", () => {
  it("has both days in it, by the clock here", () => expect([sinceOf("2026-10-01"), untilOf("2026-10-03")]).toEqual([here(2026, 10, 1), here(2026, 10, 4)]));
  it("goes over the end of a month and of a year", () => expect([untilOf("2026-02-28"), untilOf("2028-02-28"), untilOf("2026-12-31")]).toEqual([here(2026, 3, 1), here(2028, 2, 29), here(2027, 1, 1)]));
  it("comes back from the address as it was chosen, on each day of a year, also those of 23 and of 25 hours", () => {
    for (let day = 0; day < 366; ++day) {
      const date = new Date(2026, 0, 1 + day);
      const text = `${date.getFullYear()}-${String(date.getMonth() + 1).padStart(2, "0")}-${String(date.getDate()).padStart(2, "0")}`;
      expect([firstDay(sinceOf(text)!), lastDay(untilOf(text)!)]).toEqual([text, text]);
    }
  });
  it.each(["", "2026-02-30", "2026-13-01", "2026-00-10", "0202-10-01", "7d", "2026-1-1", "x"])("takes no day from %j, which may be half typed", (text) => expect([sinceOf(text), untilOf(text)]).toEqual([null, null]));
  it("knows no day of what is no instant", () => expect([firstDay(""), lastDay("7d"), firstDay("2026-x")]).toEqual(["", "", ""]));
});
describe("what is chosen", () => {
  const now = new Date(2026, 9, 7, 15, 30).getTime();
  it("is what the address says", () => expect([chosenSpan("", ""), chosenSpan("24h", ""), chosenSpan("3d", ""), chosenSpan(here(2026, 10, 1), ""), chosenSpan("", here(2026, 10, 1)), chosenSpan("7d", "1d")]).toEqual(["", "24h", "3d", "days", "days", "days"]));
  it("of days is the last week, and stays what was chosen", () => {
    const span = spanChosen("days", now);
    expect(span).toEqual({ since: here(2026, 10, 1), until: here(2026, 10, 8) });
    expect(chosenSpan(span.since, span.until)).toBe("days");
  });
  it("of the last hours has no end: what is submitted next is in it", () => expect([spanChosen("24h", now), spanChosen("", now)]).toEqual([{ since: "24h", until: "" }, { since: "", until: "" }]));
  it("is asked for as two instants where nothing else is taken", () => {
    expect(asInstants({ since: "24h", until: "" }, now)).toEqual({ since: new Date(now - 86_400_000).toISOString(), until: new Date(now).toISOString() });
    expect(asInstants({ since: here(2026, 10, 1), until: here(2026, 10, 2) }, now)).toEqual({ since: here(2026, 10, 1), until: here(2026, 10, 2) });
    expect([asInstants({ since: "", until: "" }, now), asInstants({ since: "soon", until: "" }, now)]).toEqual([null, null]);
  });
});
