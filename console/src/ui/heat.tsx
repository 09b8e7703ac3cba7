// The heat map: a canvas with a keyboard. Drawn once per change; a second, small frame shows what the mouse or the keyboard is on.
import { useCallback, useEffect, useId, useLayoutEffect, useMemo, useRef, useState, type KeyboardEvent, type PointerEvent } from "react";
import { useNavigate } from "react-router";
import type { ClusterMap } from "@/api/wanted";
import { colours, useDark } from "@/app/theme";
import { hit, jobHue, kGpuWord, layoutHeat, outOfService, step, type HeatHit, type HeatLayout } from "@/lib/heatmap";

export type HeatMode = "state" | "job" | "utilisation";
const kColours = ["cell-free", "cell-busy", "cell-warn", "cell-bad", "cell-off", "cell-ink", "muted", "faint", "line-strong", "surface", "accent"] as const;
type Paint = Record<(typeof kColours)[number], string>;

function draw(context: CanvasRenderingContext2D, map: ClusterMap, layout: HeatLayout, paint: Paint, mode: HeatMode, dark: boolean, font: string) {
  const { cell, labels } = layout;
  const jobFill = new Map<number, string>();
  const fillOf = (letter: string, job: number | null, use: number | null | undefined) => {
    if (letter !== "a" && letter !== "p") return paint["cell-free"];
    if (mode === "job" && job !== null) {
      let fill = jobFill.get(job);
      if (!fill) jobFill.set(job, (fill = `hsl(${jobHue(job)} ${dark ? "45% 55%" : "50% 58%"})`));
      return fill;
    }
    if (mode === "utilisation" && use !== null && use !== undefined) return `hsl(222 60% ${dark ? 22 + use * 0.42 : 92 - use * 0.42}%)`;
    return paint["cell-busy"];
  };
  context.textBaseline = "middle";
  context.font = `11px ${font}`;
  context.fillStyle = paint.muted;
  for (const tile of layout.tiles) {
    if (!tile.title) continue;
    let title = tile.title;
    while (title.length > 3 && context.measureText(title).width > tile.width + 6) title = title.slice(0, -2) + "…";
    context.fillText(title, tile.x, tile.y + 7);
  }
  for (const place of layout.nodes) {
    const node = map.nodes[place.index]!;
    const off = outOfService(node.state, node.service);
    if (labels) {
      context.fillStyle = off ? paint.faint : paint.muted;
      let name = node.name;
      while (name.length > 3 && context.measureText(name).width > labels - 8) name = name.slice(0, -2) + "…";
      context.fillText(name, place.x - labels, place.y + cell / 2 + 0.5);
    }
    for (let g = 0; g < place.gpus; ++g) {
      const letter = node.gpus[g] ?? "x";
      const x = place.x + g * layout.step;
      const y = place.y;
      if (letter === "x") {
        context.strokeStyle = paint["line-strong"];
        context.setLineDash([2, 2]);
        context.strokeRect(x + 0.5, y + 0.5, cell - 1, cell - 1);
        context.setLineDash([]);
        continue;
      }
      context.fillStyle = off && letter === "f" ? paint["cell-off"] : fillOf(letter, node.jobs[g] ?? null, node.utilisation?.[g]);
      context.fillRect(x, y, cell, cell);
      if (letter === "p") {
        context.fillStyle = paint["cell-free"];
        context.fillRect(x, y + cell / 2, cell, cell / 2);
      } else if (letter === "d") {
        context.fillStyle = paint["cell-warn"];
        context.fillRect(x, y, cell, cell);
        context.strokeStyle = paint.surface;
        context.lineWidth = Math.max(1, cell / 9);
        context.beginPath();
        context.moveTo(x, y + cell);
        context.lineTo(x + cell, y);
        context.stroke();
        context.lineWidth = 1;
      } else if (letter === "q") {
        context.fillStyle = paint["cell-bad"];
        context.fillRect(x, y, cell, cell);
        context.strokeStyle = paint["cell-ink"];
        context.lineWidth = Math.max(1, cell / 10);
        context.beginPath();
        context.moveTo(x + 1, y + 1);
        context.lineTo(x + cell - 1, y + cell - 1);
        context.moveTo(x + cell - 1, y + 1);
        context.lineTo(x + 1, y + cell - 1);
        context.stroke();
        context.lineWidth = 1;
      }
      if (off) {
        context.fillStyle = paint["cell-ink"];
        context.fillRect(x, y + Math.floor(cell / 2), cell, Math.max(1, Math.round(cell / 11)));
      }
    }
  }
}

export function describe(map: ClusterMap, at: HeatHit): { head: string; lines: string[] } {
  const node = map.nodes[at.node];
  if (!node) return { head: "", lines: [] };
  const job = node.jobs[at.gpu] ?? null;
  const { block, rack } = map.racks[node.rack] ?? { block: "", rack: "" };
  const use = node.utilisation?.[at.gpu];
  return {
    head: `${node.name} · GPU ${at.gpu}`,
    lines: [
      `${kGpuWord[node.gpus[at.gpu] ?? "x"] ?? "absent"}${job !== null ? `, job ${job}` : ""}${use !== null && use !== undefined ? `, ${use} % used` : ""}`,
      ...(node.state !== "reachable" || node.service !== "schedulable" ? [`node ${node.state}, ${node.service}`] : []),
      ...(node.conditions > 0 ? [`${node.conditions} condition${node.conditions > 1 ? "s" : ""}`] : []),
      ...(rack || block ? [[block && `block ${block}`, rack && `rack ${rack}`].filter(Boolean).join(", ")] : []),
    ],
  };
}

export function Heat({ map, mode, tall = 620 }: { map: ClusterMap; mode: HeatMode; tall?: number }) {
  const frame = useRef<HTMLDivElement>(null);
  const canvas = useRef<HTMLCanvasElement>(null);
  const tip = useRef<HTMLDivElement>(null);
  const mark = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  const [said, setSaid] = useState("");
  const dark = useDark();
  const navigate = useNavigate();
  const help = useId();
  const cursor = useRef<HeatHit | null>(null);

  useLayoutEffect(() => {
    const element = frame.current;
    if (!element) return;
    const observer = new ResizeObserver(() => setWidth(Math.floor(element.clientWidth)));
    observer.observe(element);
    setWidth(Math.floor(element.clientWidth));
    return () => observer.disconnect();
  }, []);

  const layout = useMemo(() => (width > 0 ? layoutHeat(map, width, Math.max(320, Math.min(tall, window.innerHeight - 300))) : null), [map, width, tall]);

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
    draw(context, map, layout, colours(kColours), mode, dark, getComputedStyle(element).fontFamily);
  }, [map, layout, mode, dark, width]);

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
    const px = Math.min((x ?? box.left + left + layout.cell) + 14, window.innerWidth - 240);
    const py = Math.min((y ?? box.top + place.y) + 14, window.innerHeight - 110);
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
