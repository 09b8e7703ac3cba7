#!/usr/bin/env python3
"""The figures of docs/performance.md: `./dev bench [submit] [load] [latency] [quality] [estimates] [planner] [faults]`. Starts its own scheduler and PostgreSQL
(durable: fsync on), measures side by side in one run, prints a table and writes JSON. Standard library only."""
import argparse
import glob
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

SPEC = '{"name":"bench","run":"true","priority":50,"nodes":1,"resources":{"gpus":8}}'


class Scheduler:
    def __init__(self, bin_dir, home):
        self.home = home
        data = os.path.join(home, "data")
        self.log = open(os.path.join(home, "scheduler.log"), "w")
        self.process = subprocess.Popen([os.path.join(bin_dir, "tutti-scheduler"), "--listen", "127.0.0.1:0", "--data", data,
                                         "--embedded-db", "--log-level", "warn", "--requests-per-second", "0",
                                         "--requests-per-second-address", "0"], stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.url = open(os.path.join(data, "endpoint")).read().strip()
                self.token = open(os.path.join(data, "token")).read().strip()
                urllib.request.urlopen(self.url + "/readyz", timeout=1)
                break
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit("the scheduler did not start; see " + self.log.name)
                time.sleep(0.05)
        self.port = int(self.url.rsplit(":", 1)[1])
        sockets = glob.glob(os.path.join(data, "postgres", "**", ".s.PGSQL.*"), recursive=True)
        self.socket = os.path.dirname([s for s in sockets if not s.endswith(".lock")][0])

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def pg_tool(name):
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    return found[-1] if found else shutil.which(name)


def as_postgres(command):
    if os.getuid() == 0:
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] + command
    return command


def pgbench(scheduler, home, seconds):
    """Rows a second that 64 clients insert one by one: the same spec and columns, one transaction each."""
    script = os.path.join(home, "insert.sql")
    with open(script, "w") as f:
        f.write("INSERT INTO bench_row (owner, name, state, priority, nodes, gpus, created_at, queued_at, spec) VALUES "
                f"('admin', 'bench', 1, 50, 1, 8, now(), now(), '{SPEC}');\n")
    os.chmod(script, 0o644)
    sql = ("CREATE TABLE IF NOT EXISTS bench_row (id bigserial PRIMARY KEY, owner text, name text, state smallint, priority "
           "smallint, nodes int, gpus int, created_at timestamptz, queued_at timestamptz, spec jsonb)")
    subprocess.run(as_postgres([pg_tool("psql"), "-q", "-h", scheduler.socket, "-d", "tutti", "-c", sql]), check=True,
                   cwd="/", stderr=subprocess.DEVNULL)
    out = subprocess.run(as_postgres([pg_tool("pgbench"), "-n", "-M", "prepared", "-c", "64", "-j", "2", "-T", str(max(1, round(seconds))),
                                      "-f", script, "-h", scheduler.socket, "tutti"]), check=True, cwd="/",
                         capture_output=True, text=True).stdout
    return float([line for line in out.splitlines() if line.startswith("tps")][-1].split()[2])


def settle(scheduler):
    """Neither side pays for the vacuum that the other side's rows have called for."""
    subprocess.run(as_postgres([pg_tool("psql"), "-q", "-h", scheduler.socket, "-d", "tutti", "-c", "VACUUM (ANALYZE)"]),
                   check=True, cwd="/")


def rest(bin_dir, scheduler, seconds, batch, connections):
    out = subprocess.run([os.path.join(bin_dir, "rest_load"), "--port", str(scheduler.port), "--token", scheduler.token,
                          "--seconds", str(seconds), "--batch", str(batch), "--connections", str(connections)],
                         capture_output=True, text=True)
    if out.returncode != 0:
        raise SystemExit("rest_load: " + out.stderr[:500])
    return json.loads(out.stdout)


