import { Download } from "lucide-react";
import { useEffect, useMemo, type ReactNode } from "react";
import { Link, useSearchParams } from "react-router";
import { useProjects, useQueues, useUsage, useWaits } from "@/api/queries";
import type { Project, Schema } from "@/api/types";
import type { ProjectMore } from "@/api/wanted";
import { Button, Chip, Empty, Facts, Loaded, Meter, Page, Panel } from "@/ui/bits";
import { Chart } from "@/ui/chart";
import { LongTable, type Column } from "@/ui/table";
import { count, duration, gpuHours, number, percent } from "@/lib/format";
import { Rows } from "@/lib/rows";
import { shareByDay, shareOf, treeOrder, type Share } from "@/lib/shares";
import { addressNow, withFilters } from "@/lib/url";

const kSpans = [["24h", "24 h"], ["7d", "7 days"], ["30d", "30 days"], ["90d", "90 days"]] as const;

/** How long jobs waited for their first start: a bar for each span that had any, and those between. */
function Waits({ buckets }: { buckets: Schema["ProjectWaits"]["buckets"] }) {
  const used = buckets.slice(buckets.findIndex((bucket) => bucket.jobs > 0), buckets.findLastIndex((bucket) => bucket.jobs > 0) + 1);
  const all = buckets.reduce((sum, bucket) => sum + bucket.jobs, 0);
  if (all === 0) return <p className="muted">No job was placed.</p>;
  const most = Math.max(...used.map((bucket) => bucket.jobs));
  let below = 0;
  return (
    <div className="table-wrap short" tabIndex={0} role="region" aria-label="Waits for the first start"><table><thead><tr><th scope="col">Waited less than</th><th scope="col" className="num">Jobs</th><th scope="col"><span className="visually-hidden">As a bar</span></th><th scope="col" className="num">Running share</th></tr></thead>
      <tbody>{used.map((bucket) => { below += bucket.jobs; return <tr key={String(bucket.upto_seconds)}><td>{bucket.upto_seconds === null ? "longer" : duration(bucket.upto_seconds)}</td><td className="num">{count(bucket.jobs)}</td><td className="pareto"><span style={{ width: `${(bucket.jobs / most) * 100}%` }} /></td><td className="num">{percent(below / all)}</td></tr>; })}</tbody></table></div>
  );
}

