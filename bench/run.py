#!/usr/bin/env python3
"""The figures of docs/performance.md: `./dev bench [scale] [submit] [writer] [start] [restart] [failover] [fleet] [churn] [cancel]
[load] [latency] [quality] [estimates] [planner] [faults]`. Starts its own scheduler and PostgreSQL (durable: fsync on), measures side by
side in one run, prints a table and writes JSON. Standard library only. `scale` stands for submit to cancel (scale.py)."""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from rig import Home, Scheduler
from scale import SCALE


def bench_load(bin_dir, _runs, _seconds):
    """Mixed reads and submissions over 512 connections for a minute: latencies, errors, and the scheduler's memory."""
    seconds, warm = 60, 15
    with Home() as home:
        scheduler = Scheduler(bin_dir, home)
        scheduler.start()
        load = subprocess.Popen([os.path.join(bin_dir, "rest_load"), "--port", str(scheduler.port), "--token", scheduler.token,
                                 "--seconds", str(seconds), "--connections", "512", "--mixed", "1"],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        begin, memory = time.monotonic(), []
        while load.poll() is None:
            memory.append((time.monotonic() - begin, scheduler.resident_bytes() / 2**20))
            time.sleep(1)
        out, err = load.communicate()
        if not out:
            raise SystemExit("rest_load: " + err[:500])
        result = json.loads(out)
        if result["errors"]:
            raise SystemExit(f"{result['errors']} requests failed; the first: {err[:500]}")
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


BENCHES = {"load": bench_load, "latency": bench_latency, "quality": bench_quality, "estimates": bench_estimates,
           "planner": bench_planner, "faults": bench_faults}


def read_options():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--minutes", type=float, default=20, help="churn: how long")
    parser.add_argument("--jobs", type=int, default=1_000_000, help="restart: so many wait")
    parser.add_argument("--workers", type=int, default=2000, help="fleet: so many")
    parser.add_argument("--smoke", action="store_true", help="everything once and small: whether it works, not how fast it is")
    parser.add_argument("--json", help="write the results there")
    parser.add_argument("names", nargs="*", help="scale, " + ", ".join([*SCALE, *BENCHES]))
    o = parser.parse_args()
    if o.smoke:
        o.runs, o.seconds, o.minutes, o.jobs, o.workers = 1, 2, 0.2, 2000, 20
    o.names = [n for name in o.names or ["submit"] for n in (SCALE if name == "scale" else [name])]
    for name in o.names:
        if name not in BENCHES and name not in SCALE:
            sys.exit(f"unknown benchmark '{name}'; known: scale, {', '.join([*SCALE, *BENCHES])}")
    return o


def main():
    o = read_options()
    results = {}
    for name in o.names:
        print(f"{name}:", flush=True)
        where = os.path.join(o.bin, "bin")
        results[name] = SCALE[name](where, o) if name in SCALE else BENCHES[name](where, o.runs, o.seconds)
        if name in BENCHES:
            print("  " + json.dumps({k: v for k, v in results[name].items() if k != "runs"}))
        if o.json:  # after each: a later one may take long, or fail
            with open(o.json, "w") as f:
                json.dump(results, f, indent=1)
    rows = [r for result in results.values() for r in result.get("rows", [])]
    if rows:
        print(f"{sum(r['verdict'] == 'PASS' for r in rows)} aims reached, {sum(r['verdict'] == 'MISS' for r in rows)} missed")


if __name__ == "__main__":
    main()
