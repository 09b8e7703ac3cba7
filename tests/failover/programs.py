"""The programs of Tutti on such a cluster: two schedulers that a supervisor starts again, two workers with simulated GPUs, a gang
that runs, and clients that submit all the time. Each oracle is a function that throws Failure."""
import collections
import contextlib
import http.client
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

from cluster import PATIENCE, Child, Failure, alive, eventually, free_port, send, tail

SOURCE = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("TUTTI_BIN", SOURCE / "build/dev/bin")).resolve()
LIB = Path(os.environ.get("TUTTI_LIB", BIN.parent / "lib")).resolve()

RANK = """#!/bin/sh
echo $$ >"$1/pid-$RANK-$TUTTI_EPOCH.new" && mv "$1/pid-$RANK-$TUTTI_EPOCH.new" "$1/pid-$RANK-$TUTTI_EPOCH"
while :; do date +%s.%N; sleep 0.1; done
"""
BRIEF = """#!/bin/sh
while [ ! -e "$1/go" ]; do sleep 0.02; done
"""


class Asked:
    """One address, as one client: keeps its connection. Of one thread."""

    def __init__(self, port, token="", seconds=20):
        self.port, self.token, self.seconds, self.connection = port, token, seconds, None

    def __call__(self, method, path, body=None, key=None):
        """Status, body as bytes, headers. Throws OSError or HTTPException: nobody knows what has become of it."""
        if self.connection is None:
            self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.seconds)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        try:
            self.connection.request(method, path, body=body, headers=headers)
            answer = self.connection.getresponse()
            return answer.status, answer.read(), answer.headers
        except BaseException:
            self.close()
            raise

    def json(self, path):
        status, body, _ = self("GET", path)
        if status != 200:
            raise OSError(f"{path} is {status}: {body[:300]!r}")
        return json.loads(body)

    def close(self):
        if self.connection:
            self.connection.close()
        self.connection = None


class Scheduler:
    """Started again 0.2 s after it has ended, as a service manager does."""

    def __init__(self, home, name, dsn, like=None, flags=()):
        self.name, self.port = name, free_port()
        self.data = home.folder(name, 0o700)
        self.log = os.path.join(home.path, name + ".log")
        for secret in ("token", "secret") if like else ():
            shutil.copy(os.path.join(like.data, secret), self.data)
        self.command = [str(BIN / "tutti-scheduler"), "--listen", f"127.0.0.1:{self.port}", "--advertise", f"http://127.0.0.1:{self.port}",
                        "--data", self.data, "--db", dsn, "--requests-per-second", "0", "--requests-per-second-address", "0",
                        "--submissions-per-minute", "0", *flags]
        self.ends = []  # (when, exit status)
        self.stopping = threading.Event()
        self.child = Child(self.command, self.log)
        self.supervisor = threading.Thread(target=self.supervise, daemon=True)
        self.supervisor.start()
        home.keep(self)

    def supervise(self):
        while True:
            self.ends.append((time.time(), self.child.process.wait()))
            if self.stopping.wait(0.2):
                return
            self.child = Child(self.command, self.log)

    def readyz(self):
        """With our token: what the database says is for those whom it knows."""
        asked = Asked(self.port, self.token, seconds=5)
        try:
            status, body, _ = asked("GET", "/readyz")
            return status, json.loads(body)
        finally:
            asked.close()

    def await_ready(self, role=None):
        def ask():
            status, told = self.readyz()
            return status == 200 and role in (None, told["role"])
        eventually(f"{self.name} is ready", ask, said=lambda: tail(self.log))

    @property
    def token(self):
        return Path(self.data, "token").read_text().strip()

    def resident(self):
        with open(f"/proc/{self.child.pid}/status") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS"))

    def metric(self, name):
        """The sum of its samples."""
        asked = Asked(self.port, self.token)
        try:
            status, text, _ = asked("GET", "/metrics")
        finally:
            asked.close()
        found = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text.decode(), re.M) if status == 200 else []
        if not found:
            raise Failure(f"{self.name}: /metrics is {status} and shows no {name}: {text[:300]!r}")
        return sum(map(float, found))

    def lines(self, since, pattern):
        """Of its log, from that time (of time.time()) on."""
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since)) + f".{int(since % 1 * 1000):03d}"
        with open(self.log, errors="replace") as f:
            return [line.rstrip() for line in f if line[1:24] >= at and re.search(pattern, line)]

    def stop(self):
        self.stopping.set()
        for _ in range(100):  # it may be between two lives
            self.child.end()
            self.supervisor.join(1)
            if not self.supervisor.is_alive():
                return


