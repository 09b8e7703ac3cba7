import { describe, expect, it } from "vitest";
import { byName, bytes, count, duration, etaText, gpuHours, localTime, number, percent, ranges, relative, utcTime } from "@/lib/format";

describe("durations", () => {
  it.each([[0, "0s"], [0.05, "50ms"], [0.4, "0.4s"], [1.5, "1.5s"], [59.6, "1m"], [90, "1m 30s"], [3600, "1h"], [3661, "1h 1m"], [90_000, "1d 1h"], [-30, "−30s"], [null, "–"], [NaN, "–"]])("%s is %s", (seconds, text) => expect(duration(seconds)).toBe(text));
});
describe("numbers", () => {
  it("keeps what tells something", () => {
    expect([number(0), number(1.5), number(0.00012), number(123456), number(0.1234567), number(null)]).toEqual(["0", "1.5", "1.20e-4", "123,456", "0.123", "–"]);
    expect([bytes(0), bytes(1024), bytes(85_520_809_984), bytes(null)]).toEqual(["0 B", "1.0 KiB", "79.6 GiB", "–"]);
    expect([gpuHours(0), gpuHours(3), gpuHours(3600), gpuHours(3_600_000)]).toEqual(["0", "<0.01", "1.00", "1,000"]);
    expect([percent(0.1234, 1), percent(null), count(12345)]).toEqual(["12.3 %", "–", "12,345"]);
  });
});
describe("instants", () => {
  const now = new Date(2026, 9, 1, 12, 0, 0).getTime();
  it("are local, and UTC on hover", () => {
    expect(localTime(now, now)).toBe("12:00");
    expect(localTime(now - 86_400_000, now)).toBe("09-30 12:00");
    expect(localTime(new Date(2025, 0, 2, 3, 4, 5).getTime(), now, true)).toBe("2025-01-02 03:04:05");
    expect(utcTime("2026-10-01T02:03:04.123456Z")).toBe("2026-10-01 02:03:04 UTC");
    expect([localTime(null, now), utcTime(""), localTime("nonsense", now)]).toEqual(["–", "", "–"]);
  });
  it("have an age", () => {
    expect([relative(now - 180_000, now), relative(now + 7500_000, now), relative(now, now), relative(null, now)]).toEqual(["3m ago", "in 2h 5m", "now", "–"]);
  });
  it("an ETA says its range, or that it is not known", () => {
    const at = (minutes: number) => new Date(now + minutes * 60_000).toISOString();
    expect(etaText({ at: at(5), from: at(1), to: at(30) }, now)).toBe("12:05 (12:01–12:30)");
    expect(etaText({ at: at(0), from: at(0), to: at(0) }, now)).toBe("12:00");
    expect(etaText(null, now)).toBe("not known");
  });
});
describe("numbers in a row", () => {
  it("are said as ranges", () => expect([ranges([0, 1, 2, 3, 6]), ranges([5, 4]), ranges([2]), ranges([])]).toEqual(["0–3, 6", "4, 5", "2", ""]));
  it("names go by their numbers", () => expect(["n10", "n9", "a"].sort(byName)).toEqual(["a", "n9", "n10"]));
});
