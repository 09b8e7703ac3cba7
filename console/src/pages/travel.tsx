// The cluster and the queue as they were, and what other policies would have made of it.
import { useEffect, useMemo } from "react";
import { Link, useSearchParams } from "react-router";
import { useDecisions, useHistory, useMay, usePastMap, usePastQueue } from "@/api/queries";
import type { ClusterMap, History, PastMap } from "@/api/types";
import { Button, Chip, Empty, Loaded, Page, Panel, Time } from "@/ui/bits";
import { Heat } from "@/ui/heat";
import { Replay } from "@/ui/replay";
import { Table } from "@/ui/table";
import { useNow } from "@/ui/now";
import { count, localTime, plural, utcTime } from "@/lib/format";
import { countCells, outOfService } from "@/lib/heatmap";
import { addressNow, withFilters } from "@/lib/url";
import { useSettled } from "@/ui/actions";
import { HeatLegend } from "./overview";
import { queueColumns, type QueueRow } from "./queue";

function useAt(from: number, until: number): [number, (at: number) => void] {
  const [params, setParams] = useSearchParams();
  const asked = Date.parse(params.get("at") ?? "");
  const at = Number.isFinite(asked) ? Math.min(Math.max(asked, from), until) : until;
  return [at, (next) => setParams(withFilters(addressNow(), { at: new Date(Math.min(Math.max(next, from), until)).toISOString() }), { replace: true })];
}

function Slider({ from, until, at, setAt, marks, label }: { from: number; until: number; at: number; setAt: (at: number) => void; marks: number[]; label: string }) {
  const now = useNow();
  const most = Math.max(1, ...marks);
  const steps: [string, number][] = [["− 1 h", -3_600_000], ["− 5 min", -300_000], ["+ 5 min", 300_000], ["+ 1 h", 3_600_000]];
  return (
    <div className="travel">
      <svg className="density" viewBox={`0 0 ${Math.max(1, marks.length)} 30`} preserveAspectRatio="none" aria-hidden="true">{marks.map((n, i) => <rect key={i} x={i + 0.1} width={0.8} y={30 - (n / most) * 30} height={(n / most) * 30} />)}</svg>
      <input type="range" min={from} max={until} step={1000} value={at} onChange={(event) => setAt(Number(event.target.value))} aria-label={label} aria-valuetext={utcTime(at)} />
      <div className="row between wrap"><span className="faint" title={utcTime(from)}>{localTime(from, now)}</span>
        <span className="row wrap">{steps.slice(0, 2).map(([text, by]) => <Button key={text} small onClick={() => setAt(at + by)} disabled={at <= from}>{text}</Button>)}<b title={utcTime(at)}>{localTime(at, now, true)}</b>{steps.slice(2).map(([text, by]) => <Button key={text} small onClick={() => setAt(at + by)} disabled={at >= until}>{text}</Button>)}</span>
        <span className="faint" title={utcTime(until)}>{localTime(until, now)}</span></div>
    </div>
  );
}

/** As the map of now has it: what is not recorded of the past is not there. */
export const asMap = (past: Pick<PastMap, "at" | "racks"> & { nodes: Omit<PastMap["nodes"][number], "conditions">[] }): ClusterMap => ({ at: past.at, event_id: 0, racks: past.racks, nodes: past.nodes.map((node) => ({ ...node, conditions: 0 })) });

