import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useMemo, useState } from "react";
import { Link, useParams } from "react-router";
import { api, ok } from "@/api/client";
import { useFaults, useMay, useNode, useNodeAttempts, useNodeInspections, useNodeMetrics, useNodeScore } from "@/api/queries";
import { Age, Button, Bytes, Cause, Chip, Empty, Facts, Loaded, Meter, Page, Panel, Problem, Skeleton, State, Time } from "@/ui/bits";
import { Chart } from "@/ui/chart";
import { NodeActions } from "@/ui/node-actions";
import { useToast } from "@/ui/overlay";
import { bytes, duration, number, percent, plural, ranges } from "@/lib/format";
import { SeriesCharts } from "./job-metrics";

function Inspection({ name }: { name: string }) {
  const may = useMay();
  const say = useToast();
  const queries = useQueryClient();
  const report = useQuery({ queryKey: ["node", name, "inspection"], queryFn: () => ok(api.GET("/v1/nodes/{name}/inspection", { params: { path: { name } } })), placeholderData: undefined, refetchInterval: (query) => (query.state.data?.under_way ? 2000 : 30_000) });
  const ask = useMutation({
    mutationFn: () => ok(api.POST("/v1/nodes/{name}:inspect", { params: { path: { name } } })),
    onSuccess: () => { say(<>An inspection of {name} has been asked for.</>); void queries.invalidateQueries({ queryKey: ["node", name] }); },
    onError: (error) => say(error.message, true),
  });
  return (
    <Panel title="Inspection" flush actions={may("operate-nodes") && <Button small onClick={() => ask.mutate()} disabled={ask.isPending || report.data?.under_way}>{report.data?.under_way ? "Under way" : "Inspect now"}</Button>}>
      <Loaded query={report} rows={3}>{(data) => data.at === null ? <Empty title={data.under_way ? "The first one is under way" : "Never inspected"} /> : <>
        <div className="filters"><State state={data.passed ? "ok" : "failed"} /><span className="muted">asked for by {data.trigger}, <Time at={data.at} /></span></div>
        <div className="table-wrap short" tabIndex={0} role="region" aria-label="Checks"><table><thead><tr><th scope="col">Check</th><th scope="col">Result</th><th scope="col">Who looks after it</th><th scope="col" className="num">Took</th><th scope="col" className="num">Limit</th><th scope="col">Detail</th></tr></thead>
          <tbody>{data.checks.map((check) => <tr key={check.name}><td>{check.name}</td><td><State state={check.result} /></td><td>{check.owner}</td><td className="num">{duration(check.took_seconds)}</td><td className="num">{duration(check.limit_seconds)}</td><td className="pre">{check.detail}</td></tr>)}</tbody></table></div>
      </>}</Loaded>
    </Panel>
  );
}

function PastInspections({ name }: { name: string }) {
  const past = useNodeInspections(name);
  return (
    <Panel title="Inspections so far" flush>
      <Loaded query={past} rows={2}>{(data) => data.inspections.length === 0 ? <Empty title="None" /> : <div className="table-wrap short" tabIndex={0} role="region" aria-label="Inspections so far"><table><thead><tr><th scope="col">When</th><th scope="col">Result</th><th scope="col">Asked for by</th><th scope="col">What failed</th></tr></thead><tbody>{data.inspections.map((each) => <tr key={each.id}><td className="nowrap"><Time at={each.at} as="both" /></td><td><State state={each.passed ? "ok" : "failed"} /></td><td>{each.trigger}</td><td>{each.failed.join(", ")}</td></tr>)}</tbody></table></div>}</Loaded>
    </Panel>
  );
}

