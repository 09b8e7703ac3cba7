// The cluster as it was. Where the server keeps no history, the page shows the events it does keep and says what is missing.
import { useMutation, useQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useState } from "react";
import { Link, useSearchParams } from "react-router";
import { api, ok } from "@/api/client";
import { useHistory, usePolicy } from "@/api/queries";
import type { ApiEvent } from "@/api/types";
import { getDecisions, getHistoryMap, getHistoryQueue, postReplay, type History } from "@/api/wanted";
import { Button, Chip, Empty, Loaded, NotRecorded, Page, Panel, Problem, Time } from "@/ui/bits";
import { kEventColumns } from "@/ui/events";
import { Heat } from "@/ui/heat";
import { Table } from "@/ui/table";
import { useNow } from "@/ui/now";
import { count, duration, localTime, percent, utcTime } from "@/lib/format";
import { countCells } from "@/lib/heatmap";
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

function Replay({ history }: { history: History }) {
  const policy = usePolicy();
  const [chosen, setChosen] = useState<string[]>(["fair", "easy"]);
  const replay = useMutation({ mutationFn: () => postReplay(history.from, history.until, chosen) });
  const choices = policy.data?.choices ?? ["fair", "checkpoint", "las", "easy", "fifo"];
  return (
    <Panel title="Compare policies by replay" actions={<Button small onClick={() => replay.mutate()} disabled={replay.isPending || chosen.length === 0}>{replay.isPending ? "Replaying" : "Replay"}</Button>}>
      <div className="stack">
        <div className="row wrap" role="group" aria-label="Policies">{choices.map((each) => <label className="check" key={each}><input type="checkbox" checked={chosen.includes(each)} onChange={() => setChosen(chosen.includes(each) ? chosen.filter((other) => other !== each) : [...chosen, each])} />{each}</label>)}</div>
        {replay.error ? <Problem error={replay.error} /> : null}
        {replay.data === null && <NotRecorded what="Replay" />}
        {replay.data && <div className="table-wrap short" tabIndex={0} role="region" aria-label="Table"><table><thead><tr><th scope="col">Policy</th><th scope="col" className="num">Median wait</th><th scope="col" className="num">9 of 10 below</th><th scope="col" className="num">In use</th><th scope="col" className="num">Goodput</th><th scope="col" className="num">Preemptions</th><th scope="col" className="num">Jobs</th></tr></thead>
          <tbody>{replay.data.results.map((each) => <tr key={each.policy}><td>{each.policy}</td><td className="num">{duration(each.wait_p50_seconds)}</td><td className="num">{duration(each.wait_p90_seconds)}</td><td className="num">{percent(each.utilisation, 1)}</td><td className="num">{percent(each.goodput, 1)}</td><td className="num">{count(each.preemptions)}</td><td className="num">{count(each.jobs)}</td></tr>)}</tbody></table></div>}
      </div>
    </Panel>
  );
}