const kSpans = [["", "7 days"], ["1h", "hour"], ["24h", "24 h"], ["30d", "30 days"], ["365d", "year"]] as const;
function Recorded({ history, since, setSince }: { history: History; since: string; setSince: (since: string) => void }) {
  const [at, setAt] = useAt(Date.parse(history.from), Date.parse(history.until));
  const may = useMay();
  const settled = useSettled(at, 150);
  const iso = new Date(settled).toISOString();
  const past = usePastMap(iso);
  const queue = usePastQueue(iso);
  const decisions = useDecisions(new Date(settled - 900_000).toISOString(), iso);
  const map = useMemo(() => (past.data ? asMap(past.data) : null), [past.data]);
  const cells = useMemo(() => (map ? countCells(map) : {}), [map]);
  const columns = useMemo(() => queueColumns(null, () => false).filter((column) => column.id !== "eta"), []);
  const rows = useMemo(() => (queue.data?.jobs ?? []).map((job): QueueRow => ({ ...job, gpu_model: "", best_available: null, not_before: null, eta: null, share: null })), [queue.data]);
  const known = past.data?.nodes_known_since;
  const select = <select className="small" aria-label="How far back" value={since} onChange={(event) => setSince(event.target.value)}>{kSpans.map(([value, label]) => <option key={value} value={value}>Last {label}</option>)}</select>;
  return (
    <div className="stack">
      <Panel title="When" actions={select}><Slider from={Date.parse(history.from)} until={Date.parse(history.until)} at={at} setAt={setAt} marks={history.density.map((each) => each.decisions)} label="Time to look at" /></Panel>
      {known && Date.parse(known) > settled && <p className="notice warn"><span>GPUs that were away before <Time at={known} as="clock" /> and came back are shown as if they had been there: that was not recorded yet.</span></p>}
      <div className="overview">
        <Panel title="GPUs, then"><Loaded query={past} rows={8}>{() => !map || map.nodes.length === 0 ? <Empty title="No node had joined yet" /> : <div className="stack tight"><HeatLegend cells={cells} off={map.nodes.filter((node) => outOfService(node.state, node.service)).length} /><Heat map={map} mode="state" /></div>}</Loaded></Panel>
        <Panel title="Decided in the 15 minutes before"><Loaded query={decisions}>{(data) => data.decisions.length === 0 ? <p className="faint">Nothing.</p> : <>
          <ul className="list scroll" tabIndex={0} aria-label="Decisions">{data.decisions.map((each) => <li key={each.id}><span>{each.job_id !== null ? <Link to={`/jobs/${each.job_id}?tab=events`}>job {each.job_id}</Link> : each.node ? <Link to={`/nodes/${encodeURIComponent(each.node)}`}>{each.node}</Link> : null} {each.text}</span><span className="faint nowrap"><Time at={each.at} as="clock" seconds /></span></li>)}</ul>
          {data.next_page_token && <p className="faint">The last {count(data.decisions.length)} of them.</p>}
        </>}</Loaded></Panel>
      </div>
      <Panel title={<span className="row">Queue, then{queue.data && <Chip>{plural(queue.data.total, "job")}</Chip>}</span>} flush>
        <Loaded query={queue}>{(data) => <>
          {data.by_reason.length > 0 && <div className="filters"><span className="chips">{data.by_reason.map((each) => <Chip key={each.code} title={each.text}>{each.code.replaceAll("_", " ")} <span className="faint">{count(each.jobs)}</span></Chip>)}</span></div>}
          <Table label="Queue then" columns={columns} data={rows} id={(job) => String(job.id)} rowHeight={38} empty={<Empty title="No job waited" />} short />
          {rows.length < data.total && <p className="table-foot">The first {count(rows.length)} of {count(data.total)}{data.cut && ", more were not looked at"}.</p>}
        </>}</Loaded>
      </Panel>
      {may("replay") && <Replay title="Compare policies by replay" stretch={() => ({ since: history.from, until: history.until })} about="What was submitted in the time above, planned again from the begin." />}
    </div>
  );
}

export default function Travel() {
  useEffect(() => { document.title = "Time travel · Tutti"; }, []);
  const [params, setParams] = useSearchParams();
  const since = kSpans.find(([value]) => value === params.get("since"))?.[0] ?? "";
  const history = useHistory(since);
  return (
    <Page title="Time travel" sub="The cluster and the queue as they were, from what was recorded">
      <Loaded query={history} rows={8}>{(data) => data.recorded_since === null ? <Empty title="Nothing has happened yet" />
        : <Recorded history={data} since={since} setSince={(next) => setParams(withFilters(addressNow(), { since: next, at: null }), { replace: true })} />}</Loaded>
    </Page>
  );
}