function Score({ name, lemon }: { name: string; lemon: NonNullable<import("@/api/types").Node["lemon"]> | undefined }) {
  const history = useNodeScore(name);
  const points = history.data?.points;
  const at = useMemo(() => points?.map((point) => Date.parse(point.at) / 1000) ?? [], [points]);
  const lines = useMemo(() => (points ? [{ label: "probability", values: points.map((point) => point.probability) }, { label: "suspicion", values: points.map((point) => point.suspicion) }] : []), [points]);
  return (
    <Panel title="Score">
      {!lemon ? <p className="faint">Not enough seen yet.</p> : (
        <div className="stack">
          <Facts items={[
            ["Fails more than four times as often as the fleet", <span className="row"><b>{percent(lemon.probability)}</b>{lemon.flagged && <Chip tone="bad">flagged</Chip>}</span>],
            ["Against the fleet", `${number(lemon.ratio)} times`], ["Failures, decayed and shared", number(lemon.failures)], ["A day", number(lemon.per_day)], ["Weight of what was seen", number(lemon.weight)],
          ]} />
          {lemon.terms.length > 0 ? (
            <div className="table-wrap short" tabIndex={0} role="region" aria-label="Table"><table><thead><tr><th scope="col">What it is made of</th><th scope="col" className="num">Shared by</th><th scope="col" className="num">Weight now</th></tr></thead><tbody>{lemon.terms.map((term, i) => <tr key={i}><td><Time at={term.at} as="both" /></td><td className="num">{plural(term.shared_by, "node")}</td><td className="num">{number(term.weight)}</td></tr>)}</tbody></table></div>
          ) : <p className="faint">No failure speaks against it.</p>}
          {points && points.length > 1 ? <Chart title="Score over time" at={at} lines={lines} /> : history.data && <p className="faint">Its history begins with the first fault that speaks against it.</p>}
        </div>
      )}
    </Panel>
  );
}