class Worker:
    def __init__(self, home, name, schedulers, gpus=2):
        self.name = name
        folder = self.folder = home.folder(name)
        self.log = os.path.join(home.path, name + ".log")
        subprocess.run([BIN / "tutti-gpu-sim", "init", "--state", f"{folder}/gpu", "--gpus", str(gpus), "--model", "H100", "--node", name],
                       check=True, stdout=subprocess.DEVNULL)
        self.child = Child([str(BIN / "tutti-worker"), "--scheduler", ",".join(f"http://127.0.0.1:{s.port}" for s in schedulers), "--token-file",
                            f"{schedulers[0].data}/token", "--node", name, "--address", "127.0.0.1", "--state-dir", f"{folder}/state",
                            "--boot-id", f"{name}-boot", "--cpus", "64", "--nvml-library", str(LIB / "nvml-double/libnvidia-ml.so.1"),
                            "--run-as", "job-user"], self.log, {"TUTTI_NVML_DOUBLE_STATE": f"{folder}/gpu"})
        home.keep(self)

    def stop(self):
        """Nobody stops its supervisors in good order here. Again until none is found: what is killed may just have started another."""
        self.child.end(signal.SIGKILL)
        until = time.monotonic() + 20
        while found := processes_of(self.folder):
            for pid in found:
                send(pid, signal.SIGKILL)
            if time.monotonic() > until:
                raise Failure(f"{self.name}: cannot end {found}")
            time.sleep(0.05)


def processes_of(folder):
    """Those that were started under the worker with that folder: its supervisors have it in their arguments and the place of its
    GPUs in their environment, ranks the attempt's directory."""
    marks = [f"{name}={folder}/".encode() for name in ("TUTTI_NVML_DOUBLE_STATE", "TUTTI_ATTEMPT_DIR")]
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and (f"{folder}/".encode() in (entry / "cmdline").read_bytes()
                                         or any(mark in (entry / "environ").read_bytes() for mark in marks)):
                found.append(int(entry.name))
    return found


Accepted = collections.namedtuple("Accepted", "at key job asked_at")  # asked_at: when what was answered so was sent


class Load:
    """Clients that submit under a key each, and repeat what was not answered, at the next address, until it is."""

    def __init__(self, schedulers, clients=4, each_second=15):
        self.ports = [s.port for s in schedulers]
        self.token = schedulers[0].token
        self.accepted, self.troubles, self.refusals = [], [], collections.Counter()
        self.tries = collections.Counter()  # by key
        self.stopping, self.given_up = threading.Event(), threading.Event()
        self.threads = [threading.Thread(target=self.client, args=(i, 1 / each_second), daemon=True) for i in range(clients)]
        for thread in self.threads:
            thread.start()

    def client(self, number, pace):
        asked = itertools.cycle([Asked(port, self.token) for port in self.ports[number % 2:] + self.ports[:number % 2]])
        address = next(asked)
        for i in itertools.count():
            if self.stopping.wait(pace):
                return
            key = f"k{number}-{i}"
            spec = json.dumps({"name": key, "run": "true", "resources": {"gpus": 0}, "begin_time": "2099-01-01T00:00:00Z"})
            began = time.monotonic()
            while not self.given_up.is_set():
                self.tries[key] += 1
                asked_at = time.time()
                try:
                    status, body, headers = address("POST", "/v1/jobs", spec, key)
                    if status in (200, 201):
                        self.accepted.append(Accepted(time.time(), key, json.loads(body)["id"], asked_at))
                        break
                    self.refusals[status] += 1
                    if status == 503 and "Retry-After" not in headers:
                        self.troubles.append(f"{key}: 503 without Retry-After: {body[:200]!r}")
                    if status not in (421, 502, 503, 504):  # 504: in doubt, the key will tell
                        self.troubles.append(f"{key}: {status} {body[:300]!r}")
                        break
                except (OSError, http.client.HTTPException):
                    self.refusals["lost"] += 1
                if time.monotonic() - began > PATIENCE:
                    self.troubles.append(f"{key}: never answered")
                    break
                address = next(asked)
                self.given_up.wait(0.05)  # as a client that means well

    def after(self, when):
        """The first one that was accepted after that time."""
        return next((a for a in list(self.accepted) if a.at >= when), None)

    def asked_after(self, when):
        """Those accepted whose answered request was sent after that time."""
        return [a for a in list(self.accepted) if a.asked_at > when]

    def await_refusals(self, count):
        wanted = sum(self.refusals.values()) + count
        eventually("submissions are refused", lambda: sum(self.refusals.values()) >= wanted, 30, said=lambda: str(dict(self.refusals)))

    def await_more(self, count, what="jobs are accepted", seconds=PATIENCE):
        wanted = len(self.accepted) + count
        eventually(what, lambda: len(self.accepted) >= wanted, seconds, said=lambda: f"{len(self.accepted)} accepted, {dict(self.refusals)}")

    def finish(self):
        """What is under way is answered first."""
        self.stopping.set()
        for thread in self.threads:
            thread.join(PATIENCE + 30)
        return self

    def stop(self):
        self.given_up.set()
        self.finish()


