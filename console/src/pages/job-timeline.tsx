// One lane per attempt. Colour and pattern for the phases, a sign of its own for each kind of mark.
import { useMemo, useState } from "react";
import type { Attempt, Job, Schema } from "@/api/types";
import { duration, localTime, utcTime } from "@/lib/format";
import { ticks, timelineOf, type Mark } from "@/lib/timeline";
import { useNow } from "@/ui/now";
import { Button } from "@/ui/bits";
import { useRem } from "@/ui/rem";
import { useWidth } from "@/ui/use-width";

const kLane = 30;
const kLeft = 74;
const kRight = 132;

function Sign({ mark, x, y }: { mark: Mark; x: number; y: number }) {
  switch (mark.kind) {
    case "checkpoint": return <path d={`M${x} ${y - 5} l5 5 l-5 5 l-5 -5 z`} className="tl-checkpoint" />;
    case "fault": return <path d={`M${x} ${y - 7} l7 12 h-14 z`} className="tl-fault" />;
    case "stop": return <rect x={x - 4} y={y - 4} width={8} height={8} className="tl-stop" />;
    case "end": return <path d={`M${x} ${y - 9} v18`} className="tl-end" />;
  }
}

export function JobTimeline({ job, attempts, checkpoints, onAttempt, selected }: { job: Job; attempts: Attempt[]; checkpoints: Schema["Checkpoint"][]; onAttempt: (n: number) => void; selected: number }) {
  const [ref, real] = useWidth<HTMLDivElement>();
  const rem = useRem();
  const width = real / rem; // drawn as for a usual screen, and scaled as a whole
  const clock = useNow();
  const now = job.ended_at ? 0 : clock;
  const [all, setAll] = useState(false);
  const line = useMemo(() => timelineOf(job, attempts, checkpoints, now), [job, attempts, checkpoints, now]);
  const lanes = all ? line.lanes : line.lanes.slice(-12);
  // What is not shown needs no room on the axis.
  const from = lanes.length < line.lanes.length ? Math.min(...lanes.flatMap((lane) => lane.pieces.map((piece) => piece.from))) : line.from;
  const span = Math.max(1, line.to - from);
  const room = Math.max(60, width - kLeft - kRight);
  const x = (at: number) => kLeft + ((Math.max(at, from) - from) / span) * room;
  const height = lanes.length * kLane + 22;
  return (
    <div ref={ref} className="stack tight">
      <div className="legend">
        {(["queued", "preflight", "starting", "running", "stopping"] as const).map((phase) => <span key={phase}><svg width="14" height="10" aria-hidden="true"><rect width="14" height="10" rx="2" className={`tl-${phase}`} /></svg>{phase}</span>)}
        {(["checkpoint", "fault", "stop"] as const).map((kind) => <span key={kind}><svg width="14" height="14" aria-hidden="true"><Sign mark={{ kind, at: 0, text: "" }} x={7} y={7} /></svg>{kind === "stop" ? "planned stop" : kind}</span>)}
      </div>
      {width > 0 && (
        <svg className="timeline-svg" height={height * rem} viewBox={`0 0 ${width} ${height}`} role="img" aria-label={`${line.lanes.length} attempts: ${lanes.map((lane) => `${lane.attempt} ${lane.text}`).join("; ")}`}>
          {ticks(from, line.to, Math.max(2, Math.floor(room / 90))).map((at) => <g key={at}><line x1={x(at)} x2={x(at)} y1={0} y2={height - 18} className="tl-grid" /><text x={x(at)} y={height - 5} textAnchor="middle">{localTime(at, clock, span < 600_000)}</text></g>)}
          {lanes.map((lane, i) => {
            const y = i * kLane;
            return (
              <g key={lane.attempt}>
                {lane.attempt === selected && <rect x={0} y={y + 1} width={width} height={kLane - 2} rx={4} className="tl-selected" />}
                <text x={8} y={y + kLane / 2 + 4} className="tl-name">attempt {lane.attempt}</text>
                {lane.pieces.map((piece, k) => <rect key={k} x={x(piece.from)} y={y + (piece.phase === "queued" ? 13 : 8)} width={Math.max(1, x(piece.to) - x(piece.from))} height={piece.phase === "queued" ? 4 : 14} rx={2} className={`tl-${piece.phase}`}><title>{`${piece.phase} ${duration((piece.to - piece.from) / 1000)}\n${localTime(piece.from, clock, true)} to ${localTime(piece.to, clock, true)}\n${utcTime(piece.from)}`}</title></rect>)}
                {lane.marks.map((mark, k) => <g key={k}><Sign mark={mark} x={x(mark.at)} y={y + 15} /><title>{`${mark.text}\n${localTime(mark.at, clock, true)}\n${utcTime(mark.at)}`}</title></g>)}
                <text x={width - 8} y={y + kLane / 2 + 4} textAnchor="end">{lane.text}</text>
              </g>
            );
          })}
        </svg>
      )}
      <div className="row wrap">
        {attempts.length > 1 && <label className="row muted">Attempt <select className="small" value={selected} onChange={(event) => onAttempt(Number(event.target.value))}>{[...attempts].reverse().map((attempt) => <option key={attempt.number} value={attempt.number}>{attempt.number}: {attempt.ended_at ? [attempt.result, attempt.cause].filter(Boolean).join(", ") : attempt.state}</option>)}</select></label>}
        {line.lanes.length > 12 && <Button small kind="quiet" onClick={() => setAll(!all)}>{all ? "The newest 12" : `All ${line.lanes.length} attempts`}</Button>}
      </div>
    </div>
  );
}
