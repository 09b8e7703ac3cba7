import { memo, useEffect, useMemo, useState } from "react";
import { Link } from "react-router";
import { useCluster, useFaults, useFaultSummary, useMap, useNextStarts, useQueue, useUsage } from "@/api/queries";
import { useLive } from "@/api/live";
import type { ApiEvent, ClusterMap } from "@/api/types";
import type { UsageMore } from "@/api/wanted";
import { Button, Chip, Empty, EtaText, Loaded, Meter, Page, Panel, Stat, Time } from "@/ui/bits";
import { useDark } from "@/app/theme";
import { Heat } from "@/ui/heat";
import { count, gpuHours, percent, plural } from "@/lib/format";
import { countCells, meanBusy, modesOf, outOfService, busyLightness, type HeatMode } from "@/lib/heatmap";
import { kActive, kPending } from "@/lib/jobs";
import { goodputParts } from "@/lib/summary";

export function HeatLegend({ cells, off = 0 }: { cells: Record<string, number>; off?: number }) {
  const words = ["allocated", "preflight", "free", "dirty", "quarantined", "out of service", "absent"].filter((word) => cells[word] || word === "allocated" || word === "free");
  return <div className="legend">{words.map((word) => <span key={word}><i className={`swatch ${word === "out of service" ? "off" : word}`} aria-hidden="true" />{word} {count(cells[word] ?? 0)}</span>)}{off > 0 && <span><i className="swatch struck" aria-hidden="true" />struck through: {plural(off, "node")} taking no work</span>}</div>;
}

/** What the shades of a busy GPU mean, beside the legend of the states. */
function BusyLegend({ map }: { map: ClusterMap }) {
  const dark = useDark();
  const { gpus, of, mean } = useMemo(() => meanBusy(map), [map]);
  return (
    <div className="legend">
      <span>0 %<svg width="60" height="12" aria-hidden="true">{[0, 25, 50, 75, 100].map((use, i) => <rect key={use} x={i * 12} width="12" height="12" fill={`hsl(222 60% ${busyLightness(use, dark) * 100}%)`} />)}</svg>100 % in use</span>
      <span><svg width="12" height="12" aria-hidden="true"><rect width="12" height="12" rx="2" className="unmeasured" /></svg>not measured in the last half minute {count(of - gpus)}</span>
      {mean !== null && <span>{percent(mean / 100)} on average of {plural(gpus, "GPU")}</span>}
    </div>
  );
}

const Heated = memo(Heat);
/** On its own: neither does a click here draw the page anew, nor news elsewhere the map. */
function HeatPanel() {
  const map = useMap();
  const [chosen, setMode] = useState<HeatMode>("state");
  const cells = useMemo(() => (map.data ? countCells(map.data) : {}), [map.data]);
  const modes = useMemo(() => modesOf(map.data), [map.data]);
  const mode = modes.includes(chosen) ? chosen : "state"; // nothing is measured any more
  return (
    <Panel title="GPUs by rack and node" actions={
      <div className="segmented" role="group" aria-label="Colour by">
        {modes.map((each) => <Button key={each} small aria-pressed={mode === each} onClick={() => setMode(each)}>{each}</Button>)}
      </div>
    }>
      <Loaded query={map} rows={8}>{(data) => data.nodes.length === 0
        ? <Empty title="No node has joined yet">On each GPU machine: <code>tutti-worker --scheduler URL --join-token TOKEN</code>. An admin makes the token with <code>tutti join-token create</code>.</Empty>
        : <div className="stack tight"><HeatLegend cells={cells} off={data.nodes.filter((node) => outOfService(node.state, node.service)).length} />{mode === "utilisation" && <BusyLegend map={data} />}<Heated map={data} mode={mode} /></div>}</Loaded>
    </Panel>
  );
}

function Goodput() {
  const usage = useUsage("24h", "");
  return (
    <Panel title="GPU hours, last 24 h">
      <Loaded query={usage} rows={2}>{(data) => {
        const total = data.total as typeof data.total & UsageMore;
        const parts = goodputParts(total);
        const all = parts.reduce((sum, part) => sum + part.seconds, 0);
        if (all === 0) return <p className="faint">No GPU was used.</p>;
        return (
          <div className="stack tight">
            <div className="goodput" role="img" aria-label={parts.map((part) => `${part.label} ${gpuHours(part.seconds)} GPU hours`).join(", ")}>
              {parts.map((part) => <span key={part.label} className={part.kind} title={`${part.label}: ${gpuHours(part.seconds)} GPU h`} style={{ width: `${(part.seconds / all) * 100}%` }} />)}
            </div>
            <ul className="list">
              {parts.map((part) => <li key={part.label}><span className="row"><i className={`swatch ${part.kind}`} aria-hidden="true" />{part.label}</span><span>{gpuHours(part.seconds)} <span className="faint">{percent(part.seconds / all, 1)}</span></span></li>)}
            </ul>
            {total.capacity_gpu_seconds === undefined && <p className="faint">Idle hours: not recorded by this server.</p>}
          </div>
        );
      }}</Loaded>
    </Panel>
  );
}