def bench_submit(bin_dir, runs, seconds):
    home = tempfile.mkdtemp(prefix="tutti-bench-", dir="/var/tmp")
    os.chmod(home, 0o755)
    scheduler = Scheduler(bin_dir, home)
    try:
        rows = []
        for i in range(runs):
            settle(scheduler)
            base = pgbench(scheduler, home, seconds)
            settle(scheduler)
            one = rest(bin_dir, scheduler, seconds, 1, 64)
            many = rest(bin_dir, scheduler, seconds, 1000, 4)
            rows.append({"pgbench_per_second": base, "rest": one, "batch": many, "ratio": one["per_second"] / base})
            print(f"  run {i + 1}: pgbench {base:8.0f}/s   REST {one['per_second']:8.0f}/s  p50 {one['p50_ms']:.2f} ms  "
                  f"p99 {one['p99_ms']:.2f} ms   ratio {rows[-1]['ratio']:.2f}   batch of 1000 {many['per_second']:8.0f}/s",
                  flush=True)
    finally:
        scheduler.stop()
        shutil.rmtree(home, ignore_errors=True)
    median = lambda f: statistics.median(f(r) for r in rows)
    return {"pgbench_per_second": median(lambda r: r["pgbench_per_second"]),
            "rest_per_second": median(lambda r: r["rest"]["per_second"]), "rest_p50_ms": median(lambda r: r["rest"]["p50_ms"]),
            "rest_p99_ms": median(lambda r: r["rest"]["p99_ms"]), "batch_per_second": median(lambda r: r["batch"]["per_second"]),
            "ratio": median(lambda r: r["ratio"]), "runs": rows}


def resident_mib(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) / 1024 for line in f if line.startswith("VmRSS"))


