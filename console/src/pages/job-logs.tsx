// Logs of an attempt: merged or of one rank, live, searched; the rank that failed first stays on top.
import { useQuery } from "@tanstack/react-query";
import { useVirtualizer } from "@tanstack/react-virtual";
import { ArrowDown, ArrowUp, Pin } from "lucide-react";
import { useEffect, useMemo, useRef, useState, type KeyboardEvent } from "react";
import { useSearchParams } from "react-router";
import { ApiError, origin, request, text } from "@/api/client";
import type { Attempt, Job } from "@/api/types";
import { count } from "@/lib/format";
import { find, LineBuffer, splitRank } from "@/lib/logs";
import { addressNow, withFilters } from "@/lib/url";
import { useRem } from "@/ui/rem";
import { Button, Empty, Problem } from "@/ui/bits";

const kTail = 1_000_000;

/** The text of a rank as it grows. Begins a megabyte before the end; goes on by itself when the connection is lost. */
function useLog(job: number, attempt: number, rank: string, live: boolean, whole: boolean) {
  const [state, setState] = useState<{ buffer: LineBuffer; version: number; error: unknown; open: boolean }>({ buffer: new LineBuffer(), version: 0, error: null, open: true });
  useEffect(() => {
    const stop = new AbortController();
    let frame: number | null = null;
    let buffer = new LineBuffer();
    let version = 0;
    const show = (error: unknown = null, open = true) => {
      if (frame !== null) cancelAnimationFrame(frame);
      frame = requestAnimationFrame(() => {
        frame = null;
        setState({ buffer, version: ++version, error, open });
      });
    };
    const read = async () => {
      for (let tries = 0; !stop.signal.aborted; ++tries) {
        try {
          const query = new URLSearchParams({ rank, ...(live ? { follow: "1" } : {}), ...(whole ? {} : { tail: String(kTail) }) });
          const response = await request(new Request(`${origin}/v1/jobs/${job}/attempts/${attempt}/logs?${query}`, { signal: stop.signal }));
          if (!response.ok || !response.body) throw new ApiError(response.status, ((await response.json().catch(() => ({}))) ?? {}) as object);
          buffer = new LineBuffer(); // a new connection begins anew
          show();
          const decoder = new TextDecoder();
          const reader = response.body.getReader();
          for (;;) {
            const { done, value } = await reader.read();
            if (done) break;
            tries = 0;
            buffer.append(decoder.decode(value, { stream: true }));
            show();
          }
          return show(null, false);
        } catch (error) {
          if (stop.signal.aborted) return;
          if (error instanceof ApiError && error.status >= 400 && error.status < 500 && error.status !== 429) return show(error, false);
          show(error);
          await new Promise((done) => setTimeout(done, Math.min(8000, 500 * 2 ** tries)));
        }
      }
    };
    setState({ buffer, version: 0, error: null, open: true });
    void read();
    return () => {
      stop.abort();
      if (frame !== null) cancelAnimationFrame(frame);
    };
  }, [job, attempt, rank, live, whole]);
  return state;
}

function FirstFailure({ job, attempt }: { job: number; attempt: Attempt }) {
  const failure = useQuery({
    queryKey: ["job", String(job), "first-failure", attempt.number, attempt.state],
    queryFn: async () => {
      const { text: body, response } = await text(`/v1/jobs/${job}/attempts/${attempt.number}/logs?first_failure=1`);
      return { body, rank: response.headers.get("Tutti-Rank") };
    },
    enabled: attempt.state === "ended" && attempt.result !== "succeeded",
    placeholderData: undefined,
    staleTime: Infinity,
    retry: false,
  });
  if (!failure.data?.body) return null;
  return (
    <details className="pinned" open>
      <summary><Pin size={13} aria-hidden /> Rank {failure.data.rank ?? "?"} failed first</summary>
      <pre className="code" tabIndex={0}>{failure.data.body.split("\n").slice(-40).join("\n").trimEnd()}</pre>
    </details>
  );
}

