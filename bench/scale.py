"""The figures of a control plane that scales, each with its aim: submit, writer, start, restart, failover, fleet, churn, cancel
(`./dev bench scale`: all of them). What is compared runs in turn, on the same PostgreSQL. Called by run.py."""
import http.client
import os
import random
import statistics
import subprocess
import time
import urllib.request

from cancel import bench_cancel
from rig import GANG_SPEC, SMALL_SPEC, SPEC, Fleet, Home, Postgres, Scheduler, as_postgres, pg_tool, rest, row, run_json, show


def median(values):
    return statistics.median(list(values))


def quantile(values, q):
    values = sorted(values)
    return values[min(len(values) - 1, int(q * len(values)))]


def spec_file(home, text):
    path = os.path.join(home.path, f"spec-{abs(hash(text))}.json")
    with open(path, "w") as f:
        f.write(text)
    return path


# ---------------------------------------------------------------- submissions

def pgbench(postgres, home, seconds):
    """Rows a second that 64 clients insert one by one: the same spec and columns, one transaction each."""
    script = os.path.join(home.path, "insert.sql")
    with open(script, "w") as f:
        f.write("INSERT INTO bench_row (owner, name, state, priority, nodes, gpus, created_at, queued_at, spec) VALUES "
                f"('admin', 'bench', 1, 50, 1, 8, now(), now(), '{SPEC}');\n")
    os.chmod(script, 0o644)
    postgres.sql("CREATE TABLE IF NOT EXISTS bench_row (id bigserial PRIMARY KEY, owner text, name text, state smallint, priority "
                 "smallint, nodes int, gpus int, created_at timestamptz, queued_at timestamptz, spec jsonb)", "bare")
    out = subprocess.run(as_postgres([pg_tool("pgbench"), "-n", "-M", "prepared", "-c", "64", "-j", "2", "-T", str(max(1, round(seconds))),
                                      "-f", script, "-h", postgres.directory, "bare"]), check=True, cwd="/",
                         capture_output=True, text=True).stdout
    return float([line for line in out.splitlines() if line.startswith("tps")][-1].split()[2])


def bench_submit(bin_dir, o):
    """REST against pgbench, and batches of 1,000 against multi-row inserts over one connection."""
    with Home() as home:
        postgres = Postgres(home)
        postgres.createdb("bare")
        scheduler = Scheduler(bin_dir, home, postgres.dsn())
        scheduler.start()
        runs = []
        for i in range(o.runs):
            postgres.settle(), postgres.settle("bare")
            base = pgbench(postgres, home, o.seconds)
            postgres.settle("bare")
            one = rest(bin_dir, scheduler, seconds=o.seconds, connections=64)
            postgres.settle()
            multi = run_json(bin_dir, "bare_writer", db=postgres.dsn("bare"), mode="insert", seconds=o.seconds,
                             spec=SPEC)["submissions_per_second"]
            postgres.settle("bare")
            many = rest(bin_dir, scheduler, seconds=o.seconds, batch=1000, connections=4)
            runs.append({"pgbench": base, "rest": one, "multi_row": multi, "batch": many, "ratio": one["per_second"] / base,
                         "batch_ratio": many["per_second"] / multi})
            print(f"  run {i + 1}: pgbench {base:8.0f}/s   REST {one['per_second']:8.0f}/s  p50 {one['p50_ms']:.2f}  p99 "
                  f"{one['p99_ms']:.2f} ms  ratio {runs[-1]['ratio']:.2f}   multi-row {multi:8.0f}/s  batch of 1,000 "
                  f"{many['per_second']:8.0f}/s  ratio {runs[-1]['batch_ratio']:.2f}", flush=True)
    rows = show([
        row("pgbench, 64 clients, one row each", median(r["pgbench"] for r in runs), "/s", digits=0),
        row("REST, 64 keep-alive clients, one job each", median(r["rest"]["per_second"] for r in runs), "/s", digits=0),
        row("  of pgbench (stretch 1.3)", median(r["ratio"] for r in runs), least=1.0),
        row("  p50", median(r["rest"]["p50_ms"] for r in runs), "ms"),
        row("  p99", median(r["rest"]["p99_ms"] for r in runs), "ms"),
        row("multi-row inserts with an event each, one connection", median(r["multi_row"] for r in runs), "/s", digits=0),
        row("REST, batches of 1,000", median(r["batch"]["per_second"] for r in runs), "/s", digits=0),
        row("  of the multi-row inserts", median(r["batch_ratio"] for r in runs), least=0.5)])
    return {"rows": rows, "runs": runs}


