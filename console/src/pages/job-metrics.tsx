import { useMemo } from "react";
import { useJobMetrics } from "@/api/queries";
import type { Attempt, Job, Metrics, Series } from "@/api/types";
import { bytes, duration, number } from "@/lib/format";
import { alignSeries, fewLines, groupSeries } from "@/lib/metrics";
import { Empty, Loaded } from "@/ui/bits";
import { Chart } from "@/ui/chart";

const kTitles: Record<string, string> = { gpu_utilisation: "GPU use", gpu_memory_bytes: "GPU memory", gpu_power_watts: "GPU power", gpu_temperature_celsius: "GPU temperature", step_seconds: "Step time", compute_seconds: "Compute time of a step", loss: "Loss", throughput: "Throughput", step: "Step", nvlink_bytes_per_second: "NVLink", ib_bytes_per_second: "InfiniBand" };
export function SeriesCharts({ metrics }: { metrics: Metrics }) {
  const groups = useMemo(() => groupSeries(metrics.series), [metrics]);
  if (groups.length === 0) return <p className="muted">No measurement yet.</p>;
  return (
    <div className="stack tight">
      <div className="charts">{groups.map(([name, series]) => <SeriesChart key={name} name={name} series={series} metrics={metrics} />)}</div>
      <p className="faint">Means of {duration(metrics.bucket_seconds)} each.{metrics.cut && " There are more than 256 ranks or GPUs: the first are shown."}</p>
    </div>
  );
}
function SeriesChart({ name, series, metrics }: { name: string; series: Series[]; metrics: Metrics }) {
  const { at, lines } = useMemo(() => {
    const all = alignSeries(series, Date.parse(metrics.from) / 1000);
    return { at: all.at, lines: fewLines(all.lines) };
  }, [series, metrics.from]);
  const isBytes = name.includes("bytes");
  const ours = name.startsWith("gpu_") || name.startsWith("nvlink") || name.startsWith("ib_");
  return <Chart title={kTitles[name] ?? name.replaceAll("_", " ")} unit={isBytes ? "" : (series[0]?.unit ?? "")} at={at} lines={lines} format={isBytes ? bytes : number} {...(metrics.simulated && ours ? { note: "simulated" } : {})} />;
}

export function JobMetrics({ job, attempt }: { job: Job; attempt: Attempt }) {
  const metrics = useJobMetrics(String(job.id), attempt.number, attempt.state !== "ended");
  return (
    <Loaded query={metrics} rows={8}>{(data) => data.series.length === 0
      ? <Empty title="Nothing was measured">{attempt.state === "running" ? "Measurements come every ten seconds. " : ""}Loss, throughput and step are what a job writes to <code>$TUTTI_PROGRESS_FILE</code>; GPU use, memory, power and temperature come from its nodes.</Empty>
      : <SeriesCharts metrics={data} />}</Loaded>
  );
}