export function JobLogs({ job, attempt }: { job: Job; attempt: Attempt }) {
  const [params, setParams] = useSearchParams();
  const rank = params.get("rank") ?? "all";
  const ranks = attempt.gang.reduce((sum, member) => sum + member.ranks, 0);
  const live = attempt.state !== "ended";
  const [follow, setFollow] = useState(true);
  const [whole, setWhole] = useState(false);
  const [needle, setNeedle] = useState("");
  const [current, setCurrent] = useState(0);
  const log = useLog(job.id, attempt.number, rank, live, whole);
  const lines = log.buffer.lines;
  const hits = useMemo(() => find(lines, needle), [lines, needle, log.version]); // eslint-disable-line react-hooks/exhaustive-deps
  const hitSet = useMemo(() => new Set(hits), [hits]);
  const frame = useRef<HTMLDivElement>(null);
  const rem = useRem();
  const virtual = useVirtualizer({ count: lines.length, getScrollElement: () => frame.current, estimateSize: () => 18 * rem, overscan: 30 });
  useEffect(() => {
    if (follow && lines.length > 0) virtual.scrollToIndex(lines.length - 1, { align: "end" });
  }, [log.version, follow]); // eslint-disable-line react-hooks/exhaustive-deps
  const go = (to: number) => {
    if (hits.length === 0) return;
    const next = ((to % hits.length) + hits.length) % hits.length;
    setCurrent(next);
    setFollow(false);
    virtual.scrollToIndex(hits[next]!, { align: "center" });
  };
  const keys = (event: KeyboardEvent) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    go(current + (event.shiftKey ? -1 : 1));
  };
  return (
    <section className="panel flush" aria-label="Logs">
      <div className="filters">
        <select aria-label="Rank" value={rank} onChange={(event) => setParams(withFilters(addressNow(), { rank: event.target.value }), { replace: true })}>
          {ranks > 1 && <option value="all">All ranks{ranks > 64 ? " (first 64)" : ""}</option>}
          {ranks <= 1 && <option value="all">The only rank</option>}
          {Array.from({ length: Math.min(ranks, 4096) }, (_, i) => <option key={i} value={i}>Rank {i}</option>)}
        </select>
        <input type="search" aria-label="Search the log" placeholder="Search" value={needle} onChange={(event) => { setNeedle(event.target.value); setCurrent(0); }} onKeyDown={keys} />
        {needle && <>
          <span className="muted" role="status">{hits.length === 0 ? "no line" : `${Math.min(current + 1, hits.length)} of ${count(hits.length)}`}</span>
          <Button small kind="quiet" aria-label="Match before" onClick={() => go(current - 1)}><ArrowUp size={14} aria-hidden /></Button>
          <Button small kind="quiet" aria-label="Next match" onClick={() => go(current + 1)}><ArrowDown size={14} aria-hidden /></Button>
        </>}
        <span className="grow" />
        <span className="faint">{count(lines.length)} lines{log.open && live ? ", live" : ""}</span>
        <label className="check"><input type="checkbox" checked={follow} onChange={(event) => setFollow(event.target.checked)} />Follow</label>
        <Button small onClick={() => setWhole(!whole)} aria-pressed={whole}>From the begin</Button>
        <a className="button small" href={`/v1/jobs/${job.id}/attempts/${attempt.number}/logs?rank=${rank}`} download={`job-${job.id}-attempt-${attempt.number}-rank-${rank}.log`}>Download</a>
      </div>
      <FirstFailure job={job.id} attempt={attempt} />
      {log.error ? <div className="panel-body"><Problem error={log.error} /></div> : null}
      {lines.length === 0 && !log.error ? <Empty title={log.open ? "No output yet" : "It wrote nothing"} /> : null}
      <div className="log-view" ref={frame} tabIndex={0} role="log" aria-label="Output" aria-live="off" hidden={lines.length === 0}
        onWheel={(event) => { if (event.deltaY < 0) setFollow(false); }}
        onKeyDown={(event) => { if (event.key === "End") setFollow(true); else if (["Home", "PageUp", "ArrowUp"].includes(event.key)) setFollow(false); }}>
        <div style={{ height: virtual.getTotalSize(), position: "relative", minWidth: "100%" }}>
          {virtual.getVirtualItems().map((item) => {
            const { rank: from, text: line } = splitRank(lines[item.index] ?? "");
            return <div key={item.key} className="log-line" style={{ top: item.start }} data-hit={hitSet.has(item.index)} data-current={hits[current] === item.index && !!needle}>{from !== null && <span className="log-rank">[{from}] </span>}{line || " "}</div>;
          })}
        </div>
      </div>
    </section>
  );
}
