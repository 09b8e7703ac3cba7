// The heat map: a canvas with a keyboard. Drawn once per change; a second, small frame shows what the mouse or the keyboard is on.
import { useCallback, useEffect, useId, useMemo, useRef, useState, type KeyboardEvent, type PointerEvent } from "react";
import { useNavigate } from "react-router";
import type { ClusterMap } from "@/api/types";
import { colours, useDark } from "@/app/theme";
import { hit, hslBytes, jobHue, kGpuWord, layoutHeat, outOfService, sameShape, step, busyLightness, busyOf, type HeatHit, type HeatLayout, type HeatMode } from "@/lib/heatmap";
import { useRem } from "@/ui/rem";
import { useWidth } from "@/ui/use-width";

const kColours = ["cell-free", "cell-busy", "cell-warn", "cell-bad", "cell-off", "cell-ink", "muted", "faint", "line-strong", "surface", "accent"] as const;
type Paint = Record<(typeof kColours)[number], string>;

/** Colours of the sheet as bytes: "rgb(1, 2, 3)", "color(srgb …)" and the like, through a canvas of one pixel. Few, and remembered. */
const kBytes = new Map<string, number>();
let pixel: CanvasRenderingContext2D | null = null;
function bytesOf(css: string): number {
  const known = kBytes.get(css);
  if (known !== undefined) return known;
  if (!pixel) {
    const one = document.createElement("canvas");
    one.width = one.height = 1;
    pixel = one.getContext("2d", { willReadFrequently: true })!;
  }
  pixel.fillStyle = css;
  pixel.fillRect(0, 0, 1, 1);
  const value = new Uint32Array(pixel.getImageData(0, 0, 1, 1).data.buffer)[0]!;
  kBytes.set(css, value);
  return value;
}

/** Cells go into a picture of bytes: 16,384 of them take two milliseconds so, and thirty times that as rectangles of a canvas. */
function draw(context: CanvasRenderingContext2D, map: ClusterMap, layout: HeatLayout, paint: Paint, mode: HeatMode, dark: boolean, font: string, ratio: number, rem: number) {
  const { cell, labels } = layout;
  const image = context.createImageData(context.canvas.width, context.canvas.height);
  const pixels = new Uint32Array(image.data.buffer);
  const stride = image.width;
  const rows = image.height;
  const rect = (x: number, y: number, w: number, h: number, value: number) => {
    const [left, right] = [Math.round(x * ratio), Math.min(stride, Math.round((x + w) * ratio))];
    const [top, bottom] = [Math.round(y * ratio), Math.min(rows, Math.max(Math.round(y * ratio) + 1, Math.round((y + h) * ratio)))];
    // Spans are a few pixels long: a loop is quicker than a call of fill() for each.
    for (let row = top; row < bottom; ++row) for (let at = row * stride + left, end = row * stride + right; at < end; ++at) pixels[at] = value;
  };
  const of = Object.fromEntries(kColours.map((name) => [name, bytesOf(paint[name])])) as Record<(typeof kColours)[number], number>;
  const jobFill = new Map<number, number>();
  const fillOf = (letter: string, job: number | null, use: number | null) => {
    if (letter === "d") return of["cell-warn"];
    if (letter === "q") return of["cell-bad"];
    if (letter !== "a" && letter !== "p") return of["cell-free"];
    if (mode === "job" && job !== null) {
      let fill = jobFill.get(job);
      if (fill === undefined) jobFill.set(job, (fill = hslBytes(jobHue(job), dark ? 0.45 : 0.5, dark ? 0.55 : 0.58)));
      return fill;
    }
    if (mode === "utilisation") return use === null ? of["cell-off"] : hslBytes(222, 0.6, busyLightness(use, dark));
    return of["cell-busy"];
  };
  const strokes: [letter: string, x: number, y: number][] = []; // few: what a rectangle cannot say
  const line = Math.max(1, Math.round(cell / 11));
  for (const place of layout.nodes) {
    const node = map.nodes[place.index]!;
    const off = outOfService(node.state, node.service);
    for (let g = 0; g < place.gpus; ++g) {
      const letter = node.gpus[g] ?? "x";
      const x = place.x + g * layout.step;
      if (letter === "x" || letter === "d" || letter === "q") strokes.push([letter, x, place.y]);
      if (letter === "x") continue;
      rect(x, place.y, cell, cell, off && letter === "f" ? of["cell-off"] : fillOf(letter, node.jobs[g] ?? null, busyOf(node, g)));
      if (letter === "p") rect(x, place.y + cell / 2, cell, cell / 2, of["cell-free"]);
      if (off) rect(x, place.y + Math.floor(cell / 2), cell, line, of["cell-ink"]);
    }
  }
  context.putImageData(image, 0, 0);
  for (const [letter, x, y] of strokes) {
    context.strokeStyle = paint[letter === "x" ? "line-strong" : letter === "d" ? "surface" : "cell-ink"];
    context.lineWidth = letter === "x" ? 1 : Math.max(1, cell / 10);
    context.beginPath();
    if (letter === "x") context.rect(x + 0.5, y + 0.5, cell - 1, cell - 1);
    else if (letter === "d") {
      context.moveTo(x, y + cell);
      context.lineTo(x + cell, y);
    } else {
      context.moveTo(x + 1, y + 1);
      context.lineTo(x + cell - 1, y + cell - 1);
      context.moveTo(x + cell - 1, y + 1);
      context.lineTo(x + 1, y + cell - 1);
    }
    context.stroke();
  }
  context.textBaseline = "middle";
  context.font = `${11 * rem}px ${font}`;
  context.fillStyle = paint.muted;
  const cut = (text: string, most: number) => {
    let out = text;
    while (out.length > 3 && context.measureText(out).width > most) out = out.slice(0, -2) + "…";
    return out;
  };
  for (const tile of layout.tiles) if (tile.title) context.fillText(cut(tile.title, tile.width + 6), tile.x, tile.y + 7 * rem);
  if (labels) for (const place of layout.nodes) {
    const node = map.nodes[place.index]!;
    context.fillStyle = outOfService(node.state, node.service) ? paint.faint : paint.muted;
    context.fillText(cut(node.name, labels - 8), place.x - labels, place.y + cell / 2 + 0.5);
  }
}

