// The jobs of a stretch of the past again, under other policies: a dry run of a policy. On the pages Time travel and Admin.
import { useMutation } from "@tanstack/react-query";
import { useState, type ReactNode } from "react";
import { api, ok } from "@/api/client";
import { useCluster, useMay } from "@/api/queries";
import type { Schema } from "@/api/types";
import { count, duration, localTime, percent, plural, utcTime } from "@/lib/format";
import { changeText, compareTo, kMostPolicies, knowsTheEnd, kPolicies, policiesAsked } from "@/lib/replay";
import { Button, Empty, Panel, Problem } from "./bits";

type Stretch = { since: string; until: string };
interface Asked extends Stretch {
  against: string;
  policies: string[];
}

/** `stretch` is asked for at the click: null where it is none yet. `choose`: what it is chosen with, if it is chosen here. */
export function Replay({ title, stretch, choose, about }: { title: string; stretch: () => Stretch | null; choose?: ReactNode; about: string }) {
  const may = useMay()("replay");
  const active = useCluster().data?.policy;
  const [other, setOther] = useState<string | null>(null);
  const against = other ?? active ?? "fair";
  const [chosen, setChosen] = useState<readonly string[]>(["easy"]);
  const [empty, setEmpty] = useState(false);
  const replay = useMutation({ mutationFn: ({ since, until, policies }: Asked) => ok(api.POST("/v1/history:replay", { body: { since, until, policies } })) });
  if (!may) return <Panel title={title}><Empty title="You may not replay the past">That needs the role operator everywhere, and with a token the scope operate. An admin gives it with <code>tutti user</code>.</Empty></Panel>;

  const others = chosen.filter((each) => each !== against);
  const full = others.length >= kMostPolicies - 1;
  const run = () => {
    const span = stretch();
    setEmpty(span === null);
    if (span) replay.mutate({ ...span, against, policies: policiesAsked(against, others) });
  };
  return (
    <Panel title={title} actions={<Button small kind="primary" onClick={run} disabled={replay.isPending || others.length === 0}>{replay.isPending ? "Replaying" : "Replay"}</Button>}>
      <div className="stack">
        <div className="row wrap">
          {choose}
          <label className="check">Against<select className="small" value={against} onChange={(event) => setOther(event.target.value)}>{kPolicies.map((each) => <option key={each} value={each}>{each === active ? `${each}, which is active` : each}</option>)}</select></label>
        </div>
        <div className="row wrap" role="group" aria-label="Policies">{kPolicies.filter((each) => each !== against).map((each) => <label className="check" key={each} title={knowsTheEnd(each) ? "Knows how long jobs run: no scheduler can, it is the bound" : undefined}>
          <input type="checkbox" checked={others.includes(each)} disabled={full && !others.includes(each)} onChange={() => setChosen(others.includes(each) ? others.filter((name) => name !== each) : [...others, each])} />{each}</label>)}</div>
        {empty && <p className="notice warn" role="alert"><span>Choose the first day.</span></p>}
        {replay.error ? <Problem error={replay.error} /> : null}
        {replay.data && replay.variables ? <Results asked={replay.variables} data={replay.data} /> : <p className="faint">{about} Each job runs as long as it did. Faults, quotas and reservations are not replayed.</p>}
      </div>
    </Panel>
  );
}

function Results({ asked, data }: { asked: Asked; data: Schema["ReplayResult"] }) {
  const rows = compareTo(asked.against, data.results);
  const now = Date.now();
  const beside = (change: number | null, unit: "share" | "points" = "share") => { const text = changeText(change, unit); return text && <span className="faint"> {text}</span>; };
  return (
    <>
      <div className="table-wrap short" tabIndex={0} role="region" aria-label="Policies compared"><table>
        <thead><tr><th scope="col">Policy</th><th scope="col" className="num">Mean wait</th><th scope="col" className="num">Median wait</th><th scope="col" className="num">9 of 10 below</th><th scope="col" className="num">99 of 100 below</th><th scope="col" className="num">In use</th><th scope="col" className="num">Goodput</th><th scope="col" className="num">Preemptions</th><th scope="col" className="num">Jobs</th><th scope="col" className="num">Did not fit</th></tr></thead>
        <tbody>{rows.map(({ result: each, ...change }) => <tr key={each.policy}>
          <td className="nowrap">{each.policy}{each.policy === asked.against && <span className="faint"> compared with</span>}</td>
          <td className="num nowrap">{duration(each.wait_mean_seconds)}{beside(change.wait_mean)}</td>
          <td className="num nowrap">{duration(each.wait_p50_seconds)}{beside(change.wait_p50)}</td>
          <td className="num nowrap">{duration(each.wait_p90_seconds)}{beside(change.wait_p90)}</td>
          <td className="num nowrap">{duration(each.wait_p99_seconds)}{beside(change.wait_p99)}</td>
          <td className="num nowrap">{percent(each.utilisation, 1)}{beside(change.utilisation, "points")}</td>
          <td className="num nowrap">{percent(each.goodput, 1)}{beside(change.goodput, "points")}</td>
          <td className="num">{count(each.preemptions)}</td><td className="num">{count(each.jobs)}</td><td className="num">{count(each.never)}</td>
        </tr>)}</tbody>
      </table></div>
      <p className="faint" role="status"><span title={`${utcTime(data.since)} to ${utcTime(data.until)}`}>{localTime(data.since, now)} to {localTime(data.until, now)}</span>, on {plural(data.nodes, "node")} of {plural(data.gpus_per_node, "GPU")}. {plural(data.left_out, "job")} left out: not finished, without GPUs, or never run.{rows.some(({ result }) => knowsTheEnd(result.policy)) && " srtf and srsf know how long jobs run: no scheduler can."}</p>
    </>
  );
}