# ---------------------------------------------------------------- the writer

def bench_writer(bin_dir, o):
    """Whole lives of jobs through the scheduler's writer, against the bare group commit."""
    with Home() as home:
        postgres = Postgres(home)
        postgres.createdb("bare")
        runs = []
        for i in range(o.runs):
            postgres.createdb(f"writer_{i}")
            bare = run_json(bin_dir, "bare_writer", db=postgres.dsn("bare"), mode="lives", seconds=o.seconds, spec=SPEC)
            postgres.settle("bare")
            ours = run_json(bin_dir, "writer_bench", db=postgres.dsn(f"writer_{i}"), seconds=o.seconds, spec=SMALL_SPEC)
            ours["of_bare"] = ours["job_transitions_per_second"] / bare["transitions_per_second"]
            ours["with_attempts_of_bare"] = (ours["job_transitions_per_second"] + ours["attempt_transitions_per_second"]
                                             ) / bare["transitions_per_second"]
            runs.append({"bare": bare, "writer": ours})
            print(f"  run {i + 1}: bare {bare['transitions_per_second']:8.0f} transitions/s beside {bare['submissions_per_second']:.0f} "
                  f"submissions/s   writer {ours['job_transitions_per_second']:8.0f} of jobs, {ours['attempt_transitions_per_second']:8.0f} "
                  f"of attempts beside {ours['submissions_per_second']:.0f}", flush=True)
    ours = lambda key: median(r["writer"][key] for r in runs)
    rows = show([
        row("bare group commit: transitions", median(r["bare"]["transitions_per_second"] for r in runs), "/s", digits=0),
        row("the writer: transitions of jobs", ours("job_transitions_per_second"), "/s", digits=0),
        row("  of the bare group commit", ours("of_bare"), least=0.5),
        row("  with those of attempts, which have rows and events too", ours("with_attempts_of_bare")),
        row("jobs submitted, run and archived", ours("jobs_per_second"), "/s", digits=0)])
    return {"rows": rows, "runs": runs}


# ---------------------------------------------------------------- latency

def bench_start(bin_dir, o):
    """Submit → a worker is told, one job after the other on an idle cluster."""
    with Home() as home:
        postgres = Postgres(home)
        scheduler = Scheduler(bin_dir, home, postgres.dsn())
        scheduler.start()
        runs = []
        for i in range(o.runs):
            postgres.settle()
            runs.append(Fleet(bin_dir, home, scheduler, workers=8, run_ms=0, samples=20 if o.smoke else 300,
                              spec=spec_file(home, SPEC)).result())
            told, launch = runs[-1]["submit_to_prepare"], runs[-1]["submit_to_launch"]
            print(f"  run {i + 1}: told to prepare p50 {told['p50_ms']:.2f} p99 {told['p99_ms']:.2f} ms   told to launch p50 "
                  f"{launch['p50_ms']:.2f} p99 {launch['p99_ms']:.2f} ms", flush=True)
    of = lambda what, q: median(r[what][q] for r in runs)
    rows = show([
        row("submit → worker told to start, p50", of("submit_to_prepare", "p50_ms"), "ms", most=3),
        row("submit → worker told to start, p99", of("submit_to_prepare", "p99_ms"), "ms", most=10),
        row("  … and all are ready: told to launch, p50", of("submit_to_launch", "p50_ms"), "ms"),
        row("  … and all are ready: told to launch, p99", of("submit_to_launch", "p99_ms"), "ms")])
    return {"rows": rows, "runs": runs}


# ---------------------------------------------------------------- restart

def start_until_first_order(bin_dir, home, scheduler, name):
    """Seconds from the start of the process until a worker that knocks all the time is told of a job."""
    fleet = Fleet(bin_dir, home, scheduler, workers=1, back_off_ms=5, run_ms=600_000, name=name, seconds=600, spec=spec_file(home, SPEC))
    began = scheduler.start(wait=None)
    told = fleet.wait("first_order", seconds=180)["at"]
    fleet.stop()
    while not scheduler.ready():
        time.sleep(0.01)
    return told - began


def settled_bytes(scheduler, seconds):
    time.sleep(seconds)
    return scheduler.resident_bytes()


