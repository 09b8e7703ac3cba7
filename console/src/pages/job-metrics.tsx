import { useQuery } from "@tanstack/react-query";
import { useEffect, useMemo, useRef, useState } from "react";
import type { Attempt, Job } from "@/api/types";
import { getJobMetrics, type Metrics, type Series } from "@/api/wanted";
import { bytes, number } from "@/lib/format";
import { alignSeries, groupSeries } from "@/lib/metrics";
import { Loaded, NotRecorded } from "@/ui/bits";
import { Chart } from "@/ui/chart";

const kTitles: Record<string, string> = { gpu_utilisation: "GPU use", gpu_memory_bytes: "GPU memory", gpu_power_watts: "GPU power", gpu_temperature_celsius: "GPU temperature", step_seconds: "Step time", compute_seconds: "Compute time of a step", loss: "Loss", throughput: "Throughput", step: "Step", nvlink_bytes_per_second: "NVLink", ib_bytes_per_second: "InfiniBand" };
export function SeriesCharts({ metrics }: { metrics: Metrics }) {
  const groups = useMemo(() => groupSeries(metrics.series), [metrics]);
  if (groups.length === 0) return <p className="muted">No measurement yet.</p>;
  return <div className="charts">{groups.map(([name, series]) => <SeriesChart key={name} name={name} series={series} metrics={metrics} />)}</div>;
}
function SeriesChart({ name, series, metrics }: { name: string; series: Series[]; metrics: Metrics }) {
  const { at, lines } = useMemo(() => alignSeries(series, Date.parse(metrics.from) / 1000), [series, metrics.from]);
  const isBytes = name.includes("bytes");
  const ours = name.startsWith("gpu_") || name.startsWith("nvlink") || name.startsWith("ib_");
  return <Chart title={kTitles[name] ?? name.replaceAll("_", " ")} unit={isBytes ? "" : (series[0]?.unit ?? "")} at={at} lines={lines} format={isBytes ? bytes : number} {...(metrics.simulated && ours ? { note: "simulated" } : {})} />;
}

interface Seen { at: number[]; values: Record<string, (number | null)[]>; step: number[] }
/** Where the server keeps no metrics: what the job has reported while this page was open. */
function useSeen(job: Job): Seen {
  const seen = useRef<Seen>({ at: [], values: {}, step: [] });
  const [, draw] = useState(0);
  const progress = job.progress;
  useEffect(() => {
    if (!progress) return;
    const all = seen.current;
    if (all.step.at(-1) === progress.step) return;
    const metrics = progress.metrics as Record<string, number>;
    for (const name of Object.keys(metrics)) all.values[name] ??= all.at.map(() => null);
    all.at.push(Date.now() / 1000);
    all.step.push(progress.step);
    for (const [name, list] of Object.entries(all.values)) list.push(metrics[name] ?? null);
    seen.current = { at: [...all.at], values: Object.fromEntries(Object.entries(all.values).map(([name, list]) => [name, [...list]])), step: [...all.step] };
    draw((n) => n + 1);
  }, [progress]);
  return seen.current;
}

export function JobMetrics({ job, attempt }: { job: Job; attempt: Attempt }) {
  const metrics = useQuery({ queryKey: ["job", String(job.id), "metrics", attempt.number], queryFn: () => getJobMetrics(String(job.id), attempt.number), placeholderData: undefined, refetchInterval: (query) => (attempt.state === "ended" || query.state.data === null ? false : 5000) });
  const seen = useSeen(job);
  const running = attempt.state === "running";
  return (
    <Loaded query={metrics}>{(data) => data ? <SeriesCharts metrics={data} /> : (
      <div className="stack">
        <NotRecorded what="Metrics">{running ? "What the job reports while this page is open is drawn below. GPU use, memory, power and temperature are measured on the nodes and not kept here." : "GPU use, step time and loss are not kept after the attempt."}</NotRecorded>
        {running && (seen.at.length < 2 ? <p className="muted">{job.progress ? "Waiting for the next report of progress." : "The job has reported no progress. It does so by writing $TUTTI_PROGRESS_FILE."}</p> : (
          <div className="charts">
            <Chart title="Step" note="since this page was opened" at={seen.at} lines={[{ label: "step", values: seen.step }]} />
            {Object.entries(seen.values).map(([name, values]) => <Chart key={name} title={kTitles[name] ?? name.replaceAll("_", " ")} note="since this page was opened" at={seen.at} lines={[{ label: name, values }]} />)}
          </div>
        ))}
      </div>
    )}</Loaded>
  );
}