def bench_load(bin_dir, _runs, _seconds):
    """Mixed reads and submissions over 512 connections for a minute: latencies, errors, and the scheduler's memory."""
    seconds, warm = 60, 15
    home = tempfile.mkdtemp(prefix="tutti-bench-", dir="/var/tmp")
    os.chmod(home, 0o755)
    scheduler = Scheduler(bin_dir, home)
    try:
        load = subprocess.Popen([os.path.join(bin_dir, "rest_load"), "--port", str(scheduler.port), "--token", scheduler.token,
                                 "--seconds", str(seconds), "--connections", "512", "--mixed", "1"],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        begin, memory = time.monotonic(), []
        while load.poll() is None:
            memory.append((time.monotonic() - begin, resident_mib(scheduler.process.pid)))
            time.sleep(1)
        out, err = load.communicate()
        if not out:
            raise SystemExit("rest_load: " + err[:500])
        result = json.loads(out)
        if result["errors"]:
            raise SystemExit(f"{result['errors']} requests failed; the first: {err[:500]}")
    finally:
        scheduler.stop()
        shutil.rmtree(home, ignore_errors=True)
    for step in result["steps"]:
        print(f"  {step['method']:5s} {step['path']:24s} n {step['n']:7d}   p50 {step['p50_ms']:7.2f} ms   p99 {step['p99_ms']:7.2f} ms")
    settled = [m for at, m in memory if at >= warm]
    result["memory_mib"] = {"after_15_s": settled[0], "at_the_end": settled[-1], "most": max(settled)}
    print(f"  all: p50 {result['p50_ms']:.2f} ms, p99 {result['p99_ms']:.2f} ms, errors {result['errors']}; scheduler's memory "
          f"{settled[0]:.0f} MiB after {warm} s, {settled[-1]:.0f} MiB at the end")
    return result


def bench_latency(bin_dir, runs, seconds):
    """Submit to running, and the recovery rows A, B and E, by the e2e harness on real processes."""
    target = os.path.join(bin_dir, "e2e_figures")
    if not os.path.exists(target):
        raise SystemExit("e2e_figures is not built: cmake --build build/release --target e2e_figures")
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        subprocess.run([target], check=True, env=dict(os.environ, TUTTI_E2E_FIGURES=out.name))
        return json.load(open(out.name))


# Workloads and the clusters they are simulated on: bench/traces/README.md.
WORKLOADS = {
    "philly_82k": ["--from", "2294959", "--to", "5318959", "--nodes", "74"],
    "philly_users": ["--nodes", "170"],
    "bluewaters_nodes": ["--nodes", "26864", "--gpus-per-node", "1", "--load", "0.95"],
    "synth_llm": ["--nodes", "160", "--load", "0.90"],
}


def policies_for(name):
    """The clairvoyant ones think of preemption every second: on 26,864 nodes that takes too long."""
    return "easy,fair,checkpoint" + ("" if name == "bluewaters_nodes" else ",srtf,srsf")


def bench_quality(bin_dir, runs, _seconds):
    """Mean wait of every policy as a fraction of EASY backfill's, on recorded workloads, in one simulator."""
    results = {}
    traces = os.path.join(os.path.dirname(os.path.abspath(__file__)), "traces")
    for name, cluster in WORKLOADS.items():
        out = subprocess.run([os.path.join(bin_dir, "tutti"), "simulate", "-o", "json", "--runs", str(runs), "--trace",
                              os.path.join(traces, name + ".csv.gz"), "--policy", policies_for(name)] + cluster,
                             check=True, stdout=subprocess.PIPE).stdout
        policies = json.loads(out)["policies"]
        easy = policies[0]
        results[name] = {}
        print(f"  {name}: EASY waits {easy['wait_seconds']['mean']:.0f} s, at most {easy['wait_seconds']['max'] / 3600:.0f} h", flush=True)
        for p in policies[1:]:
            ratio, longest = (p["wait_seconds"][k] / easy["wait_seconds"][k] for k in ("mean", "max"))
            results[name][p["policy"]] = round(ratio, 4)
            print(f"    {p['policy']:<11} {ratio:6.3f} of it, longest {longest:5.2f} times, slowdown {p['bounded_slowdown']:5.2f}, "
                  f"Jain {p['fairness']:.3f}, {p['preemptions']:>6} preemptions, {p['replay_seconds']:5.1f} s a run", flush=True)
    return results


def bench_estimates(bin_dir, runs, _seconds):
    """How often a job starts within the range it was told, and how long gangs wait that a fault has ended."""
    results = {}
    traces = os.path.join(os.path.dirname(os.path.abspath(__file__)), "traces")
    common = ["-o", "json", "--runs", str(min(runs, 3)), "--policy", "fair,checkpoint"]
    for name, cluster in WORKLOADS.items():
        etas = "60" if name == "bluewaters_nodes" else "300"  # 26,864 nodes: a forecast takes long
        out = subprocess.run([os.path.join(bin_dir, "tutti"), "simulate", "--eta", etas, "--trace",
                              os.path.join(traces, name + ".csv.gz")] + common + cluster, check=True, stdout=subprocess.PIPE).stdout
        fair = json.loads(out)["policies"][0]
        results[name] = {k: round(fair[k], 3) for k in ("eta_coverage", "eta_range_seconds", "eta_limits_range_seconds", "etas")}
        print(f"  {name}: fair: {fair['eta_coverage']:.2f} of {fair['etas']} start in their range (median width "
              f"{fair['eta_range_seconds']:.0f} s; limits alone {fair['eta_limits_range_seconds']:.0f} s)", flush=True)
    out = subprocess.run([os.path.join(bin_dir, "tutti"), "simulate", "--faults", os.path.join(traces, "node_faults.csv"),
                          "--fault-speed", "4", "--trace", os.path.join(traces, "synth_llm.csv.gz")] + common
                         + WORKLOADS["synth_llm"], check=True, stdout=subprocess.PIPE).stdout
    for p in json.loads(out)["policies"]:
        results[f"faults, {p['policy']}"] = {"interruptions": p["interruptions"], "restart_wait": p["restart_wait_seconds"]["mean"],
                                             "goodput": p["goodput"]}
        print(f"  synth_llm with faults: {p['policy']}: {p['interruptions']} gangs ended, queue {p['restart_wait_seconds']['mean']:.0f} s "
              f"(p90 {p['restart_wait_seconds']['p90']:.0f} s), goodput {p['goodput']:.3f}")
    return results


def bench_planner(bin_dir, runs, _seconds):
    """The planner alone: 2,048 nodes of 8 GPUs, a million jobs waiting."""
    rows = [json.loads(subprocess.run([os.path.join(bin_dir, "planner_bench")], check=True, stdout=subprocess.PIPE).stdout)
            for _ in range(runs)]
    result = {key: statistics.median(r[key] for r in rows) for key in rows[0]}
    aims = {"completion_us_p50": 50, "completion_us_p99": 1000, "thousand_gpus_ms": 20, "insert_us": 1, "erase_us": 1,
            "reprioritise_us": 1, "forecast_10k_s": 1, "bytes_per_job": 256, "growth": 2}
    for key, aim in aims.items():
        print(f"  {key:<20} {result[key]:8.2f}  aim {aim}")
    return result


def bench_faults(bin_dir, _runs, _seconds):
    """What the lemon score and probation are worth on the recorded fault log of 400 GPU servers."""
    log = os.path.join(os.path.dirname(os.path.abspath(__file__)), "traces", "node_faults.csv")
    result = json.loads(subprocess.run([os.path.join(bin_dir, "lemon_replay"), log], check=True, stdout=subprocess.PIPE).stdout)
    print(f"  {result['faults']} faults of {result['nodes']} nodes in {result['days']:.0f} days; the worst 5 % by score, listed weekly")
    for row in result["lists"]:
        name = f"{row['half_life_days']:.0f} d" if row["half_life_days"] < 10_000 else "none"
        print(f"    half-life {name:>5}: {row['caught']:5.1f} of {row['faults']} faults of the next 7 days caught ({row['share']:.1%}), "
              f"{row['missed']:.1f} missed, lift {row['lift_7d']:.2f} (28 days: {row['lift_28d']:.2f}); flagged "
              f"{row['flagged_node_weeks']} node-weeks, {row['flagged_caught']} faults in them")
    print(f"    a list frozen at half time: lift {result['frozen_list_lift']:.2f}")
    for row in result["blame"]:
        print(f"    blame by score alone, gangs of {row['gang']:2} nodes: right {row['precision']:.0%} of {row['told']:.0f} times (chance "
              f"{row['chance']:.0%})")
    for row in result["probation"]:
        print(f"    probation {row['hours']:3.0f} h: {row['kept_away_from_big_gangs']} of {row['re_faults']} re-faults kept away from "
              f"big gangs ({row['share_of_re_faults']:.0%}; {row['share_of_all']:.0%} of all faults)")
    return result


BENCHES = {"submit": bench_submit, "load": bench_load, "latency": bench_latency, "quality": bench_quality, "estimates": bench_estimates,
           "planner": bench_planner, "faults": bench_faults}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--json", help="write the results there")
    parser.add_argument("names", nargs="*", help=", ".join(BENCHES))
    o = parser.parse_args()
    results = {}
    for name in o.names or ["submit"]:
        if name not in BENCHES:
            sys.exit(f"unknown benchmark '{name}'; known: {', '.join(BENCHES)}")
        print(f"{name}:", flush=True)
        results[name] = BENCHES[name](os.path.join(o.bin, "bin"), o.runs, o.seconds)
        print("  " + json.dumps({k: v for k, v in results[name].items() if k != "runs"}))
    if o.json:
        with open(o.json, "w") as f:
            json.dump(results, f, indent=1)


if __name__ == "__main__":
    main()