def bench_restart(bin_dir, o):
    """A scheduler is started on a database with a million queued jobs, again and again; and what each takes of its memory."""
    jobs, settle = o.jobs, 0.5 if o.smoke else 3
    with Home() as home:
        postgres = Postgres(home)
        scheduler = Scheduler(bin_dir, home, postgres.dsn())
        scheduler.start()
        scheduler.stop()
        empty = []
        for _ in range(o.runs):
            scheduler.start()
            empty.append(settled_bytes(scheduler, settle))
            scheduler.stop()
        scheduler.start()
        filled = rest(bin_dir, scheduler, batch=1000, connections=4, count=jobs)
        print(f"  {filled['acknowledged']} jobs queued in {filled['seconds']:.0f} s", flush=True)
        grown = settled_bytes(scheduler, settle)
        scheduler.stop()
        postgres.settle()
        queued = postgres.number("SELECT count(*) FROM job")
        seconds, full, columns = [], [], []
        for i in range(o.runs):
            began = time.monotonic()
            postgres.sql("COPY job TO '/dev/null' (FORMAT binary)")
            columns.append(time.monotonic() - began)
            seconds.append(start_until_first_order(bin_dir, home, scheduler, f"restart-{i}"))
            full.append(settled_bytes(scheduler, settle))
            scheduler.kill()  # with its boots on: nothing is tidied up for the next start
            print(f"  run {i + 1}: first decision after {seconds[-1]:.2f} s, {full[-1] / 2**20:.0f} MiB; the columns of jobs alone "
                  f"{columns[-1]:.2f} s", flush=True)
    rows = show([
        row(f"process start → first decision, {queued:,.0f} queued jobs", median(seconds), "s", most=2),
        row("over the time for the columns of jobs alone, by COPY", median(a / b for a, b in zip(seconds, columns)), "×"),
        row("memory per queued job, after a restart", (median(full) - median(empty)) / queued, "bytes", most=400, digits=0),
        row("memory per queued job, after submitting them", (grown - median(empty)) / queued, "bytes", digits=0)])
    return {"rows": rows, "seconds": seconds, "empty_bytes": empty, "full_bytes": full, "queued": queued, "columns": columns}


# ---------------------------------------------------------------- fail-over

def submitted(scheduler, timeout):
    request = urllib.request.Request(scheduler.url + "/v1/jobs", data=SPEC.encode(), method="POST",
                                     headers={"Authorization": "Bearer " + scheduler.token, "Content-Type": "application/json"})
    try:
        return urllib.request.urlopen(request, timeout=timeout).status == 201
    except (OSError, http.client.HTTPException):  # an HTTP status is the first of them
        return False


