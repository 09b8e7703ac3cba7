// Where each GPU of the cluster is on the heat map. Pure: a width goes in, places come out; drawing and the mouse are elsewhere.
// A rack is a tile; in it one row per node (in several columns when there are many), one cell per GPU. Tiles flow like words.
// Invariants: (1) no two cells overlap; (2) no cell lies right of `width` unless a single node does not fit; (3) hit() of a cell's middle is that cell.
import type { ClusterMap } from "@/api/types";

export interface HeatNode {
  index: number; // in map.nodes
  x: number; // of its first cell
  y: number;
  gpus: number;
}
export interface HeatTile {
  title: string;
  x: number;
  y: number;
  width: number;
  height: number;
}
export interface HeatLayout {
  cell: number; // side of a cell
  step: number; // from one cell to the next
  labels: number; // width of node names, 0 = none
  width: number;
  height: number;
  tiles: HeatTile[];
  nodes: HeatNode[];
  byNode: Int32Array; // place in `nodes` of each node of the map
}

const kGap = 14;
const kHead = 18;
const kSizes = [36, 30, 26, 22, 18, 15, 12, 10, 8, 7, 6, 5, 4];
const kRowsMost = 32;

/** `usual` is the cell on a usual screen: what goes with it (names, columns) is chosen by that. */
function pack(map: ClusterMap, width: number, usual: number, rem: number): HeatLayout {
  const cell = Math.round(usual * rem);
  const gap = cell >= 12 ? 2 : 1;
  const step = cell + gap;
  const longest = map.nodes.reduce((most, node) => Math.max(most, node.name.length), 0);
  const labels = usual >= 15 ? Math.ceil(Math.min(132, longest * 6.6 + 8) * rem) : 0;
  const members: number[][] = map.racks.map(() => []);
  map.nodes.forEach((node, i) => members[node.rack]?.push(i));
  const tiles: HeatTile[] = [];
  const nodes: HeatNode[] = [];
  const byNode = new Int32Array(map.nodes.length).fill(-1);
  const alone = map.racks.length === 1 && !map.racks[0]?.rack;
  let x = 0;
  let y = 0;
  let shelf = 0;
  let used = 0;
  members.forEach((list, r) => {
    if (list.length === 0) return;
    const most = Math.max(1, ...list.map((i) => map.nodes[i]!.gpus.length));
    const column = labels + most * step + (cell >= 12 ? 16 : 6);
    const fit = Math.max(1, Math.floor((width + (cell >= 12 ? 16 : 6)) / column));
    // One unnamed rack: as many columns as fit. Else tall tiles, which part racks best.
    const wantColumns = alone ? Math.min(fit, Math.ceil(list.length / (usual >= 30 ? 4 : usual >= 15 ? 8 : 16)) || 1) : Math.ceil(list.length / kRowsMost);
    const columns = Math.max(1, Math.min(wantColumns, fit));
    const rows = Math.ceil(list.length / columns);
    const head = alone ? 0 : Math.round(kHead * rem);
    const w = Math.max(columns * column - (cell >= 12 ? 16 : 6), alone ? 0 : 40);
    const h = head + rows * step;
    if (x > 0 && x + w > width) {
      x = 0;
      y += shelf + kGap;
      shelf = 0;
    }
    const { block, rack } = map.racks[r]!;
    tiles.push({ title: alone ? "" : rack ? (block && cell >= 8 ? `${block} / ${rack}` : rack) : "no rack", x, y, width: w, height: h });
    list.forEach((i, place) => {
      byNode[i] = nodes.length;
      nodes.push({ index: i, x: x + Math.floor(place / rows) * column + labels, y: y + head + (place % rows) * step, gpus: map.nodes[i]!.gpus.length });
    });
    used = Math.max(used, x + w);
    x += w + kGap;
    shelf = Math.max(shelf, h);
  });
  return { cell, step, labels, width: Math.max(used, 1), height: y + shelf, tiles, nodes, byNode };
}

/** The largest cells with which all is seen in `height`; the smallest, when nothing is. */
export function layoutHeat(map: ClusterMap, width: number, height: number, rem = 1): HeatLayout {
  const gpus = map.nodes.reduce((sum, node) => sum + node.gpus.length, 0);
  const least = kSizes.at(-1)!;
  let last: HeatLayout | null = null;
  for (const usual of kSizes) {
    // Cells lie apart from each other: with less room than they take together there is no need to try.
    if (usual !== least && gpus * (usual * rem) ** 2 > width * height) continue;
    const layout = pack(map, Math.max(width, 60), usual, rem);
    if (layout.height <= height && layout.width <= width) return layout;
    last = layout;
  }
  return last!;
}

/** Two maps of the same nodes at the same places: the layout of one is that of the other. */
export function sameShape(a: ClusterMap, b: ClusterMap): boolean {
  if (a.nodes.length !== b.nodes.length || a.racks.length !== b.racks.length) return false;
  for (let i = 0; i < a.racks.length; ++i) if (a.racks[i]!.rack !== b.racks[i]!.rack || a.racks[i]!.block !== b.racks[i]!.block) return false;
  for (let i = 0; i < a.nodes.length; ++i) {
    const [one, other] = [a.nodes[i]!, b.nodes[i]!];
    if (one.name !== other.name || one.rack !== other.rack || one.gpus.length !== other.gpus.length) return false;
  }
  return true;
}

