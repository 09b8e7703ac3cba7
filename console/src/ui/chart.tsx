// A chart on a canvas (uPlot: 100,000 points without a pause), with a table of its numbers for who does not see it.
import { useEffect, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import { colours, useDark } from "@/app/theme";
import { number } from "@/lib/format";
import { useRem } from "./rem";

const kLines = { light: ["#2d55c9", "#b5520a", "#1c7442", "#8a3ea8", "#a3123f", "#0b7285", "#6b6a00", "#5f3dc4"], dark: ["#8aa9ff", "#f0a35e", "#6fcf97", "#d4a3ea", "#ff8fae", "#66d0e0", "#d6d46a", "#b6a1ff"] } as const;
const kDashes: number[][] = [[], [6, 3], [2, 2], [8, 3, 2, 3]];

const two = (value: number) => String(value).padStart(2, "0");
/** Local, 24 h; with the day where the axis goes over one. */
function timeLabels(ticks: number[]): string[] {
  const step = (ticks[1] ?? 0) - (ticks[0] ?? 0);
  return ticks.map((tick) => {
    const date = new Date(tick * 1000);
    const clock = `${two(date.getHours())}:${two(date.getMinutes())}`;
    return step >= 86_400 ? `${two(date.getMonth() + 1)}-${two(date.getDate())}` : step < 60 ? `${clock}:${two(date.getSeconds())}` : clock;
  });
}

export interface Line {
  label: string;
  values: (number | null)[];
}
export function Chart({ title, unit = "", at, lines, height = 170, format = number, note }: { title: string; unit?: string; at: number[]; lines: Line[]; height?: number; format?: (value: number) => string; note?: string }) {
  const frame = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const dark = useDark();
  const rem = useRem();
  const [asTable, setAsTable] = useState(false);
  const data = useMemo(() => [at, ...lines.map((line) => line.values)] as uPlot.AlignedData, [at, lines]);
  const shape = lines.map((line) => line.label).join("\n");
  const latest = useRef(data);
  latest.current = data;
  useEffect(() => {
    const element = frame.current;
    if (!element || asTable) return;
    const paint = colours(["muted", "line", "surface"]);
    const palette = kLines[dark ? "dark" : "light"];
    const font = `${11 * rem}px ${getComputedStyle(element).fontFamily}`;
    const axis = { stroke: paint.muted, font, grid: { stroke: paint.line, width: 1 }, ticks: { show: false } };
    const chart = new uPlot({
      width: Math.max(200, element.clientWidth), height: height * rem,
      cursor: { y: false, points: { size: 6 } },
      legend: { show: shape.split("\n").length > 1 && shape.split("\n").length <= 12 },
      axes: [{ ...axis, space: 70 * rem, values: (_, ticks) => timeLabels(ticks) }, { ...axis, size: 58 * rem, values: (_, ticks) => ticks.map((tick) => format(tick)) }],
      series: [{ value: (_, value) => (value === null ? "–" : new Date(value * 1000).toLocaleTimeString([], { hour12: false })) }, ...shape.split("\n").map((label, i) => ({
        label, stroke: palette[i % palette.length]!, width: 1.5, dash: kDashes[Math.floor(i / palette.length) % kDashes.length]!, points: { show: false }, value: (_: uPlot, value: number | null) => (value === null ? "–" : format(value)),
      }))],
    }, latest.current, element);
    plot.current = chart;
    const observer = new ResizeObserver(() => chart.setSize({ width: Math.max(200, element.clientWidth), height: height * rem }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      chart.destroy();
      plot.current = null;
    };
  }, [shape, dark, height, asTable, format, rem]);
  useEffect(() => plot.current?.setData(data), [data]);
  const last = (line: Line) => line.values.findLast((value) => value !== null) ?? null;
  const summary = lines.slice(0, 4).map((line) => `${line.label} ${format(last(line) ?? NaN)}${unit ? " " + unit : ""}`).join(", ");
  return (
    <figure className="chart">
      <figcaption className="chart-title"><span>{title}{unit && <span className="faint"> {unit}</span>}</span><span className="row">{note && <span className="faint">{note}</span>}<button type="button" className="button quiet small" aria-pressed={asTable} onClick={() => setAsTable(!asTable)}>Table</button></span></figcaption>
      {asTable ? (
        <div className="table-wrap short" tabIndex={0} role="region" aria-label={`${title}, as a table`}>
          <table><thead><tr><th scope="col">Time</th>{lines.map((line) => <th scope="col" className="num" key={line.label}>{line.label}</th>)}</tr></thead>
            <tbody>{at.slice(-200).reverse().map((time, i) => <tr key={time}><td>{new Date(time * 1000).toLocaleTimeString([], { hour12: false })}</td>{lines.map((line) => { const value = line.values[at.length - 1 - i]; return <td className="num" key={line.label}>{value === null || value === undefined ? "–" : format(value)}</td>; })}</tr>)}</tbody></table>
        </div>
      ) : <div ref={frame} role="img" aria-label={`${title}: latest ${summary}`} />}
    </figure>
  );
}