def leader_of(postgres, schedulers):
    """Who leads, by the process that the database has noted."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        holder = postgres.sql("SELECT holder FROM leader")[0][0]
        for s in schedulers:
            if s.process.poll() is None and holder.endswith(f":{s.pid}"):
                return s
        time.sleep(0.05)
    raise SystemExit(f"none of ours leads: {holder}")


def replica_flags(bin_dir, scheduler):
    text = subprocess.run([os.path.join(bin_dir, "tutti-scheduler"), "--help"], capture_output=True, text=True).stdout
    return ["--advertise", scheduler.url] if "--advertise " in text else []


def bench_failover(bin_dir, o):
    """`kill -9` of the leader beside a standby: how long until a write is answered again."""
    rounds = 2 if o.smoke else max(20, 4 * o.runs)
    with Home() as home:
        postgres = Postgres(home)
        first = Scheduler(bin_dir, home, postgres.dsn(), "first")
        first.command += replica_flags(bin_dir, first)
        first.start()
        second = Scheduler(bin_dir, home, postgres.dsn(), "second", like=first)
        second.command += replica_flags(bin_dir, second)
        second.start(wait="listens")
        seconds = []
        for i in range(rounds):
            leader = leader_of(postgres, (first, second))
            standby = second if leader is first else first
            while not submitted(leader, 5):
                time.sleep(0.02)
            time.sleep(random.uniform(0.5, 1.5))
            began = time.monotonic()
            leader.process.kill()
            while not submitted(standby, 0.5):
                if time.monotonic() - began > 60:
                    raise SystemExit("the standby has answered no write for a minute")
                time.sleep(0.005)
            seconds.append(time.monotonic() - began)
            leader.process.wait(60)
            leader.start(wait="listens")
            print(f"  round {i + 1}: {seconds[-1]:.3f} s", flush=True)
    rows = show([row(f"kill -9 of the leader → a standby answers writes, p50 of {rounds}", quantile(seconds, 0.5), "s", most=1),
                 row(f"kill -9 of the leader → a standby answers writes, p99 of {rounds}", quantile(seconds, 0.99), "s", most=3)])
    return {"rows": rows, "seconds": seconds}


# ---------------------------------------------------------------- workers

def cpu_shares(scheduler, windows, seconds):
    shares = []
    for _ in range(windows):
        before, began = scheduler.cpu_seconds(), time.monotonic()
        time.sleep(seconds)
        shares.append(100 * (scheduler.cpu_seconds() - before) / (time.monotonic() - began))
    return shares


def fleet_cpu(bin_dir, home, scheduler, o, loads):
    fleet = Fleet(bin_dir, home, scheduler, workers=o.workers, loads=loads, seconds=(o.runs + 1) * o.seconds)
    fleet.wait("phase", "calm")
    time.sleep(o.seconds / 2)
    shares = cpu_shares(scheduler, o.runs, o.seconds)
    return shares, fleet.result()


def bench_fleet(bin_dir, o):
    """2,000 workers: what their heartbeats cost; then with gangs, a storm of reconnections, and troublemakers."""
    with Home() as home:
        postgres = Postgres(home)
        scheduler = Scheduler(bin_dir, home, postgres.dsn())
        scheduler.start()
        time.sleep(1)
        idle = cpu_shares(scheduler, o.runs, min(o.seconds, 2))
        shares, beats = fleet_cpu(bin_dir, home, scheduler, o, 0)
        with_loads, _ = fleet_cpu(bin_dir, home, scheduler, o, 1)
        since = postgres.sql("SELECT now()")[0][0]
        gangs = Fleet(bin_dir, home, scheduler, workers=o.workers, storm=1, trouble=1, loads=1, run_ms=500 if o.smoke else 5000,
                      window=max(20, o.workers // 10), batch=10, seconds=o.seconds * max(2, o.runs),
                      spec=spec_file(home, GANG_SPEC)).result()
        dead = postgres.number(f"SELECT count(*) FROM node_event WHERE kind = 'node' AND to_name = 'dead' AND at > '{since}'")
    storm, trouble = gangs["storm"], gangs["trouble"]
    unanswered = sum(a["unanswered"] for a in trouble["attacks"].values())
    made = sum(a["made"] for a in trouble["attacks"].values())
    rows = show([
        row(f"{o.workers} workers: a core's share for their heartbeats alone", median(shares), "%", most=15, digits=1),
        row("  without any worker", median(idle), "%", digits=1),
        row("  and what their GPUs do, every fifth time", median(with_loads), "%", digits=1),
        row("  heartbeat → acknowledged, p50", beats["calm"]["heartbeats"]["p50_ms"], "ms"),
        row("  heartbeat → acknowledged, p99", beats["calm"]["heartbeats"]["p99_ms"], "ms"),
        row("  all of them at once → all welcome", beats["join"]["seconds"], "s"),
        row("gangs of 4 nodes: heartbeat → acknowledged, p99", gangs["calm"]["heartbeats"]["p99_ms"], "ms"),
        row("gangs of 4 nodes, finished", gangs["calm"]["jobs_finished"] / gangs["calm"]["seconds"], "/s"),
        row("all links cut at once: leases lapsed", storm["leases_lapsed"], most=0, digits=0),
        row("  workers that are not back", storm["not_back"], most=0, digits=0),
        row("  parts of gangs stopped by the scheduler", storm["parts_stopped"], most=0, digits=0),
        row("  nodes taken for dead", dead, most=0, digits=0),
        row(f"a deaf worker, and {made} attacks: not refused", unanswered, most=0, digits=0),
        row("  others' leases lapsed", trouble["leases_lapsed"], most=0, digits=0),
        row("  others' links lost", trouble["links_lost"], most=0, digits=0),
        row("  others' parts of gangs stopped", trouble["parts_stopped"], most=0, digits=0),
        row("  heartbeat → acknowledged, p99", trouble["heartbeats"]["p99_ms"], "ms")])
    return {"rows": rows, "cpu_percent": shares, "idle_percent": idle, "with_loads_percent": with_loads, "beats": beats, "gangs": gangs}


# ---------------------------------------------------------------- churn

HOT = ("job", "gpu", "node")  # rows that come, change and go; all others are history, which grows

SIZES = ("SELECT relname, pg_total_relation_size(relid), n_live_tup, n_dead_tup, n_tup_hot_upd, n_tup_upd FROM pg_stat_user_tables "
         "ORDER BY 2 DESC")


def table_sizes(postgres):
    return {name: {"bytes": int(size), "live": int(live), "dead": int(dead), "hot_updates": int(hot), "updates": int(updates)}
            for name, size, live, dead, hot, updates in postgres.sql(SIZES)}


def dead_space(postgres):
    """What pgstattuple says of the hot tables; nothing where it is not installed."""
    try:
        postgres.sql("CREATE EXTENSION IF NOT EXISTS pgstattuple")
    except subprocess.CalledProcessError:
        return {}
    return {name: dict(zip(("bytes", "dead_percent", "free_percent"),
                           map(float, postgres.sql("SELECT table_len, dead_tuple_percent, free_percent FROM "
                                                   f"pgstattuple('{name}')")[0]))) for name in HOT}


def rate(reports, begin, end):
    """Jobs finished a second between two times, from reports in order."""
    inside = [r for r in reports if begin <= r["at"] <= end]
    return (inside[-1]["finished"] - inside[0]["finished"]) / (inside[-1]["at"] - inside[0]["at"])


def bench_churn(bin_dir, o):
    """Jobs are submitted, run and archived for `--minutes`: the last minute against the first, tables, memory."""
    total = o.minutes * 60
    window = min(60, total / 4)
    with Home() as home:
        postgres = Postgres(home)
        scheduler = Scheduler(bin_dir, home, postgres.dsn())
        scheduler.start()
        fleet = Fleet(bin_dir, home, scheduler, workers=32 if o.smoke else 256, run_ms=200, window=400 if o.smoke else 3000,
                      batch=100, seconds=total, report_every=min(1, window / 5), spec=spec_file(home, SMALL_SPEC))
        began = fleet.wait("phase", "calm")["at"]
        reports, samples, shown = [], [], began
        while (line := fleet.next(120)) is not None and "result" not in line:
            if "finished" not in line:
                continue
            reports.append(line)
            if line["at"] < shown + window and samples:
                continue
            shown = line["at"]
            samples.append({"at": shown - began, "finished": line["finished"], "memory_bytes": scheduler.resident_bytes(),
                            "tables": table_sizes(postgres)})
            print(f"  {samples[-1]['at']:6.0f} s: {line['finished']:9d} jobs, {samples[-1]['memory_bytes'] / 2**20:6.0f} MiB, job "
                  f"{samples[-1]['tables']['job']['bytes'] / 2**20:5.1f} MiB", flush=True)
        if line is None:
            raise SystemExit("the fleet has ended before its time: see its errors")
        result, end = line["result"], reports[-1]["at"]
        space = dead_space(postgres)
    firsts, lasts = rate(reports, began, began + window), rate(reports, end - window, end)
    half = len(samples) // 2
    hottest = lambda some: max(sum(s["tables"][t]["bytes"] for t in HOT) for s in some)
    last = samples[-1]["tables"]["job"]
    rows = [row(f"first {window:.0f} s: jobs submitted, run and archived", firsts, "/s", digits=0),
            row(f"last {window:.0f} s of {o.minutes:g} minutes", lasts, "/s", digits=0),
            row("  of the first", lasts / firsts, least=0.95),
            row("hot tables: largest of the second half over the first", hottest(samples[half:]) / hottest(samples[:half] or samples),
                most=1.25),
            row("updates of jobs that were HOT", 100 * last["hot_updates"] / max(1, last["updates"]), "%", digits=1),
            row("scheduler's memory, end over half time", samples[-1]["memory_bytes"] / samples[half]["memory_bytes"]),
            row("history per job", (sum(t["bytes"] for n, t in samples[-1]["tables"].items() if n not in HOT)
                                    / max(1, samples[-1]["finished"])), "bytes", digits=0),
            row("submissions refused", result["submissions_refused"], digits=0)]
    for name, s in space.items():
        rows.append(row(f"pgstattuple {name}: dead", s["dead_percent"], "%", digits=1))
    return {"rows": show(rows), "samples": samples, "reports": reports, "space": space, "result": result}


SCALE = {"submit": bench_submit, "writer": bench_writer, "start": bench_start, "restart": bench_restart, "failover": bench_failover,
         "fleet": bench_fleet, "churn": bench_churn, "cancel": bench_cancel}
