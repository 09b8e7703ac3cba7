// The attempts of a job as lanes over time. Pure: instants go in, pieces with their share of the width come out.
import type { Attempt, Job, Schema } from "@/api/types";

export interface Piece {
  phase: "queued" | "preflight" | "starting" | "running" | "stopping";
  from: number;
  to: number;
}
export interface Mark {
  kind: "checkpoint" | "fault" | "stop" | "end";
  at: number;
  text: string;
}
export interface Lane {
  attempt: number;
  pieces: Piece[];
  marks: Mark[];
  text: string; // how it ended, or that it runs
}
export interface Timeline {
  from: number;
  to: number;
  lanes: Lane[];
}
const time = (at: string | null | undefined) => (at ? Date.parse(at) : null);

export function timelineOf(job: Pick<Job, "created_at" | "ended_at" | "state" | "attempt">, attempts: readonly Attempt[], checkpoints: readonly Schema["Checkpoint"][], now: number): Timeline {
  const from = Date.parse(job.created_at);
  const lanes: Lane[] = [];
  let waitSince = from;
  for (const attempt of attempts) {
    const end = time(attempt.ended_at) ?? now;
    const starts: [Piece["phase"], number | null][] = [
      ["queued", waitSince], ["preflight", time(attempt.placed_at) ?? time(attempt.preflight_at)], ["starting", time(attempt.starting_at)],
      ["running", time(attempt.running_at)], ["stopping", time(attempt.stopping_at)],
    ];
    const known = starts.filter((start): start is [Piece["phase"], number] => start[1] !== null);
    const pieces = known.map(([phase, at], i) => ({ phase, from: at, to: Math.max(at, known[i + 1]?.[1] ?? end) })).filter((piece) => piece.to > piece.from);
    const marks: Mark[] = checkpoints.filter((point) => point.epoch === attempt.epoch).map((point) => ({ kind: "checkpoint", at: Date.parse(point.at), text: `checkpoint of step ${point.step}, ${point.state}` }));
    const fault = time(attempt.fault_at);
    if (fault !== null) marks.push({ kind: "fault", at: fault, text: `fault: ${attempt.cause ?? "cause not known yet"}${attempt.detail ? ", " + attempt.detail : ""}` });
    const stop = time(attempt.stopping_at);
    if (stop !== null && fault === null && attempt.cause && ["preempted", "maintenance", "cancelled", "requeued", "time_limit", "control"].includes(attempt.cause)) marks.push({ kind: "stop", at: stop, text: `stopped: ${attempt.cause}` });
    if (attempt.ended_at) marks.push({ kind: "end", at: end, text: `ended: ${attempt.result ?? ""}${attempt.cause ? ", " + attempt.cause : ""}` });
    lanes.push({ attempt: attempt.number, pieces, marks: marks.sort((a, b) => a.at - b.at), text: attempt.ended_at ? [attempt.result, attempt.cause].filter(Boolean).join(", ") : attempt.state });
    waitSince = end;
  }
  const pending = ["queued", "delayed", "blocked", "held"].includes(job.state);
  if (pending) lanes.push({ attempt: attempts.length + 1, pieces: [{ phase: "queued", from: waitSince, to: now }], marks: [], text: job.state });
  const to = Math.max(time(job.ended_at) ?? now, ...lanes.flatMap((lane) => lane.pieces.map((piece) => piece.to)), from + 1000);
  return { from, to, lanes };
}

const kSteps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2592000].map((seconds) => seconds * 1000);
/** Instants for an axis: round ones, at most `most` of them. */
export function ticks(from: number, to: number, most: number, offsetMinutes = new Date(from).getTimezoneOffset()): number[] {
  const span = Math.max(1, to - from);
  const step = kSteps.find((each) => span / each <= most) ?? kSteps.at(-1)!;
  const shift = offsetMinutes * 60_000;
  const out: number[] = [];
  for (let at = Math.ceil((from - shift) / step) * step + shift; at <= to; at += step) out.push(at);
  return out;
}