export function describe(map: ClusterMap, at: HeatHit): { head: string; lines: string[] } {
  const node = map.nodes[at.node];
  if (!node) return { head: "", lines: [] };
  const job = node.jobs[at.gpu] ?? null;
  const { block, rack } = map.racks[node.rack] ?? { block: "", rack: "" };
  const use = busyOf(node, at.gpu);
  return {
    head: `${node.name} · GPU ${at.gpu}`,
    lines: [
      `${kGpuWord[node.gpus[at.gpu] ?? "x"] ?? "absent"}${job !== null ? `, job ${job}` : ""}${use !== null ? `, ${use} % used` : ""}`,
      ...(node.state !== "reachable" || node.service !== "schedulable" ? [`node ${node.state}, ${node.service}`] : []),
      ...(node.conditions > 0 ? [`${node.conditions} condition${node.conditions > 1 ? "s" : ""}`] : []),
      ...(rack || block ? [[block && `block ${block}`, rack && `rack ${rack}`].filter(Boolean).join(", ")] : []),
    ],
  };
}

export function Heat({ map, mode, tall = 620 }: { map: ClusterMap; mode: HeatMode; tall?: number }) {
  const [frame, width] = useWidth<HTMLDivElement>();
  const canvas = useRef<HTMLCanvasElement>(null);
  const tip = useRef<HTMLDivElement>(null);
  const mark = useRef<HTMLDivElement>(null);
  const [said, setSaid] = useState("");
  const dark = useDark();
  const rem = useRem();
  const navigate = useNavigate();
  const help = useId();
  const cursor = useRef<HeatHit | null>(null);

  // Most new maps have the same nodes in the same places.
  const shape = useRef(map);
  if (shape.current !== map && !sameShape(shape.current, map)) shape.current = map;
  const placed = shape.current;
  const layout = useMemo(() => (width > 0 ? layoutHeat(placed, width, Math.max(320, Math.min(tall, window.innerHeight / rem - 300)) * rem, rem) : null), [placed, width, tall, rem]);

  useEffect(() => {
    const element = canvas.current;
    const context = element?.getContext("2d");
    if (!element || !context || !layout) return;
    const ratio = Math.min(3, window.devicePixelRatio || 1);
    const cssWidth = Math.max(layout.width, Math.min(width, 60));
    element.width = Math.ceil(cssWidth * ratio);
    element.height = Math.ceil(layout.height * ratio);
    element.style.width = `${cssWidth}px`;
    element.style.height = `${layout.height}px`;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, cssWidth, layout.height);
    draw(context, map, layout, colours(kColours), mode, dark, getComputedStyle(element).fontFamily, ratio, rem);
  }, [map, layout, mode, dark, width, rem]);

  /** Shows where we are, without a render: this is on the path of each mouse move. */
  const show = useCallback((at: HeatHit | null, x?: number, y?: number) => {
    cursor.current = at;
    const place = at && layout ? layout.nodes[layout.byNode[at.node] ?? -1] : null;
    const box = canvas.current?.getBoundingClientRect();
    if (!tip.current || !mark.current) return;
    if (!at || !place || !layout || !box) {
      tip.current.hidden = mark.current.hidden = true;
      return;
    }
    const { head, lines } = describe(map, at);
    const left = place.x + at.gpu * layout.step;
    mark.current.hidden = tip.current.hidden = false;
    mark.current.style.transform = `translate(${left - 2}px, ${place.y - 2}px)`;
    mark.current.style.width = mark.current.style.height = `${layout.cell + 4}px`;
    (tip.current.firstChild as HTMLElement).textContent = head;
    (tip.current.lastChild as HTMLElement).textContent = lines.join("\n");
    const px = Math.min((x ?? box.left + left + layout.cell) + 14, window.innerWidth - 240 * rem);
    const py = Math.min((y ?? box.top + place.y) + 14, window.innerHeight - 110 * rem);
    tip.current.style.transform = `translate(${px}px, ${py}px)`;
  }, [layout, map]);

  const move = (event: PointerEvent) => {
    const box = canvas.current?.getBoundingClientRect();
    if (!box || !layout) return;
    show(hit(layout, event.clientX - box.left, event.clientY - box.top), event.clientX, event.clientY);
  };
  const open = (at: HeatHit | null) => {
    const node = at ? map.nodes[at.node] : null;
    if (!at || !node) return;
    const job = node.jobs[at.gpu] ?? null;
    void navigate(job !== null ? `/jobs/${job}` : `/nodes/${encodeURIComponent(node.name)}`);
  };
  const press = (event: KeyboardEvent) => {
    if (!layout || layout.nodes.length === 0) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      return open(cursor.current);
    }
    if (event.key === "Escape") return show(null);
    let next: HeatHit | null = null;
    if (event.key === "Home") next = { node: layout.nodes[0]!.index, gpu: 0 };
    else if (event.key === "End") next = { node: layout.nodes.at(-1)!.index, gpu: 0 };
    else if (event.key.startsWith("Arrow")) next = cursor.current ? step(layout, cursor.current, event.key as "ArrowLeft") : { node: layout.nodes[0]!.index, gpu: 0 };
    if (!next) return;
    event.preventDefault();
    show(next);
    const { head, lines } = describe(map, next);
    setSaid(`${head}: ${lines.join(", ")}`);
    const place = layout.nodes[layout.byNode[next.node]!]!;
    const box = frame.current;
    if (box) {
      if (place.y < box.scrollTop) box.scrollTop = place.y - 20;
      else if (place.y + layout.step > box.scrollTop + box.clientHeight) box.scrollTop = place.y + layout.step - box.clientHeight + 20;
    }
  };
  return (
    <div className="heat" ref={frame}>
      <canvas ref={canvas} tabIndex={0} role="application" aria-roledescription="map of GPUs" aria-describedby={help}
        aria-label={`${map.nodes.length} nodes, ${map.nodes.reduce((sum, node) => sum + node.gpus.length, 0)} GPUs`}
        onPointerMove={move} onPointerLeave={() => show(null)} onClick={(event) => {
          const box = canvas.current?.getBoundingClientRect();
          if (box && layout) open(hit(layout, event.clientX - box.left, event.clientY - box.top));
        }} onKeyDown={press} onBlur={() => show(null)} />
      <div ref={mark} className="heat-mark" hidden />
      <div ref={tip} className="tip" hidden role="presentation"><b /><div className="pre" /></div>
      <p id={help} className="visually-hidden">Arrow keys go from GPU to GPU, Enter opens its job, or its node when it is free. The page Nodes has the same as a table.</p>
      <p className="visually-hidden" aria-live="polite">{said}</p>
    </div>
  );
}