export interface HeatHit {
  node: number; // in map.nodes
  gpu: number;
}
export function hit(layout: HeatLayout, x: number, y: number): HeatHit | null {
  for (const node of layout.nodes) {
    const dx = x - node.x;
    const dy = y - node.y;
    if (dy < 0 || dy >= layout.step || dx < -layout.labels || dx >= node.gpus * layout.step) continue;
    return { node: node.index, gpu: Math.max(0, Math.floor(dx / layout.step)) };
  }
  return null;
}

/** The cell to which an arrow key leads: along the GPUs of a node, then to the nearest node in that direction. */
export function step(layout: HeatLayout, from: HeatHit, key: "ArrowLeft" | "ArrowRight" | "ArrowUp" | "ArrowDown"): HeatHit {
  const here = layout.nodes[layout.byNode[from.node] ?? -1];
  if (!here) return layout.nodes[0] ? { node: layout.nodes[0].index, gpu: 0 } : from;
  if (key === "ArrowRight" && from.gpu + 1 < here.gpus) return { node: from.node, gpu: from.gpu + 1 };
  if (key === "ArrowLeft" && from.gpu > 0) return { node: from.node, gpu: from.gpu - 1 };
  const cx = here.x + from.gpu * layout.step;
  let best: HeatNode | null = null;
  let bestFar = Infinity;
  for (const node of layout.nodes) {
    if (node === here || node.gpus === 0) continue;
    const nx = Math.min(Math.max(cx, node.x), node.x + (node.gpus - 1) * layout.step);
    const dx = key === "ArrowLeft" || key === "ArrowRight" ? (key === "ArrowLeft" ? here.x - (node.x + (node.gpus - 1) * layout.step) : node.x - (here.x + (here.gpus - 1) * layout.step)) : Math.abs(nx - cx);
    const dy = key === "ArrowUp" ? here.y - node.y : key === "ArrowDown" ? node.y - here.y : Math.abs(node.y - here.y);
    if ((key === "ArrowLeft" || key === "ArrowRight" ? dx : dy) <= 0) continue;
    const far = key === "ArrowLeft" || key === "ArrowRight" ? dx + dy * 4 : dy + dx * 4;
    if (far < bestFar) {
      bestFar = far;
      best = node;
    }
  }
  if (!best) return from;
  const gpu = key === "ArrowLeft" ? best.gpus - 1 : key === "ArrowRight" ? 0 : Math.max(0, Math.min(best.gpus - 1, Math.round((cx - best.x) / layout.step)));
  return { node: best.index, gpu };
}

export const kGpuWord: Record<string, string> = { f: "free", a: "allocated", p: "preflight", d: "dirty", q: "quarantined", x: "absent" };
/** How many GPUs are in each state; on nodes that take no work they count as "out of service". */
export function countCells(map: ClusterMap): Record<string, number> {
  const out: Record<string, number> = {};
  for (const node of map.nodes) {
    const out_of_service = outOfService(node.state, node.service);
    for (const letter of node.gpus) {
      const word = letter === "f" && out_of_service ? "out of service" : (kGpuWord[letter] ?? "absent");
      out[word] = (out[word] ?? 0) + 1;
    }
  }
  return out;
}
export const outOfService = (state: string, service: string) => state !== "reachable" || !["schedulable", "probation"].includes(service);

export type HeatMode = "state" | "job" | "utilisation";
/** What the cells can be coloured by: by how busy they are only where some node tells it. */
export const modesOf = (map: ClusterMap | undefined): HeatMode[] => ["state", "job", ...(map?.nodes.some((node) => node.utilisation) ? ["utilisation" as const] : [])];

/** How busy a GPU is in percent; null where it was not measured. */
export const busyOf = (node: ClusterMap["nodes"][number], gpu: number): number | null => node.utilisation?.[gpu] ?? null;
/** Busy GPUs stand out: dark on a light page, light on a dark one. */
export const busyLightness = (percent: number, dark: boolean) => (dark ? 22 + percent * 0.42 : 92 - percent * 0.42) / 100;
/** Of the GPUs that work is on: how many were measured, and their mean in percent. */
export function meanBusy(map: ClusterMap): { gpus: number; of: number; mean: number | null } {
  let [gpus, of, sum] = [0, 0, 0];
  for (const node of map.nodes) for (let gpu = 0; gpu < node.gpus.length; ++gpu) {
    if (node.gpus[gpu] !== "a" && node.gpus[gpu] !== "p") continue;
    of += 1;
    const use = busyOf(node, gpu);
    if (use === null) continue;
    gpus += 1;
    sum += use;
  }
  return { gpus, of, mean: gpus > 0 ? sum / gpus : null };
}

/** A hue for a job that is the same on every page; neighbours differ. */
export const jobHue = (job: number) => Math.round((job * 137.508) % 360);

/** A colour as a picture's bytes (red first in memory): there may be a colour for each of thousands of jobs. */
export function hslBytes(hue: number, saturation: number, lightness: number): number {
  const part = (n: number) => {
    const k = (n + hue / 30) % 12;
    return Math.round(255 * (lightness - saturation * Math.min(lightness, 1 - lightness) * Math.max(-1, Math.min(k - 3, 9 - k, 1))));
  };
  return ((255 << 24) | (part(4) << 16) | (part(8) << 8) | part(0)) >>> 0;
}