function Recorded({ history }: { history: History }) {
  const [at, setAt] = useAt(Date.parse(history.from), Date.parse(history.until));
  const settled = useSettled(at, 150);
  const iso = new Date(settled).toISOString();
  const map = useQuery({ queryKey: ["history", "map", iso], queryFn: () => getHistoryMap(iso), staleTime: Infinity });
  const queue = useQuery({ queryKey: ["history", "queue", iso], queryFn: () => getHistoryQueue(iso), staleTime: Infinity });
  const decisions = useQuery({ queryKey: ["history", "decisions", iso], queryFn: () => getDecisions(new Date(settled - 900_000).toISOString(), iso), staleTime: Infinity });
  const cells = useMemo(() => (map.data ? countCells(map.data) : {}), [map.data]);
  const columns = useMemo(() => queueColumns(null, () => false), []);
  const rows = useMemo(() => (queue.data?.jobs ?? []).map((job): QueueRow => ({ ...job, share: null })), [queue.data]);
  return (
    <div className="stack">
      <Panel title="When"><Slider from={Date.parse(history.from)} until={Date.parse(history.until)} at={at} setAt={setAt} marks={history.density.map((each) => each.decisions)} label="Time to look at" /></Panel>
      <div className="overview">
        <Panel title="GPUs, then"><Loaded query={map}>{(data) => data ? <div className="stack tight"><HeatLegend cells={cells} /><Heat map={data} mode="state" /></div> : <NotRecorded what="The state of GPUs" />}</Loaded></Panel>
        <Panel title="Decided in the 15 minutes before"><Loaded query={decisions}>{(data) => !data ? <NotRecorded what="Decisions" /> : data.decisions.length === 0 ? <p className="faint">Nothing.</p> : <ul className="list scroll">{[...data.decisions].reverse().map((each) => <li key={each.id}><span>{each.job_id !== null && <Link to={`/jobs/${each.job_id}`}>job {each.job_id}</Link>} {each.text}</span><span className="faint nowrap"><Time at={each.at} as="clock" seconds /></span></li>)}</ul>}</Loaded></Panel>
      </div>
      <Panel title="Queue, then" flush><Loaded query={queue}>{(data) => data ? <Table label="Queue then" columns={columns} data={rows} id={(job) => String(job.id)} empty={<Empty title="No job waited" />} short /> : <NotRecorded what="The queue" />}</Loaded></Panel>
      <Replay history={history} />
    </div>
  );
}

/** What the server does keep: its events. Enough to see what happened when, not to draw the cluster as it was. */
function EventsOnly() {
  const events = useQuery({
    queryKey: ["history", "events"],
    queryFn: async () => {
      const all: ApiEvent[] = [];
      let after = 0;
      for (let page = 0; page < 20; ++page) {
        const answer = (await ok(api.GET("/v1/events", { params: { query: { after, limit: 1000 } }, headers: { Accept: "application/json" } }))) as { events: ApiEvent[]; next_after: number };
        all.push(...answer.events);
        if (answer.next_after === after || answer.events.length === 0) break;
        after = answer.next_after;
      }
      return all;
    },
    staleTime: 30_000,
  });
  return (
    <div className="stack">
      <NotRecordedNotice />
      <Loaded query={events} rows={8}>{(all) => all.length === 0 ? <Empty title="Nothing has happened yet" /> : <EventTravel events={all} />}</Loaded>
    </div>
  );
}
function NotRecordedNotice() {
  return <p className="notice warn"><span><b>The state of GPUs and of the queue at an earlier time: not recorded by this server.</b> What happened is, and the slider goes through it.</span></p>;
}
function EventTravel({ events }: { events: ApiEvent[] }) {
  const from = Date.parse(events[0]!.at);
  const until = Math.max(from + 1000, Date.parse(events.at(-1)!.at));
  const [at, setAt] = useAt(from, until);
  const marks = useMemo(() => {
    const out = new Array<number>(160).fill(0);
    for (const event of events) out[Math.min(159, Math.floor(((Date.parse(event.at) - from) / (until - from)) * 160))]! += 1;
    return out;
  }, [events, from, until]);
  const rows = useMemo(() => {
    const out: ApiEvent[] = [];
    for (let i = events.length - 1; i >= 0 && out.length < 5000; --i) if (Date.parse(events[i]!.at) <= at) out.push(events[i]!);
    return out;
  }, [events, at]);
  return (
    <>
      <Panel title="When"><Slider from={from} until={until} at={at} setAt={setAt} marks={marks} label="Time to look at" /></Panel>
      <Panel title={<>Until then <Chip>{count(rows.length)} events</Chip></>} flush><Table label="Events until then" columns={kEventColumns} data={rows} id={(event) => String(event.id)} empty={<Empty title="Nothing before" />} /></Panel>
    </>
  );
}

export default function Travel() {
  useEffect(() => { document.title = "Time travel · Tutti"; }, []);
  const history = useHistory();
  return <Page title="Time travel"><Loaded query={history}>{(data) => (data ? <Recorded history={data} /> : <EventsOnly />)}</Loaded></Page>;
}
