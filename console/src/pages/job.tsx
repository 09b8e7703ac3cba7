import { ChevronDown, Download } from "lucide-react";
import { lazy, Suspense, useEffect, useState } from "react";
import { Link, useParams, useSearchParams } from "react-router";
import { useAttempts, useCheckpoints, useExplain, useJob, useJobEvents, useMay } from "@/api/queries";
import type { Attempt, Job } from "@/api/types";
import { PriorityDialog, VerbDialog } from "@/ui/actions";
import { Age, Button, Bytes, Cause, Chip, Empty, EtaText, Facts, Loaded, Meter, Page, Panel, Problem, Skeleton, State, Time } from "@/ui/bits";
import { kJobEventColumns } from "@/ui/events";
import { Menu, Tabs, type Choice } from "@/ui/overlay";
import { Table } from "@/ui/table";
import { count, duration, number, percent, plural } from "@/lib/format";
import { isActive, isPending, isTerminal, kCauseText, verbsOf, type Verb } from "@/lib/jobs";
import { addressNow, withFilters } from "@/lib/url";
import { JobLogs } from "./job-logs";
import { JobTimeline } from "./job-timeline";

const JobMetrics = lazy(() => import("./job-metrics").then((m) => ({ default: m.JobMetrics })));
const JobSpecTab = lazy(() => import("./job-spec").then((m) => ({ default: m.JobSpecTab })));

/** What failures may still cost it: only causes that have cost something, or that could at least cost something. */
function Budgets({ job }: { job: Job }) {
  const budgets = (job.budgets ?? []).filter((budget) => budget.used > 0 || budget.limit !== 0);
  const still = job.no_progress;
  return (
    <div className="budgets" role="group" aria-label="Retry budgets">
      <span className="budgets-name">Retry budgets</span>
      {budgets.length === 0 && <span className="faint">no failure is forgiven</span>}
      {budgets.map(({ cause, limit, used, window_seconds: span, next_delay_seconds: delay }) => {
        const most = limit < 0 ? "any number" : String(limit);
        const text = `${(cause && kCauseText[cause]) ?? cause}: ${used} of ${most} used${span ? ` in ${duration(span)}` : ""}; ${delay === null ? "after the next it would not start again" : delay === 0 ? "after the next it starts again at once" : `after the next it starts again within ${duration(delay)}`}`;
        return (
          <div className="budget" key={cause} title={text}>
            <span className="row between"><span>{cause?.replaceAll("_", " ")}</span><span className="faint">{used} / {limit < 0 ? "∞" : limit}</span></span>
            <Meter value={limit === 0 ? 1 : used} max={Math.max(1, limit < 0 ? used * 4 || 1 : limit)} label={text} tone={limit >= 0 && used >= limit ? "bad" : "accent"} />
          </div>
        );
      })}
      {still && still.limit > 0 && (
        <div className="budget" title={`${still.in_a_row} attempts in a row without a new checkpoint; it is held after ${still.limit}`}>
          <span className="row between"><span>no progress</span><span className="faint">{still.in_a_row} / {still.limit}</span></span>
          <Meter value={still.in_a_row} max={still.limit} label={`no progress: ${still.in_a_row} of ${still.limit} in a row`} tone={still.in_a_row + 1 >= still.limit ? "warn" : "accent"} />
        </div>
      )}
    </div>
  );
}

function Explain({ job }: { job: Job }) {
  const explain = useExplain(String(job.id));
  if (isTerminal(job.state)) return <Empty title={`It has ended: ${job.state}`}>{job.reason || "Nothing holds it back any more."}</Empty>;
  return (
    <Loaded query={explain}>{(data) => (
      <div className="stack">
        <Facts items={[["Position", data.position === null ? "not in the ready queue" : `${data.position + 1}`], ["Planned start", data.never ? <Chip tone="bad">never, on this cluster</Chip> : <EtaText eta={data.eta} />]]} />
        {data.reasons.length === 0 && data.blockers.length === 0 && <p className="muted">Nothing holds it back.</p>}
        {data.reasons.length > 0 && <Panel title="All reasons" flush><div className="table-wrap short" tabIndex={0} role="region" aria-label="Table"><table><thead><tr><th scope="col">Reason</th><th scope="col">What it means</th><th scope="col" className="num">Needs</th><th scope="col" className="num">Has</th></tr></thead><tbody>{data.reasons.map((reason, i) => <tr key={i}><td><Chip>{reason.code.replaceAll("_", " ")}</Chip></td><td>{reason.text}</td><td className="num">{reason.need ? count(reason.need) : ""}</td><td className="num">{reason.need ? count(reason.have) : ""}</td></tr>)}</tbody></table></div></Panel>}
        {data.blockers.length > 0 && <Panel title="It starts when all of these are gone"><ul className="list">{data.blockers.map((blocker, i) => <li key={i}><span><Chip>{blocker.code}</Chip> {blocker.text}</span>{blocker.job_id !== null && <Link to={`/jobs/${blocker.job_id}`}>job {blocker.job_id}</Link>}</li>)}</ul></Panel>}
        {data.would_help.length > 0 && <Panel title="Each of these alone would start it now"><ul className="list">{data.would_help.map((change, i) => <li key={i}><span><code>{change.field}</code> to <b>{change.to}</b></span></li>)}</ul></Panel>}
      </div>
    )}</Loaded>
  );
}