export default function NodePage() {
  const { name = "" } = useParams();
  const node = useNode(name);
  const faults = useFaults({ node: name, limit: 50 });
  const attempts = useNodeAttempts(name);
  const [hours, setHours] = useState("1");
  const metrics = useNodeMetrics(name, hours);
  useEffect(() => { document.title = `${name} · Tutti`; }, [name]);
  const data = node.data;
  if (!data) return node.error ? <Page title={name}><Problem error={node.error} retry={() => void node.refetch()} /></Page> : <Skeleton rows={10} />;
  return (
    <Page title={data.name} sub={<div className="row wrap"><State state={data.state} /><State state={data.service} />{data.service_reason && <span>{data.service_reason}</span>}{data.service_at && <span className="faint">since <Time at={data.service_at} /></span>}{data.service_until && <span className="faint">until <Time at={data.service_until} /></span>}</div>} actions={<NodeActions node={data} />}>
      <div className="stack">
        {data.conditions.length > 0 && <div className="stack tight">{data.conditions.map((each) => <p key={each.kind + each.subject} className="notice warn"><span><b>{each.kind.replaceAll("_", " ")}</b>{each.subject && ` ${each.subject}`}: {each.detail}. {each.effect === "close" ? "Nothing new starts here while it lasts." : each.effect === "cordon" ? "Cordoned until someone resumes it." : "It is watched."} <span className="muted">Since <Time at={each.since} />.</span></span></p>)}</div>}
        <Panel>
          <Facts items={[
            ["Queue", data.queue], ["Address", data.address], ["Worker", `${data.worker_version}${data.linked ? "" : ", not connected"}`], ["Driver", data.driver || "–"], ["CPUs used", `${data.cpus_used} of ${data.cpus}`],
            ["Memory used", <>{bytes(data.memory_used_bytes)} of <Bytes value={data.memory_bytes} /></>], ["Ends processes by", data.kill_mode], ["Joined", <Time at={data.registered_at} />], ["State for", <Age since={data.state_at} />],
            ["Suspicion, 0 to 0.9", <span className="row">{number(data.suspicion)}<Meter value={data.suspicion} max={0.9} label={`suspicion ${number(data.suspicion)} of 0.9`} tone={data.suspicion > 0.5 ? "bad" : data.suspicion > 0.2 ? "warn" : "neutral"} /></span>],
            ["Returns from repair, 4 weeks", data.returns],
            ["Labels", Object.keys(data.labels).length ? <span className="chips">{Object.entries(data.labels).map(([key, value]) => <Chip key={key}>{key}={String(value)}</Chip>)}</span> : <span className="faint">none</span>],
          ]} />
        </Panel>
        <Panel title={`GPUs${data.simulated_gpus ? ", simulated" : ""}`} flush>
          {data.gpus.length === 0 ? <Empty title="No GPU" /> : <div className="table-wrap short" tabIndex={0} role="region" aria-label="GPUs"><table><thead><tr><th scope="col" className="num">Index</th><th scope="col">State</th><th scope="col">Job</th><th scope="col">Health</th><th scope="col">Model</th><th scope="col" className="num">Memory</th><th scope="col">PCI</th><th scope="col">UUID</th></tr></thead>
            <tbody>{data.gpus.map((gpu) => <tr key={gpu.index}><td className="num">{gpu.index}</td><td><State state={gpu.state} /></td><td>{gpu.job_id !== null ? <Link to={`/jobs/${gpu.job_id}`}>{gpu.job_id}</Link> : <span className="faint">–</span>}</td><td>{gpu.health}{gpu.health_reason && <span className="faint"> {gpu.health_reason}</span>}</td><td className="nowrap">{gpu.model}</td><td className="num nowrap">{bytes(gpu.memory_bytes)}</td><td className="mono nowrap">{gpu.pci}</td><td className="mono nowrap">{gpu.uuid}</td></tr>)}</tbody></table></div>}
        </Panel>
        <Panel title="Measured" actions={<select className="small" aria-label="Measured in the last" value={hours} onChange={(event) => setHours(event.target.value)}>{[["1", "hour"], ["6", "6 h"], ["24", "24 h"], ["168", "7 days"], ["720", "30 days"]].map(([value, label]) => <option key={value} value={value}>Last {label}</option>)}</select>}><Loaded query={metrics} rows={2}>{(all) => <SeriesCharts metrics={all} />}</Loaded></Panel>
        <div className="cols-2"><Score name={name} lemon={data.lemon} /><div className="stack"><Inspection name={name} /><PastInspections name={name} /></div></div>
        <div className="cols-2">
          <Panel title="Faults" flush><Loaded query={faults} rows={3}>{(all) => all.faults.length === 0 ? <Empty title="None" /> : <div className="table-wrap short" tabIndex={0} role="region" aria-label="Faults of this node"><table><thead><tr><th scope="col">When</th><th scope="col">Class</th><th scope="col">Job</th><th scope="col">Action</th><th scope="col">Detail</th></tr></thead><tbody>{all.faults.map((fault) => <tr key={fault.id}><td className="nowrap"><Time at={fault.at} /></td><td><Chip>{fault.class.replaceAll("_", " ")}</Chip></td><td>{fault.job_id !== null ? <Link to={`/jobs/${fault.job_id}`}>{fault.job_id}</Link> : ""}</td><td>{fault.action}</td><td className="pre">{fault.detail}</td></tr>)}</tbody></table></div>}</Loaded></Panel>
          <Panel title="Who ran here" flush>
            <Loaded query={attempts} rows={3}>{(all) => all.attempts.length === 0 ? <Empty title="Nobody yet" /> : <div className="table-wrap short" tabIndex={0} role="region" aria-label="Who ran here"><table><thead><tr><th scope="col">Job</th><th scope="col" className="num">Attempt</th><th scope="col">GPUs</th><th scope="col">Result</th><th scope="col">Cause</th><th scope="col">When</th></tr></thead><tbody>{all.attempts.map((each, i) => <tr key={i}><td className="clip">{each.job_id === null ? <span className="faint">of another project</span> : <><Link to={`/jobs/${each.job_id}?attempt=${each.number}`} title={each.name}>{each.name}</Link> <span className="faint">{each.job_id}</span></>}</td><td className="num">{each.number}</td><td className="nowrap">{ranges(each.gpus) || <span className="faint">none</span>}</td><td>{each.until === null ? <State state="running" /> : <State state={each.result ?? "ended"} />}</td><td><Cause cause={each.cause} /></td><td className="nowrap"><Time at={each.from} /></td></tr>)}</tbody></table></div>}</Loaded>
          </Panel>
        </div>
      </div>
    </Page>
  );
}
