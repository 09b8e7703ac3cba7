// The plan on a time axis. Planned bars are hatched, ranges are thin lines with ends, reservations are dotted frames: colour is not needed to read it.
import { useId } from "react";
import { useNavigate } from "react-router";
import { localTime, duration, plural } from "@/lib/format";
import type { Gantt } from "@/lib/gantt";
import { ticks } from "@/lib/timeline";
import { useRem } from "./rem";
import { useWidth } from "./use-width";

const kLane = 18;
const kPad = 6;
export function GanttView({ gantt, now, label, mark }: { gantt: Gantt; now: number; label: string; mark?: number }) {
  const [ref, real] = useWidth<HTMLDivElement>();
  const rem = useRem();
  const width = real / rem; // drawn as for a usual screen, and scaled as a whole
  const navigate = useNavigate();
  const hatch = useId().replaceAll(/[^a-z0-9]/gi, "");
  const names = Math.min(200, Math.max(90, width * 0.18));
  const room = Math.max(80, width - names - 14);
  const x = (at: number) => names + ((Math.min(Math.max(at, gantt.from), gantt.to) - gantt.from) / (gantt.to - gantt.from)) * room;
  const shown = gantt.rows.slice(0, 400);
  let y = 22;
  const places = shown.map((row) => {
    const top = y;
    y += row.lanes * kLane + kPad;
    return top;
  });
  const height = y + 4;
  return (
    <div ref={ref} className="gantt" tabIndex={0} role="region" aria-label={label}>
      {width > 0 && (
        <svg width={real} height={height * rem} viewBox={`0 0 ${width} ${height}`} role="group" aria-label={`${plural(gantt.rows.length, "row")}`}>
          <defs><pattern id={hatch} width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="7" height="7" className="gantt-hatch-ground" /><rect width="3" height="7" className="gantt-hatch" /></pattern></defs>
          {ticks(gantt.from, gantt.to, Math.max(2, Math.floor(room / 90))).map((at) => <g key={at}><line x1={x(at)} x2={x(at)} y1={18} y2={height} className="tl-grid" /><text x={x(at)} y={12} textAnchor="middle">{localTime(at, now)}</text></g>)}
          {shown.map((row, i) => (
            <g key={row.name}>
              <line x1={0} x2={width} y1={places[i]! + row.lanes * kLane + kPad / 2} y2={places[i]! + row.lanes * kLane + kPad / 2} className="tl-grid" />
              <svg x={0} y={places[i]!} width={names - 8} height={row.lanes * kLane}><text x={4} y={13} className="gantt-name">{row.name}<title>{row.name}</title></text></svg>
              {row.bars.map((bar, k) => {
                const top = places[i]! + bar.lane * kLane + 2;
                const w = Math.max(2, x(bar.to) - x(bar.from));
                const text = `${bar.kind} ${bar.kind === "reservation" ? bar.name : bar.job === null ? "job of another project" : `${bar.name}, job ${bar.job}`}${bar.gpus ? `, ${bar.gpus} GPUs` : ""}\n${localTime(bar.from, now)} to ${bar.open ? "beyond what is shown" : `${localTime(bar.to, now)} (${duration((bar.to - bar.from) / 1000)})`}${bar.rangeFrom !== null && bar.rangeTo !== null ? `\nstarts between ${localTime(bar.rangeFrom, now)} and ${localTime(bar.rangeTo, now)}` : ""}`;
                const open = bar.job === null ? {} : { onClick: () => void navigate(`/jobs/${bar.job}`), role: "link", tabIndex: 0, "aria-label": text, onKeyDown: (event: React.KeyboardEvent) => { if (event.key === "Enter") void navigate(`/jobs/${bar.job}`); }, className: "gantt-link" };
                return (
                  <g key={k} {...open}>
                    <rect x={x(bar.from)} y={top} width={w} height={kLane - 5} rx={2} className={`gantt-${bar.kind}`} {...(bar.kind === "planned" ? { fill: `url(#${hatch})` } : {})} />
                    {bar.open && <path d={`M${x(bar.to) - 1} ${top} l4 ${(kLane - 5) / 2} l-4 ${(kLane - 5) / 2}`} className="gantt-open" />}
                    {bar.rangeFrom !== null && bar.rangeTo !== null && <path d={`M${x(bar.rangeFrom)} ${top + 10.5} v6 m0 -3 H${x(bar.rangeTo)} m0 -3 v6`} className="gantt-range" />}
                    {w > 60 && <svg x={x(bar.from)} y={top} width={w - 4} height={kLane - 5}><text x={5} y={10.5} className={`gantt-text ${bar.kind}`}>{bar.name}</text></svg>}
                    <title>{text}</title>
                  </g>
                );
              })}
            </g>
          ))}
          <line x1={x(mark ?? now)} x2={x(mark ?? now)} y1={18} y2={height} className="gantt-now" />
        </svg>
      )}
      {gantt.rows.length > shown.length && <p className="faint">The first {shown.length} of {gantt.rows.length} rows.</p>}
    </div>
  );
}