function Gang({ job, attempt }: { job: Job; attempt: Attempt }) {
  const stragglers = new Map((job.stragglers ?? []).map((each) => [each.rank, each.times]));
  const live = attempt.state !== "ended";
  return (
    <div className="stack">
      <p className="muted">{plural(attempt.gang.length, "node")}, {plural(attempt.gang.reduce((sum, member) => sum + member.ranks, 0), "rank")}, {plural(attempt.gang.reduce((sum, member) => sum + member.gpus.length, 0), "GPU")}. Epoch {attempt.epoch}.</p>
      {job.hang && live && <p className="notice warn">No rank moves since <Time at={job.hang.since} />: {job.hang.detail}</p>}
      <div className="gang">
        {attempt.gang.map((member) => (
          <div className="gang-node" key={member.node}>
            <div className="row between"><Link to={`/nodes/${encodeURIComponent(member.node)}`} className="ellipsis"><b>{member.node}</b></Link><span className="faint">{member.state}</span></div>
            <div className="gang-ranks">
              {Array.from({ length: Math.min(member.ranks, 64) }, (_, i) => {
                const rank = member.first_rank + i;
                const gpu = member.ranks === member.gpus.length ? member.gpus[i] : undefined;
                const slow = stragglers.get(rank);
                const text = `rank ${rank}${gpu ? `, GPU ${gpu.index} ${gpu.uuid}` : ""}${slow ? `, takes ${number(slow)} times the median` : ""}`;
                return <Link key={rank} to={`?tab=logs&rank=${rank}&attempt=${attempt.number}`} className="gang-rank" data-tone={slow && live ? "warn" : live ? "accent" : undefined} title={text} aria-label={`Log of ${text}`}>{rank}{slow && live ? " ▲" : ""}</Link>;
              })}
            </div>
            {member.ranks > 64 && <span className="faint">and {member.ranks - 64} more ranks</span>}
            <span className="faint">GPUs {member.gpus.map((gpu) => gpu.index).join(", ") || "none"}</span>
            {(member.exit_code !== 0 || member.signal !== 0) && <Chip tone="bad">{member.signal !== 0 ? `signal ${member.signal}` : `exit ${member.exit_code}`} of its first failing rank</Chip>}
            {member.proof && <span className="faint">ended, shown by: {member.proof}</span>}
          </div>
        ))}
      </div>
      {(job.stragglers ?? []).length > 0 && live && <p className="muted">▲ slower than the others of its gang.</p>}
    </div>
  );
}

const kMostPoints = 200;
function Checkpoints({ job }: { job: Job }) {
  const points = useCheckpoints(String(job.id));
  return (
    <Loaded query={points}>{(data) => (
      <div className="stack">
        {data.advice?.text && <p className={`notice ${data.advice.overdue ? "warn" : ""}`}>{data.advice.text}</p>}
        {data.checkpoints.length === 0 ? <Empty title="No checkpoint">A job saves under <code>$CHECKPOINT_DIR</code> and says so with <code>COMPLETE.json</code>.</Empty> : (
          <Panel flush><div className="table-wrap short" tabIndex={0} role="region" aria-label="Checkpoints"><table><thead><tr><th scope="col" className="num">Step</th><th scope="col">State</th><th scope="col">When</th><th scope="col" className="num">Size</th><th scope="col" className="num">Shards</th><th scope="col">Path</th></tr></thead>
            <tbody>{[...data.checkpoints].reverse().slice(0, kMostPoints).map((point) => <tr key={point.path + point.epoch}><td className="num">{count(point.step)}</td><td><State state={point.state} title={point.detail} />{point.restored && <> <Chip tone="good">restored</Chip></>}{point.deleted_at ? <> <Chip>deleted</Chip></> : point.retired_at ? <> <Chip>retired</Chip></> : null}</td><td><Time at={point.at} /></td><td className="num"><Bytes value={point.bytes} /></td><td className="num">{point.shards}</td><td className="mono pre">{point.path}</td></tr>)}</tbody></table></div>{data.checkpoints.length > kMostPoints && <p className="table-foot">The newest {count(kMostPoints)} of {count(data.checkpoints.length)}.</p>}</Panel>
        )}
      </div>
    )}</Loaded>
  );
}