class Watch:
    """/readyz of all schedulers, about twenty times a second each: (when, scheduler, status, answer). Status 0: no answer."""

    def __init__(self, schedulers):
        self.schedulers, self.seen, self.stopping = schedulers, [], threading.Event()
        self.threads = [threading.Thread(target=self.watch, args=(s,), daemon=True) for s in schedulers]
        for thread in self.threads:
            thread.start()

    def watch(self, scheduler):
        while not self.stopping.wait(0.05):
            try:
                status, told = scheduler.readyz()
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                status, told = 0, {}
            self.seen.append((time.time(), scheduler.name, status, told))

    def between(self, begin, end):
        return [s for s in list(self.seen) if begin <= s[0] < end]

    def stop(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(10)


class Tutti:
    """All of it on that cluster of PostgreSQL."""

    def __init__(self, home, cluster, dsn=None, workers=2, flags=(), schedulers=2):
        self.home, self.cluster = home, cluster
        self.shared = home.folder("shared", 0o777)
        for name, text in (("rank.sh", RANK), ("brief.sh", BRIEF)):
            path = Path(self.shared, name)
            path.write_text(text)
            path.chmod(0o755)
        first = Scheduler(home, "s1", dsn or cluster.dsn(), flags=flags)
        first.await_ready("leader")
        self.schedulers = [first] + [Scheduler(home, f"s{i}", dsn or cluster.dsn(), like=first, flags=flags) for i in range(2, schedulers + 1)]
        for standby in self.schedulers[1:]:
            standby.await_ready("standby")
        self.token = first.token
        self.workers = [Worker(home, f"n{i + 1}", self.schedulers) for i in range(workers)]
        self.await_linked()
        self.watch = home.keep(Watch(self.schedulers))
        self.load = None
        self.jobs = {}

    def leader(self):
        for s in self.schedulers:
            with contextlib.suppress(OSError, http.client.HTTPException, json.JSONDecodeError):
                status, told = s.readyz()
                if status == 200 and told["role"] == "leader":
                    return s
        return None

    def await_leader(self):
        return eventually("a scheduler leads", self.leader, said=lambda: "\n".join(tail(s.log) for s in self.schedulers))

    def lines(self, since, pattern):
        return [line for s in self.schedulers for line in s.lines(since, pattern)]

    def ask(self, path):
        return Asked(self.await_leader().port, self.token).json(path)

    def await_linked(self):
        def ask():
            nodes = self.ask("/v1/nodes")["nodes"]
            return len(nodes) == len(self.workers) and all(n["linked"] and n["state"] == "reachable" and len(n["gpus"]) == 2 for n in nodes)
        eventually("all nodes are connected", ask, said=lambda: "\n".join(tail(w.log) for w in self.workers))

    def submit(self, **spec):
        def ask():
            status, body, _ = Asked(self.await_leader().port, self.token)("POST", "/v1/jobs", json.dumps(spec), key=spec["name"])
            if status not in (200, 201):
                raise OSError(f"{status}: {body[:500]!r}")
            return json.loads(body)["id"]
        self.jobs[spec["name"]] = eventually(f"{spec['name']} is accepted", ask)
        return self.jobs[spec["name"]]

    def state(self, name):
        return self.ask(f"/v1/jobs/{self.jobs[name]}")["state"]

    def await_state(self, name, state):
        eventually(f"{name} is {state}", lambda: self.state(name) == state, said=lambda: json.dumps(self.ask(f"/v1/jobs/{self.jobs[name]}/explain")))

    def begin(self):
        """A gang over both nodes, two jobs beside it that wait for a file `go`, one that waits for their GPUs, and the load."""
        common = {"launcher": "direct", "procs_per_node": 1, "stop": {"grace": "1s"}, "preflight": "none"}
        self.submit(name="gang", run=f"{self.shared}/rank.sh {self.shared}", nodes=len(self.workers), resources={"gpus": 1}, **common)
        self.await_state("gang", "running")
        for i in range(len(self.workers)):
            self.submit(name=f"brief{i}", run=f"{self.shared}/brief.sh {self.shared}", resources={"gpus": 1}, **common)
            self.await_state(f"brief{i}", "running")
        self.submit(name="next", run="true", resources={"gpus": 1}, **common)
        self.pids = eventually("the gang's ranks say who they are", self.gang_pids)
        self.load = self.home.keep(Load(self.schedulers))
        self.load.await_more(60)

    def gang_pids(self):
        found = {f.name: int(f.read_text()) for f in Path(self.shared).glob("pid-*") if f.suffix == ""}
        return found if len(found) >= len(self.workers) else None

    def let_brief_jobs_end(self):
        Path(self.shared, "go").touch()

    # ---------------------------------------------------------------- oracles

    def expect_each_once(self):
        """Every accepted job is there under the id that was told; no key stands for two jobs."""
        load = self.load.finish()
        if load.troubles:
            raise Failure("clients saw what they must not: " + "; ".join(load.troubles[:5]))
        rows = collections.defaultdict(list)
        for name, job in self.cluster.sql("SELECT name, id FROM job_spec WHERE name ~ '^k[0-9]+-'", "tutti"):
            rows[name].append(int(job))
        for key, ids in rows.items():
            if len(ids) > 1:
                raise Failure(f"{key} was made {len(ids)} times: {ids}")
        lost = [a for a in load.accepted if rows.get(a.key) != [a.job]]
        if lost:
            raise Failure(f"{len(lost)} accepted jobs are lost, the first: {lost[0]}, stored: {rows.get(lost[0].key)}")
        for a in load.accepted[-5:]:  # and the scheduler knows them, not the database alone
            if self.ask(f"/v1/jobs/{a.job}")["name"] != a.key:
                raise Failure(f"job {a.job} is not {a.key}")
        return len(load.accepted)

    def expect_gang_untouched(self, log_until):
        """Same attempt, same processes, and its log has gone on all the time."""
        job = self.ask(f"/v1/jobs/{self.jobs['gang']}")
        if job["state"] != "running" or job["epoch"] != 1:
            raise Failure(f"the gang is {job['state']}, epoch {job['epoch']}: {job}")
        if self.gang_pids() != self.pids or not all(alive(pid) for pid in self.pids.values()):
            raise Failure(f"the gang's processes were {self.pids}, are {self.gang_pids()}")
        for rank in range(len(self.workers)):
            def stamps(rank=rank):
                status, text, _ = Asked(self.await_leader().port, self.token)("GET", f"/v1/jobs/{self.jobs['gang']}/attempts/1/logs?rank={rank}")
                found = [float(line) for line in text.split()] if status == 200 else []
                return found if found and found[-1] > log_until else None
            at = eventually(f"the log of rank {rank} goes on", stamps)
            longest = max(b - a for a, b in itertools.pairwise(at))
            if longest > 4:  # a rank that was stopped and started again would miss more
                raise Failure(f"rank {rank} was silent for {longest:.1f} s")

    def expect_nothing_decided(self, begin, end):
        """Nothing is said of attempts or nodes between these times: what happened in the gap was decided behind it."""
        interval = f"BETWEEN to_timestamp({begin}) AND to_timestamp({end})"
        columns = ("placed_at", "preflight_at", "starting_at", "running_at", "fault_at", "stopping_at", "ended_at")
        told = self.cluster.sql("SELECT 'attempt', a.* FROM attempt a WHERE " + " OR ".join(f"{c} {interval}" for c in columns), "tutti")
        told += self.cluster.sql(f"SELECT 'node event', e.* FROM node_event e WHERE at {interval}", "tutti")
        if told:
            raise Failure(f"decided in the gap: {told}")

    def expect_later_decisions(self, gap_end):
        """What ended in the gap has ended, once, and what waited for it has run: behind the gap."""
        names = [f"brief{i}" for i in range(len(self.workers))] + ["next"]
        for name in names:
            self.await_state(name, "succeeded")
            rows = self.cluster.sql(f"SELECT number, extract(epoch FROM ended_at) FROM attempt WHERE job = {self.jobs[name]}", "tutti")
            if len(rows) != 1 or float(rows[0][1]) < gap_end:
                raise Failure(f"{name}: attempts {rows}, the gap was over at {gap_end}")
        [[started]] = self.cluster.sql(f"SELECT extract(epoch FROM placed_at) FROM attempt WHERE job = {self.jobs['next']}", "tutti")
        if float(started) < gap_end:
            raise Failure(f"next was placed at {started}, in the gap that ended at {gap_end}")

    def expect_one_owner(self):
        twice = self.cluster.sql("SELECT gpu FROM allocation WHERE until_at IS NULL GROUP BY gpu HAVING count(*) > 1", "tutti")
        if twice:
            raise Failure(f"GPUs with two owners: {twice}")

    def expect_no_crash(self):
        """A scheduler that is deposed ends with status 3 and is started again; nothing else ends one."""
        for s in self.schedulers:
            if any(status != 3 for _, status in s.ends):
                raise Failure(f"{s.name} has ended with {[status for _, status in s.ends]}\n{tail(s.log)}")
