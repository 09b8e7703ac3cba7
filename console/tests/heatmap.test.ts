import { describe, expect, it } from "vitest";
import type { ClusterMap } from "@/api/types";
import { countCells, hit, hslBytes, layoutHeat, meanBusy, modesOf, sameShape, step, busyLightness, busyOf } from "@/lib/heatmap";

const make = (racks: number, each: number, gpus = 8): ClusterMap => ({
  at: "2026-10-01T00:00:00Z", event_id: 1,
  racks: Array.from({ length: racks }, (_, i) => ({ block: `b${i >> 3}`, rack: racks === 1 ? "" : `r${i}` })),
  nodes: Array.from({ length: racks * each }, (_, i) => ({ name: `node-${i}`, rack: Math.floor(i / each), state: "reachable", service: "schedulable", conditions: 0, gpus: "f".repeat(gpus), jobs: new Array<null>(gpus).fill(null) })),
});

describe.each([["one small rack", make(1, 4)], ["one unnamed rack of 400", make(1, 400)], ["2,048 nodes in 64 racks", make(64, 32)], ["racks of one node", make(7, 1)], ["16 GPUs a node", make(3, 5, 16)]])("the layout of %s", (_, map) => {
  for (const width of [320, 760, 1400, 3600]) {
    const layout = layoutHeat(map, width, 620);
    it(`has every node once, within ${width} px`, () => {
      expect(layout.nodes.length).toBe(map.nodes.length);
      expect(new Set(layout.nodes.map((node) => node.index)).size).toBe(map.nodes.length);
      const widest = layout.labels + Math.max(...map.nodes.map((node) => node.gpus.length)) * layout.step;
      for (const node of layout.nodes) expect(node.x + node.gpus * layout.step).toBeLessThanOrEqual(Math.max(width, widest) + 1);
    });
    it(`finds each cell by its middle at ${width} px, so none overlaps another`, () => {
      for (const node of layout.nodes.filter((_, i) => i % 37 === 0 || i < 20)) for (let gpu = 0; gpu < node.gpus; ++gpu)
        expect(hit(layout, node.x + gpu * layout.step + layout.cell / 2, node.y + layout.cell / 2)).toEqual({ node: node.index, gpu });
      const places = new Set(layout.nodes.map((node) => `${node.x},${node.y}`));
      expect(places.size).toBe(layout.nodes.length);
    });
  }
});
describe("the heat map", () => {
  it("is larger as a whole where a rem is", () => {
    const [usual, large] = [layoutHeat(make(2, 8), 700, 600), layoutHeat(make(2, 8), 1400, 1200, 2)];
    expect([large.cell / usual.cell, large.nodes.length, large.tiles.length]).toEqual([2, 16, 2]);
    expect(large.labels / usual.labels).toBeCloseTo(2, 1);
  });
  it("lays out 2,048 nodes in few milliseconds", () => {
    const map = make(64, 32);
    layoutHeat(map, 1000, 620);
    const from = performance.now();
    layoutHeat(map, 1000, 620);
    expect(performance.now() - from).toBeLessThan(50);
  });
  it("keeps its layout while the nodes are the same, whatever their GPUs do", () => {
    const [before, after] = [make(3, 2), make(3, 2)];
    after.nodes[1]!.gpus = "aaaaaaaq";
    after.nodes[1]!.service = "draining";
    expect(sameShape(before, after)).toBe(true);
    for (const change of [(map: ClusterMap) => map.nodes.pop(), (map: ClusterMap) => (map.nodes[2]!.name = "x"), (map: ClusterMap) => (map.nodes[2]!.gpus = "f"), (map: ClusterMap) => (map.racks[0]!.rack = "r9"), (map: ClusterMap) => (map.nodes[2]!.rack = 0)]) {
      const other = make(3, 2);
      change(other);
      expect(sameShape(before, other)).toBe(false);
    }
  });
  it("tries no size for which there is no room, and finds the same", () => {
    for (const [width, height] of [[1000, 620], [300, 200], [60, 40]] as const) {
      const layout = layoutHeat(make(64, 32), width, height);
      if (layout.height <= height) expect(64 * 32 * 8 * layout.cell ** 2).toBeLessThanOrEqual(width * height);
      expect(layout.nodes.length).toBe(2048);
    }
  });
  it("has no cell outside, and none in nothing", () => {
    const layout = layoutHeat(make(2, 3), 800, 600);
    expect(hit(layout, -500, 5)).toBeNull();
    expect(hit(layout, 5, 100_000)).toBeNull();
    expect(layoutHeat({ at: "", event_id: 0, racks: [], nodes: [] }, 800, 600).nodes).toEqual([]);
  });
  it("goes along the GPUs of a node with the arrows, then on to the next", () => {
    const layout = layoutHeat(make(1, 4), 300, 600);
    expect(step(layout, { node: 0, gpu: 0 }, "ArrowRight")).toEqual({ node: 0, gpu: 1 });
    expect(step(layout, { node: 0, gpu: 3 }, "ArrowDown")).toEqual({ node: 1, gpu: 3 });
    expect(step(layout, { node: 1, gpu: 3 }, "ArrowUp")).toEqual({ node: 0, gpu: 3 });
    expect(step(layout, { node: 0, gpu: 0 }, "ArrowUp")).toEqual({ node: 0, gpu: 0 });
    expect(step(layout, { node: 0, gpu: 0 }, "ArrowLeft")).toEqual({ node: 0, gpu: 0 });
  });
  it("has colours as bytes", () => expect([hslBytes(0, 1, 0.5), hslBytes(120, 1, 0.5), hslBytes(240, 1, 0.5), hslBytes(0, 0, 1)].map((each) => each.toString(16))).toEqual(["ff0000ff", "ff00ff00", "ffff0000", "ffffffff"]));
  it("is coloured by use only where some node tells it", () => {
    const map = make(1, 2, 2);
    expect([modesOf(undefined), modesOf(map)]).toEqual([["state", "job"], ["state", "job"]]);
    map.nodes[0]!.utilisation = null;
    expect(modesOf(map)).toEqual(["state", "job"]);
    map.nodes[1]!.utilisation = [null, 0];
    expect(modesOf(map)).toEqual(["state", "job", "utilisation"]);
  });
  it("takes a GPU that was not measured for neither idle nor busy", () => {
    const map = make(1, 3, 2);
    expect(meanBusy(map)).toEqual({ gpus: 0, of: 0, mean: null });
    for (const node of map.nodes) node.gpus = "aa";
    map.nodes[0]!.utilisation = [100, null];
    map.nodes[1]!.utilisation = [0, 50];
    expect([busyOf(map.nodes[0]!, 1), busyOf(map.nodes[1]!, 0), busyOf(map.nodes[2]!, 0)]).toEqual([null, 0, null]);
    expect(meanBusy(map)).toEqual({ gpus: 3, of: 6, mean: 50 });
    map.nodes[0]!.gpus = "fa"; // it is free: what it does is nobody's work
    expect(meanBusy(map)).toEqual({ gpus: 2, of: 5, mean: 25 });
  });
  it("makes busy GPUs stand out from the page", () => expect([busyLightness(100, false) < busyLightness(0, false), busyLightness(100, true) > busyLightness(0, true)]).toEqual([true, true]));
  it("counts free GPUs of nodes that take no work apart", () => {
    const map = make(1, 2);
    map.nodes[0]!.service = "draining";
    map.nodes[1]!.gpus = "fadqxp";
    expect(countCells(map)).toEqual({ "out of service": 8, free: 1, allocated: 1, dirty: 1, quarantined: 1, absent: 1, preflight: 1 });
  });
});