const kMostAttempts = 20;
function Attempts({ job, attempts }: { job: Job; attempts: Attempt[] }) {
  const [all, setAll] = useState(false);
  if (attempts.length === 0) return <Empty title="No attempt yet" />;
  const shown = [...attempts].reverse().slice(0, all ? undefined : kMostAttempts);
  return (
    <div className="stack">{shown.map((attempt) => (
      <Panel key={attempt.number} title={`Attempt ${attempt.number}`} actions={<a className="button small" href={`/v1/jobs/${job.id}/attempts/${attempt.number}/evidence`} download={`job-${job.id}-attempt-${attempt.number}.tar.gz`}><Download size={13} aria-hidden />Evidence</a>}>
        <div className="stack">
          <Facts items={[
            ["State", attempt.ended_at ? <State state={attempt.result ?? "ended"} /> : <State state={attempt.state} />], ["Cause", <Cause cause={attempt.cause} />], ["Exit code", attempt.exit_code ?? "–"],
            ["Placed", <Time at={attempt.placed_at} />], ["Ended", <Time at={attempt.ended_at} />], ["Resumed from step", attempt.resume_step ?? "–"], ["Last step", attempt.last_step ?? "–"],
            ["Work to be done again", attempt.lost_gpu_seconds === null ? "–" : `${duration(attempt.lost_gpu_seconds)} of GPU time`],
            ["Prepare", duration(attempt.stages?.prepare_seconds)], ["Launch", duration(attempt.stages?.launch_seconds)], ["Run", duration(attempt.stages?.run_seconds)], ["Detect", duration(attempt.stages?.detect_seconds)], ["Fence", duration(attempt.stages?.fence_seconds)],
          ]} />
          {attempt.detail && <p className="pre">{attempt.detail}</p>}
          {attempt.evidence.length > 0 && <details><summary>{plural(attempt.evidence.length, "piece")} of evidence</summary><pre className="code" tabIndex={0}>{attempt.evidence.map((each) => JSON.stringify(each, null, 1)).join("\n")}</pre></details>}
        </div>
      </Panel>
    ))}
      {attempts.length > shown.length && <div><Button small onClick={() => setAll(true)}>All {count(attempts.length)} attempts</Button></div>}
    </div>
  );
}

function Events({ job }: { job: Job }) {
  const events = useJobEvents(String(job.id));
  return (
    <Loaded query={events}>{(data) => data.length === 0 ? <Empty title="No event" /> : (
      <Panel flush><Table label="Events" columns={kJobEventColumns} data={[...data].reverse()} id={(event) => String(event.id)} /></Panel>
    )}</Loaded>
  );
}