function One({ project, since, due }: { project: Project & ProjectMore; since: string; due: number | undefined }) {
  const all = useUsage(since, "project,day");
  const days = useUsage(since, "day", { project: project.name });
  const users = useUsage(since, "user", { project: project.name });
  const waits = useWaits(project.name, since);
  const shares = useMemo(() => shareByDay(all.data?.rows ?? [], project.name), [all.data, project.name]);
  const at = useMemo(() => [...shares.keys()].map((day) => Date.parse(day) / 1000), [shares]);
  const lines = useMemo(() => [{ label: "of all GPU hours", values: [...shares.values()].map((share) => share * 100) }, ...(due === undefined ? [] : [{ label: "due by its weight now", values: at.map(() => due * 100) }])], [shares, at, due]);
  const most = Math.max(1, ...(days.data?.rows.map((row) => row.gpu_seconds) ?? []));
  return (
    <Panel title={project.name} actions={<Link className="button small" to={`/jobs?project=${encodeURIComponent(project.name)}`}>Jobs</Link>}>
      <div className="stack">
        <Facts items={[["Under", project.parent ?? "–"], ["Weight among its siblings", number(project.weight)], ["Held", count(project.use.gpus)], ["Most at one time", project.max_gpus === null ? "no limit" : count(project.max_gpus)], ...(project.use.borrowed_gpus === undefined ? [] : [["Borrowed", count(project.use.borrowed_gpus)] as const]), ["Wait, median", days.data ? duration(days.data.total.wait_p50_seconds) : "–"], ["Wait, 9 of 10 below", days.data ? duration(days.data.total.wait_p90_seconds) : "–"]]} />
        {at.length > 1 && <Chart title="Share of the GPU hours you may see, by day" unit="percent" at={at} lines={lines} />}
        <Loaded query={waits} rows={2}>{(data) => <Waits buckets={data.buckets} />}</Loaded>
        <Loaded query={days} rows={2}>{(data) => data.rows.length === 0 ? <p className="muted">Nothing was used.</p> : (
          <div className="table-wrap short" tabIndex={0} role="region" aria-label="Usage by day"><table><thead><tr><th scope="col">Day, UTC</th><th scope="col" className="num">GPU h</th><th scope="col"><span className="visually-hidden">As a bar</span></th><th scope="col" className="num" title="Of the GPU hours of all projects that you may see">Share</th><th scope="col" className="num">Lost</th><th scope="col" className="num">Jobs</th><th scope="col" className="num">Median wait</th></tr></thead>
            <tbody>{[...data.rows].reverse().map((row) => <tr key={row.day}><td>{row.day}</td><td className="num">{gpuHours(row.gpu_seconds)}</td><td className="pareto"><span style={{ width: `${(row.gpu_seconds / most) * 100}%` }} /></td><td className="num">{percent(shares.get(row.day ?? ""))}</td><td className="num">{gpuHours(row.lost_gpu_seconds)}</td><td className="num">{count(row.jobs)}</td><td className="num">{duration(row.wait_p50_seconds)}</td></tr>)}</tbody></table></div>
        )}</Loaded>
        <Loaded query={users} rows={2}>{(data) => data.rows.length === 0 ? null : (
          <div className="table-wrap short" tabIndex={0} role="region" aria-label="Table"><table><thead><tr><th scope="col">User</th><th scope="col" className="num">GPU h</th><th scope="col" className="num">Lost</th><th scope="col" className="num">Jobs</th><th scope="col" className="num">Succeeded</th><th scope="col" className="num">Failed</th></tr></thead>
            <tbody>{[...data.rows].sort((a, b) => b.gpu_seconds - a.gpu_seconds).map((row) => <tr key={row.user}><td>{row.user}</td><td className="num">{gpuHours(row.gpu_seconds)}</td><td className="num">{gpuHours(row.lost_gpu_seconds)}</td><td className="num">{count(row.jobs)}</td><td className="num">{count(row.succeeded)}</td><td className="num">{count(row.failed)}</td></tr>)}</tbody></table></div>
        )}</Loaded>
      </div>
    </Panel>
  );
}

interface ProjectRow {
  project: Project;
  depth: number;
  used: Schema["UsageSums"] | null;
  share: Share | null;
}
function projectColumns(chosen: string | null, choose: (name: string | null) => void): Column<ProjectRow>[] {
  const plain = (id: string, header: string, width: number, cell: (row: ProjectRow) => ReactNode): Column<ProjectRow> => ({ id, header, meta: { width, num: true }, cell: ({ row }) => cell(row.original) });
  return [
    { id: "project", header: "Project", cell: ({ row: { original: { project, depth } } }) => <span style={{ paddingLeft: `${depth}rem` }}><Button kind="quiet" small title={project.name} aria-expanded={project.name === chosen} onClick={() => choose(project.name === chosen ? null : project.name)}>{project.name}</Button></span> },
    plain("weight", "Weight", 72, ({ project }) => number(project.weight)),
    plain("held", "GPUs held", 84, ({ project }) => count(project.use.gpus)),
    { id: "most", header: "Of its most", meta: { width: 128 }, cell: ({ row: { original: { project } } }) => project.max_gpus === null ? <span className="faint">no limit</span> : <span className="row"><Meter value={project.use.gpus} max={project.max_gpus} label={`${project.use.gpus} of ${project.max_gpus} GPUs`} tone={project.use.gpus >= project.max_gpus ? "warn" : "accent"} /><span className="faint">{count(project.max_gpus)}</span></span> },
    plain("share", "Share held", 92, ({ share }) => share ? <span className={share.has > share.due ? "share over" : ""}>{share.has > share.due ? "▲ " : ""}{percent(share.has)}</span> : "–"),
    plain("due", "Due by weight", 118, ({ share }) => percent(share?.due)),
    plain("active", "Active", 70, ({ project }) => count(project.use.active_jobs)),
    plain("pending", "Pending", 76, ({ project }) => count(project.use.pending_jobs)),
    plain("hours", "GPU h", 80, ({ used }) => used ? gpuHours(used.gpu_seconds) : "0"),
    plain("lost", "Lost", 76, ({ used }) => used ? gpuHours(used.lost_gpu_seconds) : "0"),
    plain("wait", "Median wait", 98, ({ used }) => duration(used?.wait_p50_seconds)),
  ];
}