function Ticker() {
  const { subscribe } = useLive();
  const [events, setEvents] = useState<ApiEvent[]>([]);
  useEffect(() => subscribe((event) => setEvents((all) => [event, ...all].slice(0, 8))), [subscribe]);
  return (
    <Panel title="As it happens">
      {events.length === 0 ? <p className="faint">Nothing since this page was opened.</p> : (
        <ul className="list">{events.map((event) => (
          <li key={event.id}>
            <span className="ellipsis" title={event.detail}>
              {event.job_id !== null ? <Link to={`/jobs/${event.job_id}`}>job {event.job_id}</Link> : event.node ? <Link to={`/nodes/${encodeURIComponent(event.node)}`}>{event.node}</Link> : event.kind}{" "}
              {event.kind !== "state" && <span className="faint">{event.kind} </span>}{event.to || event.detail}{event.cause && <span className="faint"> ({event.cause})</span>}
            </span>
            <span className="faint nowrap"><Time at={event.at} /></span>
          </li>
        ))}</ul>
      )}
    </Panel>
  );
}

export default function Overview() {
  useEffect(() => { document.title = "Overview · Tutti"; }, []);
  const cluster = useCluster();
  const queue = useQueue();
  const starts = useNextStarts();
  const faults = useFaults({ since: "24h", limit: 5 });
  const classes = useFaultSummary("class", { since: "24h" });
  const pending = cluster.data ? kPending.reduce((sum, state) => sum + cluster.data.jobs[state], 0) : 0;
  const active = cluster.data ? kActive.reduce((sum, state) => sum + cluster.data.jobs[state], 0) : 0;
  const reasons = queue.data ? [...queue.data.by_reason].sort((a, b) => b.jobs - a.jobs) : [];
  const most = Math.max(1, ...reasons.map((reason) => reason.jobs));

  return (
    <Page title="Overview">
      <div className="stack">
        <Loaded query={cluster} rows={2}>{(data) => (
          <div className="stats">
            <Stat label="GPUs in use" value={`${count(data.gpus.allocated)} / ${count(data.gpus.total)}`} sub={data.gpus.total ? `${percent(data.gpus.allocated / data.gpus.total)} of all` : "no GPU yet"} />
            <Stat label="Free" value={count(data.gpus.free)} sub={plural(data.nodes, "node")} />
            <Stat label="Set aside" value={count(data.gpus.quarantined + data.gpus.dirty)} sub={`${data.gpus.quarantined} quarantined, ${data.gpus.dirty} dirty`} />
            <Stat label="Jobs active" value={<Link to="/jobs?state=active">{count(active)}</Link>} sub={`${count(data.jobs.running)} running`} />
            <Stat label="Jobs pending" value={<Link to="/queue">{count(pending)}</Link>} sub={`${count(data.jobs.queued)} queued, ${count(data.jobs.held)} held`} />
            <Stat label="Faults, 24 h" value={<Link to="/faults?since=24h">{classes.data ? count(classes.data.total.faults) : "–"}</Link>} sub={classes.data?.rows[0] ? `most: ${classes.data.rows[0].key.replaceAll("_", " ")}` : classes.data ? "none" : ""} />
          </div>
        )}</Loaded>
        <div className="overview">
          <div className="stack">
            <HeatPanel />
            <div className="cols-2 narrow"><Goodput /><Ticker /></div>
          </div>
          <div className="aside stack">
            <Panel title="Why jobs wait" actions={<Link to="/queue">Queue</Link>}>
              <Loaded query={queue} rows={3}>{() => reasons.length === 0 ? <p className="faint">No job waits.</p> : (
                <div className="bars">{reasons.slice(0, 7).map((reason) => (
                  <div className="bar-line" key={reason.code}>
                    <Link className="plain-link ellipsis" title={reason.text} to={`/queue?reason=${encodeURIComponent(reason.code)}`}>{reason.code.replaceAll("_", " ")}</Link>
                    <Meter value={reason.jobs} max={most} label={`${reason.jobs} jobs: ${reason.text}`} />
                    <span>{count(reason.jobs)}</span>
                  </div>
                ))}</div>
              )}</Loaded>
            </Panel>
            <Panel title="Next starts" actions={<Link to="/queue?view=plan">Plan</Link>}>
              <Loaded query={starts} rows={3}>{(next) => next.length === 0 ? <p className="faint">No start is planned.</p> : (
                <ul className="list">{next.map((start, i) => <li key={i}><span className="ellipsis" title={`${plural(start.gpus, "GPU")} on ${plural(start.nodes.length, "node")}${start.backfill ? "; it fits in before one that comes before it" : ""}`}>{start.job_id !== null ? <><Link to={`/jobs/${start.job_id}`}>{start.name}</Link> <span className="faint">{start.job_id}</span></> : <span className="faint">of another project</span>}{start.backfill && <> <Chip>backfill</Chip></>}</span><EtaText eta={{ at: start.starts_at, from: start.from, to: start.to }} /></li>)}</ul>
              )}</Loaded>
            </Panel>
            <Panel title="Faults, last 24 h" actions={<Link to="/faults?since=24h">Ledger</Link>}>
              <Loaded query={faults} rows={3}>{({ faults: recent }) => recent.length === 0 ? <p className="faint">None.</p> : (
                <ul className="list">{recent.map((fault) => <li key={fault.id}><span className="ellipsis" title={fault.detail}>{fault.class.replaceAll("_", " ")} <span className="faint">on</span> <Link to={`/nodes/${encodeURIComponent(fault.node)}`}>{fault.node}</Link></span><span className="faint nowrap"><Time at={fault.at} /></span></li>)}</ul>
              )}</Loaded>
            </Panel>
          </div>
        </div>
      </div>
    </Page>
  );
}
