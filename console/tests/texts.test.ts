import { describe, expect, it } from "vitest";
import { diffLines } from "@/lib/diff";
import { find, LineBuffer, splitRank } from "@/lib/logs";
import { alignSeries, fewLines, groupSeries } from "@/lib/metrics";
import { asCli, asCurl, compact, fromYaml, lineOf, setInYaml, toYaml } from "@/lib/spec";

describe("logs", () => {
  it("are the same however they are cut", () => {
    const text = "one\ntwo\r\n\u001b[31mred\u001b[0m\n10%\r50%\r100%\nlast";
    const whole = new LineBuffer();
    whole.append(text);
    expect(whole.lines).toEqual(["one", "two", "red", "100%", "last"]);
    for (let size = 1; size < 9; ++size) {
      const pieces = new LineBuffer();
      for (let i = 0; i < text.length; i += size) pieces.append(text.slice(i, i + size));
      expect(pieces.lines).toEqual(whole.lines);
    }
  });
  it("keep the newest when there are too many", () => {
    const buffer = new LineBuffer(100);
    for (let i = 0; i < 1000; ++i) buffer.append(`${i}\n`);
    expect(buffer.lines.at(-1)).toBe("999");
    expect(buffer.lines.length).toBeLessThanOrEqual(100);
    expect(buffer.lines.length + buffer.dropped).toBe(1000);
  });
  it("are searched whatever the case", () => expect(find(["Loss 1", "x", "loss 2"], "LOSS")).toEqual([0, 2]));
  it("say their rank", () => expect([splitRank("[12] hi"), splitRank("[x] hi")]).toEqual([{ rank: 12, text: "hi" }, { rank: null, text: "[x] hi" }]));
});
describe("specs", () => {
  it("are short without what says nothing", () => expect(compact({ name: "a", env: {}, workdir: "", retry: { budget: {} }, nodes: 1, preemptible: false, scheduled_by: 3, list: [] })).toEqual({ name: "a", nodes: 1, preemptible: false }));
  it("go to YAML and back", () => {
    const spec = { name: "a: b", run: "x\ny | z # c\n", env: { N: "1" }, nodes: 2 };
    expect(fromYaml(toYaml(spec)).spec).toEqual(spec);
  });
  it("say where they are wrong", () => {
    expect(fromYaml("name: [1\nrun: x")).toMatchObject({ spec: null, line: 2 });
    expect(fromYaml("- a").error).toContain("a map of fields");
    expect(fromYaml("").spec).toEqual({});
  });
  it("are changed by a form without losing comments", () => {
    const text = "# mine\nname: a # the name\nresources:\n  gpus: 1\n";
    expect(setInYaml(text, ["resources", "gpus"], 8)).toBe("# mine\nname: a # the name\nresources:\n  gpus: 8\n");
    expect(setInYaml(text, ["resources", "gpus"], "")).toBe("# mine\nname: a # the name\n");
    expect(setInYaml("", ["checkpoint", "dir"], "/x")).toBe("checkpoint:\n  dir: /x\n");
    expect(setInYaml("a: [", ["b"], 1)).toBe("a: [");
  });
  it("have lines for their fields", () => expect([lineOf("name: a\nresources:\n  gpus: 1", "resources.gpus"), lineOf("name: a", "nope")]).toEqual([3, null]));
  it("are copied so that a shell takes them as they are", () => {
    expect(asCli({ name: "a", run: "echo 'x'" })).toBe("tutti submit - <<'YAML'\nname: a\nrun: echo 'x'\nYAML");
    expect(asCurl({ run: "echo 'x'" }, "http://h")).toContain(`-d '{"run":"echo '\\''x'\\''"}'`);
  });
  it("differ line by line", () => expect(diffLines("a\nb\nc", "a\nx\nc\nd").map((line) => line.op + line.text)).toEqual([" a", "-b", "+x", " c", "+d"]));
});
describe("metrics", () => {
  const series = (name: string, rank: number, at: number[]) => ({ name, unit: "", node: null, gpu: null, rank, at_seconds: at, mean: at.map((each) => each * 10), min: at, max: at });
  it("of different times share an axis, with holes", () => {
    const { at, lines } = alignSeries([series("a", 0, [0, 2]), series("a", 1, [1, 2])], 100);
    expect([at, lines.map((line) => line.values)]).toEqual([[100, 101, 102], [[0, null, 20], [null, 10, 20]]]);
  });
  it("of many ranks become few lines: lowest, median, highest, and the rank that is furthest from them", () => {
    const ranks = Array.from({ length: 20 }, (_, rank) => ({ label: `rank ${rank}`, values: [rank === 7 ? 9 : 1, rank === 7 ? 9 : 2, null] as (number | null)[] }));
    expect(fewLines(ranks).map((line) => [line.label, ...line.values])).toEqual([["median of 20", 1, 2, null], ["lowest", 1, 2, null], ["highest", 9, 9, null], ["rank 7, furthest from it", 9, 9, null]]);
    expect(fewLines(ranks.slice(0, 12)).map((line) => line.label)).toEqual(ranks.slice(0, 12).map((line) => line.label));
  });
  it("are grouped, loss first", () => expect(groupSeries([series("zz", 0, []), series("loss", 0, []), series("zz", 1, [])]).map(([name, all]) => [name, all.length])).toEqual([["loss", 1], ["zz", 2]]));
});