export default function Projects() {
  useEffect(() => { document.title = "Projects · Tutti"; }, []);
  const [params, setParams] = useSearchParams();
  const since = params.get("since") ?? "30d";
  const projects = useProjects();
  const queues = useQueues();
  const usage = useUsage(since, "project");
  const used = useMemo(() => new Map(usage.data?.rows.map((row) => [row.project ?? "", row]) ?? []), [usage.data]);
  const shares = useMemo(() => shareOf(projects.data?.projects ?? []), [projects.data]);
  const chosen = projects.data?.projects.find((project) => project.name === params.get("project"));
  const csv = `/v1/usage?format=csv&since=${encodeURIComponent(since)}&group_by=project,user,queue,day${chosen ? `&project=${encodeURIComponent(chosen.name)}` : ""}`;
  const name = chosen?.name ?? null;
  const rows = useMemo(() => new Rows([treeOrder(projects.data?.projects ?? []).map(({ project, depth }): ProjectRow => ({ project, depth, used: used.get(project.name) ?? null, share: shares.get(project.name) ?? null }))]), [projects.data, used, shares]);
  const columns = useMemo(() => projectColumns(name, (next) => setParams(withFilters(addressNow(), { project: next }), { replace: true })), [name, setParams]);
  return (
    <Page title="Projects" actions={<>
      <select aria-label="Usage of the last" value={since} onChange={(event) => setParams(withFilters(addressNow(), { since: event.target.value }), { replace: true })}>{kSpans.map(([value, label]) => <option key={value} value={value}>Last {label}</option>)}</select>
      <a className="button" href={csv} download={`usage-${since}.csv`}><Download size={14} aria-hidden />Usage as CSV</a>
    </>}>
      <div className="stack">
        <Panel flush>
          <Loaded query={projects} rows={5}>{() => <LongTable label="Projects" columns={columns} rows={rows} id={(row) => row.project.name} marked={(row) => row.project.name === name} empty={<Empty title="No project yet" />} />}</Loaded>
        </Panel>
        {chosen && <One key={chosen.name} project={chosen} since={since} due={shares.get(chosen.name)?.due} />}
        <Panel title="Queues" flush>
          <Loaded query={queues} rows={3}>{(data) => (
            <div className="table-wrap short" tabIndex={0} role="region" aria-label="Table"><table><thead><tr><th scope="col">Queue</th><th scope="col">Nodes of</th><th scope="col" className="num">Quota</th><th scope="col" className="num">GPUs held</th><th scope="col" className="num">Borrowed</th><th scope="col" className="num">May borrow</th><th scope="col" className="num">May lend</th><th scope="col" className="num">Active</th><th scope="col" className="num">Pending</th></tr></thead>
              <tbody>{data.queues.map((queue) => {
                const borrowed = queue.quota_gpus === null ? null : Math.max(0, queue.use.gpus - queue.quota_gpus);
                const limit = (value: number | null) => (value === null ? <span className="faint">all</span> : count(value));
                return <tr key={queue.name}><td><Link to={`/queue?queue=${encodeURIComponent(queue.name)}`}>{queue.name}</Link></td><td>{queue.nodes_of ?? <span className="faint">its own</span>}</td><td className="num">{queue.quota_gpus === null ? <span className="faint">none</span> : count(queue.quota_gpus)}</td><td className="num">{count(queue.use.gpus)}</td><td className="num">{borrowed === null ? <span className="faint">–</span> : borrowed > 0 ? <Chip tone="warn">{borrowed}</Chip> : 0}</td><td className="num">{limit(queue.borrow_gpus)}</td><td className="num">{limit(queue.lend_gpus)}</td><td className="num">{count(queue.use.active_jobs)}</td><td className="num">{count(queue.use.pending_jobs)}</td></tr>;
              })}</tbody></table></div>
          )}</Loaded>
        </Panel>
      </div>
    </Page>
  );
}