export default function JobPage() {
  const { id = "" } = useParams();
  const [params, setParams] = useSearchParams();
  const query = useJob(id);
  const attempts = useAttempts(id);
  const points = useCheckpoints(id);
  const explain = useExplain(id, !!query.data && isPending(query.data.job.state));
  const may = useMay();
  const [verb, setVerb] = useState<Verb | null>(null);
  const [priority, setPriority] = useState(false);
  const job = query.data?.job;
  useEffect(() => { document.title = job ? `${job.name} · ${job.state} · Tutti` : `Job ${id} · Tutti`; }, [job, id]);
  if (!job) return query.error ? <Page title={`Job ${id}`}><Problem error={query.error} retry={() => void query.refetch()} /></Page> : <Skeleton rows={10} />;

  const mayChange = may("change-job", { project: job.project, owner: job.owner });
  const verbs = mayChange ? verbsOf(job.state) : [];
  const list = attempts.data?.attempts ?? [];
  const chosen = list.find((attempt) => attempt.number === Number(params.get("attempt"))) ?? list.at(-1);
  const more: Choice[] = [
    ...(mayChange && !isTerminal(job.state) ? [{ label: "Change priority…", onSelect: () => setPriority(true) }] : []),
    ...verbs.filter((each) => each !== "cancel").map((each) => ({ label: `${each[0]!.toUpperCase()}${each.slice(1)}…`, onSelect: () => setVerb(each) })),
  ];
  const needsAttempt = (show: (attempt: Attempt) => React.ReactNode) => () => chosen ? show(chosen) : attempts.isPending ? <Skeleton /> : <Empty title="No attempt yet">It has not started.</Empty>;
  const progress = job.progress;
  const gpus = job.nodes * job.gpus_per_node;
  return (
    <Page
      title={job.name}
      sub={<div className="row wrap"><State state={job.state} />{job.cause && <Cause cause={job.cause} />}<span>job {job.id} of {job.owner} in <Link to={`/projects?project=${encodeURIComponent(job.project)}`}>{job.project}</Link></span></div>}
      actions={<>
        {may("submit") && <Link className="button" to={`/submit?from=${job.id}`}>Submit again</Link>}
        {more.length > 0 && <Menu label={<>Change<ChevronDown size={13} aria-hidden /></>} items={more} />}
        {verbs.includes("cancel") && <Button kind="danger" onClick={() => setVerb("cancel")}>Cancel job</Button>}
      </>}>
      <div className="stack">
        {job.reason && job.state !== "starting" && <p className={`notice ${job.state === "failed" || job.state === "held" ? "warn" : ""}`}>{job.reason}</p>}
        {job.hang && <p className="notice warn">No rank moves since <Time at={job.hang.since} />: {job.hang.detail}</p>}
        <Panel>
          <Facts items={[
            ["GPUs", `${job.nodes > 1 ? `${job.nodes} nodes × ${job.gpus_per_node} = ` : ""}${gpus}`], ["Queue", <Link to={`/queue?queue=${encodeURIComponent(job.queue)}`}>{job.queue}</Link>], ["Priority", job.priority],
            ["Submitted", <Time at={job.created_at} />],
            ...(isPending(job.state) ? [["Planned start", explain.data?.never ? "never, on this cluster" : <EtaText eta={job.eta ?? explain.data?.eta} />] as const] : []),
            ...(job.not_before ? [["Not before", <Time at={job.not_before} as="both" />] as const] : []),
            ...(chosen?.running_at && !chosen.ended_at ? [["Running for", <Age since={chosen.running_at} />] as const] : []),
            ...(isActive(job.state) && job.ends_at ? [["Ends, as its like do", <Time at={job.ends_at} as="both" />] as const] : []),
            ...(job.ended_at ? [["Ended", <Time at={job.ended_at} />] as const, ["Exit code", job.exit_code ?? "–"] as const] : []),
            ["Attempts", job.attempt],
            ...(progress ? [["Step", <>{count(progress.step)}{progress.total ? <span className="faint"> of {count(progress.total)}, {percent(progress.step / progress.total)}</span> : null}</>] as const] : []),
            ...(progress?.eta_seconds ? [["Left, as it says itself", duration(progress.eta_seconds)] as const] : []),
            ...Object.entries((progress?.metrics ?? {}) as Record<string, number>).slice(0, 4).map(([name, value]) => [name, number(value)] as const),
            ...(attempts.data?.goodput?.ettr !== null && attempts.data?.goodput?.ettr !== undefined ? [["Time on work that is kept", percent(attempts.data.goodput.ettr, 1)] as const] : []),
                      ]} />
          {job.budgets && <Budgets job={job} />}
        </Panel>
        <Panel title="Attempts">
          <Loaded query={attempts} rows={3}>{(data) => <JobTimeline job={job} attempts={data.attempts} checkpoints={points.data?.checkpoints ?? []} selected={chosen?.number ?? 0} onAttempt={(n) => setParams(withFilters(addressNow(), { attempt: String(n) }), { replace: true })} />}</Loaded>
        </Panel>
        <Suspense fallback={<Skeleton />}>
          <Tabs label="Job" selected={params.get("tab") ?? (isPending(job.state) ? "explain" : "logs")} onSelect={(tab) => setParams(withFilters(addressNow(), { tab }), { replace: true })} tabs={[
            { id: "explain", label: "Explain", content: () => <Explain job={job} /> },
            { id: "logs", label: "Logs", content: needsAttempt((attempt) => <JobLogs key={attempt.number} job={job} attempt={attempt} />) },
            { id: "metrics", label: "Metrics", content: needsAttempt((attempt) => <JobMetrics key={attempt.number} job={job} attempt={attempt} />) },
            { id: "gang", label: "Gang", content: needsAttempt((attempt) => <Gang job={job} attempt={attempt} />) },
            { id: "checkpoints", label: "Checkpoints", content: () => <Checkpoints job={job} /> },
            { id: "evidence", label: "Evidence", content: () => <Attempts job={job} attempts={list} /> },
            { id: "events", label: "Events", content: () => <Events job={job} /> },
            { id: "spec", label: "Spec", content: () => <JobSpecTab job={job} /> },
          ]} />
        </Suspense>
      </div>
      <VerbDialog verb={verb} job={job} onClose={() => setVerb(null)} />
      <PriorityDialog id={job.id} open={priority} onClose={() => setPriority(false)} />
    </Page>
  );
}
