#!/usr/bin/python3
"""The pilot under Debian's real Slurm: two slurmd on this machine, a pilot of both, then one on each and a gang across both.

The pilot of both opens its nodes only once they are reserved, and leaves alone what others have closed. Of the two, one is
cancelled and the other comes to its time limit; each time the gang goes on from its checkpoint once a new pilot brings a
node. Everything is in one scratch folder and ended by its own pid. Needs root, munge, slurmctld, slurmd
and the programs in $TUTTI_BIN; called by `./dev test slurm`.
"""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PILOT = HERE.parent.parent / "deploy" / "slurm" / "tutti-pilot.sbatch"
sys.path[:0] = [str(HERE.parent.parent / "bench" / "peers"), str(HERE.parent.parent / "bench")]
from slurm import about, kill, steps_of  # noqa: E402

BIN = pathlib.Path(os.environ.get("TUTTI_BIN", HERE.parent.parent / "build" / "release" / "bin"))
PATIENCE = 120.0
LEAVE = 20

JOB = """
name: train
nodes: 2
procs_per_node: 1
resources: {cpus: 1}
preflight: none
checkpoint: {dir: %(ckpt)s}
stop: {grace: 10s}
run: |
  step=0; [ -z "$RESUME_CHECKPOINT" ] || step=${RESUME_CHECKPOINT##*/step-}
  echo "rank $RANK of $WORLD_SIZE begins at step $step"
  trap 'stop=1' TERM
  while [ ! -e %(go)s ]; do
    step=$((step + 1)); sleep 0.3
    if [ "$RANK" = 0 ]; then
      d=$CHECKPOINT_DIR/step-$step; mkdir -p $d
      echo '{"step":'$step',"shards":1,"bytes":0,"epoch":'$TUTTI_EPOCH'}' > $d/new; mv $d/new $d/COMPLETE.json
    fi
    [ -z "${stop:-}" ] || exit 85
  done
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(what, ask, patience=PATIENCE):
    """What `ask` returns once it is true; the world is real, so with a deadline."""
    until = time.monotonic() + patience
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > until:
            raise AssertionError(f"in vain: {what}")
        time.sleep(0.2)


def end(child, patience):
    """What has had its signal already."""
    try:
        child.wait(patience)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def sweep(root):
    """Kills what is left of the test: step daemons, and whatever names its folder, as the supervisors and ranks of a worker that
    was killed. Until nothing is found, since a process may have started another just before it was killed."""
    until = time.monotonic() + 20
    while found := steps_of(str(root)) + [int(pid) for pid in filter(str.isdigit, os.listdir("/proc")) if int(pid) != os.getpid()
                                          and str(root) in about(pid, "cmdline") + about(pid, "environ")]:
        for pid in found:
            kill(pid)
        if time.monotonic() > until:
            raise AssertionError(f"cannot end {found}")
        time.sleep(0.1)


class Slurm:
    def __init__(self, root):
        self.root, self.pids = root, []
        host = socket.gethostname()
        self.conf = root / "slurm.conf"
        self.env = dict(os.environ, SLURM_CONF=str(self.conf))
        nodes = "\n".join(
            f"NodeName=node{n} NodeHostname={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs=2 RealMemory=500 State=UNKNOWN"
            for n in (1, 2))
        self.conf.write_text(f"""ClusterName=tutti-test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={free_port()}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.sock
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool-%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
KillWait=10
SchedulerParameters=sched_interval=1,bf_interval=1
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
""")
        for folder in ("state", "spool-node1", "spool-node2"):
            (root / folder).mkdir()

    def start(self):
        key = self.root / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        shutil.chown(key, "munge", "munge")
        shutil.chown(self.root, "munge", "munge")
        self.root.chmod(0o755)
        self.spawn("munged", ["setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", "munged", "--foreground", "--force",
                              *(f"--{w}={self.root}/munge{s}" for w, s in (
                                  ("socket", ".sock"), ("key-file", ".key"), ("pid-file", "d.pid"), ("log-file", "d.log"),
                                  ("seed-file", "d.seed")))])
        wait_for("munge.sock", (self.root / "munge.sock").exists)
        self.spawn("slurmctld", ["slurmctld", "-D", "-f", str(self.conf)])
        for n in (1, 2):
            self.spawn(f"slurmd{n}", ["slurmd", "-D", "-f", str(self.conf), "-N", f"node{n}"])
        wait_for("two idle nodes", lambda: self.run("sinfo", "-h", "-t", "idle", "-o", "%D", check=False).strip() == "2")

    def spawn(self, name, command):
        log = open(self.root / f"{name}.out", "wb")
        self.pids.append(subprocess.Popen(command, stdout=log, stderr=log, env=self.env, start_new_session=True))

    def run(self, *command, check=True, env=None):
        done = subprocess.run(command, env=env or self.env, capture_output=True, text=True, timeout=60)
        if check and done.returncode != 0:
            raise AssertionError(f"{command}: {done.stderr}")
        return done.stdout

    def state(self, job):
        found = re.search(r"JobState=(\S+)", self.run("scontrol", "show", "job", str(job), check=False))
        return found.group(1) if found else "GONE"

    def stop(self):
        """Pilots first, while somebody is there who can end them; then the daemons, whatever came of it."""
        try:
            self.run("scancel", "--user=root", check=False)
            wait_for("no job is left", lambda: not self.run("squeue", "-h", check=False).strip(), 60)
        finally:
            for child in reversed(self.pids):
                child.terminate()
            for child in self.pids:
                end(child, 20)


class Tutti:
    def __init__(self, root):
        self.root, self.log = root, root / "up.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [BIN / "tutti", "up", "--no-workers", "--data", root / "data", "--port", "0"], stdout=log, stderr=log,
                start_new_session=True)
        try:
            self.url = wait_for("tutti up", lambda: re.search(r"tutti is up: (http://\S+)", self.log.read_text())).group(1)
        except BaseException:
            self.stop()
            raise
        self.token = root / "data" / "token"

    def cli(self, *words, check=True):
        done = subprocess.run([BIN / "tutti", "--server", self.url, "--token-file", self.token, *words],
                              capture_output=True, text=True, timeout=60)
        if check and done.returncode != 0:
            raise AssertionError(f"tutti {words}: {done.stderr}")
        return done.stdout

    def get(self, *words):
        return json.loads(self.cli("-o", "json", *words))

    def nodes(self):
        return {n["name"]: n for n in self.get("nodes")["nodes"]}

    def linked(self, name):
        node = self.nodes().get(name)
        return node and node["linked"] and node["service"] == "schedulable"

    def attempts(self, job):
        answer = self.get("attempts", str(job))
        return answer if isinstance(answer, list) else answer["attempts"]

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        end(self.process, 60)


def interrupted(*_):
    """All is ended as after Ctrl-C."""
    raise KeyboardInterrupt


def main():
    if os.geteuid() != 0:
        sys.exit("slurm_test.py: needs root")
    signal.signal(signal.SIGTERM, interrupted)
    root = pathlib.Path(tempfile.mkdtemp(prefix="tutti-slurm-"))
    root.chmod(0o755)
    slurm, tutti = Slurm(root), None
    (root / "up").mkdir()
    checkpoints = root / "ckpt"
    checkpoints.mkdir()
    checkpoints.chmod(0o777)
    try:
        slurm.start()
        tutti = Tutti(root / "up")
        run(slurm, tutti, root, checkpoints)
    except BaseException:
        for log in sorted(root.glob("pilot-*.out")):
            print(f"--- {log.name}", *log.read_text().splitlines()[-30:], sep="\n", file=sys.stderr)
        raise
    finally:
        try:
            slurm.stop()
        finally:
            try:
                if tutti:
                    tutti.stop()
            finally:
                sweep(root)
                shutil.rmtree(root, ignore_errors=True)


class Pilots:
    """Starts them, and knows what they have said."""

    def __init__(self, slurm, tutti, root, env):
        self.slurm, self.tutti, self.root, self.env = slurm, tutti, root, env

    def start(self, *nodes, **more):
        text = self.slurm.run("sbatch", f"--nodes={len(nodes)}", f"--nodelist={','.join(nodes)}", "--time=10", "--signal=B:TERM@1",
                              "-o", str(self.root / "pilot-%j.out"), str(PILOT), env=dict(self.env, **more))
        return int(text.split()[-1])

    def said(self, number):
        log = self.root / f"pilot-{number}.out"
        return log.read_text() if log.exists() else ""

    def kill(self, number):
        """The pilot's own shell, at once: Slurm tells it before it kills, and it would tidy up."""
        shells = [pid for pid in filter(str.isdigit, os.listdir("/proc"))
                  if "slurm_script" in about(pid, "cmdline") and f"\0SLURM_JOB_ID={number}\0" in "\0" + about(pid, "environ")
                  and str(self.root) in about(pid, "environ")]
        assert shells, f"pilot {number} does not run"
        for pid in shells:
            os.kill(int(pid), signal.SIGKILL)

    def leave(self, number):
        self.slurm.run("scancel", "--batch", "--signal=TERM", str(number))
        wait_for(f"pilot {number} has left", lambda: self.slurm.state(number) == "COMPLETED")

    def reservations(self):
        return {r["name"]: set(r["nodes"]) for r in self.tutti.get("reservations")["reservations"]}

    def workers(self):
        """NODE: the environment of the worker there."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            words = about(pid, "cmdline").split("\0")
            if words[0].endswith("tutti-worker") and "--node" in words and str(self.root) in about(pid, "environ"):
                found[words[words.index("--node") + 1]] = about(pid, "environ").split("\0")
        return found


def submit(tutti, root, name, limit):
    spec = root / f"{name}.yaml"
    spec.write_text(f"name: {name}\n{limit and f'time_limit: {limit}'}\nresources: {{cpus: 1}}\npreflight: none\nrun: 'true'\n")
    return re.search(r"job (\d+)", tutti.cli("submit", str(spec))).group(1)


def run_fitting(slurm, tutti, root, pilots):
    """Nothing is started on a pilot that would not end in time, from the first moment of nodes that nobody has known before."""
    waits = [submit(tutti, root, "forever", ""), submit(tutti, root, "long", "2h")]

    def none_has_begun():
        for job in waits:
            assert tutti.get("show", job)["state"] == "queued" and not tutti.attempts(job), tutti.attempts(job)

    def opened(number, *nodes):
        for node in nodes:
            wait_for(f"{node} in Tutti", lambda node=node: tutti.linked(node))
        assert pilots.reservations()[f"slurm-{number}"] >= set(nodes), pilots.reservations()

    first = pilots.start("node1", "node2", TUTTI_PILOT_JOBS="fitting")
    opened(first, "node1", "node2")
    workers = pilots.workers()
    assert set(workers) == {"node1", "node2"}, workers
    secret = tutti.token.read_text().strip()
    for node, environment in workers.items():
        known = [v for v in environment if v.startswith(("TUTTI_TOKEN=", "TUTTI_TOKEN_FILE=", "TUTTI_CONTEXT=")) or secret in v]
        assert not known, (node, [v.split("=")[0] for v in known])
    short = submit(tutti, root, "short", "1m")
    wait_for("the short job has run", lambda: tutti.get("show", short)["state"] == "succeeded")
    none_has_begun()
    print("what does not end before a pilot is not started on its new nodes, and their workers have no token", flush=True)

    # What somebody closes meanwhile the pilot does not close in its own words, and so no other one opens it.
    tutti.cli("node", "quarantine", "node2", "--reason", "falls off the bus")
    pilots.leave(first)
    assert tutti.nodes()["node1"]["service"] == "retired", tutti.nodes()["node1"]
    second = pilots.start("node1", "node2", TUTTI_PILOT_JOBS="fitting")
    opened(second, "node1")
    wait_for("both have joined", lambda: "node1,node2 joined" in pilots.said(second))
    node2 = tutti.nodes()["node2"]
    assert (node2["service"], node2["service_reason"]) == ("quarantined", "falls off the bus"), node2
    none_has_begun()
    print("what a person has closed stays closed, over the end of one pilot and the start of another", flush=True)

    # One that is killed leaves its reservation, and node2 has no worker this time: node1 takes work all the same.
    pilots.kill(second)
    wait_for("the pilot is gone", lambda: slurm.state(second) not in ("RUNNING", "COMPLETING")
             and not any(n["linked"] for n in tutti.nodes().values()))
    assert f"slurm-{second}" in pilots.reservations(), pilots.reservations()
    tutti.cli("node", "resume", "node2")
    kept, place = root / "worker-kept", root / "worker-node2"
    place.rename(kept)
    place.symlink_to(kept)  # which the pilot does not accept
    third = pilots.start("node1", "node2", TUTTI_PILOT_JOBS="fitting")
    opened(third, "node1")
    assert f"slurm-{second}" not in pilots.reservations(), pilots.reservations()
    assert not tutti.nodes()["node2"]["linked"] and "is not ours" in pilots.said(third), pilots.said(third)
    short = submit(tutti, root, "short", "1m")
    wait_for("the short job has run on the other node", lambda: tutti.get("show", short)["state"] == "succeeded")
    none_has_begun()
    pilots.leave(third)
    place.unlink()
    kept.rename(place)
    assert not pilots.reservations(), pilots.reservations()
    tutti.cli("cancel", "--yes", *waits)
    print("a pilot opens the nodes that have come up, and takes away what a killed one has left", flush=True)


def run(slurm, tutti, root, checkpoints):
    flags = "--no-gpus --job-user nobody --no-gate"
    join = root / "join.token"
    join.touch(0o600)
    join.write_text(tutti.get("join-token", "create", "--uses", "2", "--expires-in", "1h")["token"] + "\n")
    env = dict(slurm.env, TUTTI_SERVER=tutti.url, TUTTI_TOKEN_FILE=str(tutti.token), TUTTI_JOIN_TOKEN_FILE=str(join), TUTTI_BIN=str(BIN),
               TUTTI_PILOT_STATE=str(root / "worker"), TUTTI_PILOT_LEAVE=str(LEAVE), TUTTI_PILOT_JOBS="any",
               TUTTI_PILOT_FLAGS=flags, TUTTI_TOKEN=tutti.token.read_text().strip(), TUTTI_CONTEXT="of-nobody")
    pilots = Pilots(slurm, tutti, root, env)
    run_fitting(slurm, tutti, root, pilots)

    def pilot(node):
        number = pilots.start(node)
        wait_for(f"{node} in Tutti", lambda: tutti.linked(node))
        return number

    def newest():
        """The newest one that the scheduler has: what a worker has not told yet is lost with its node."""
        answer = tutti.get("checkpoints", str(job))
        return max((c["step"] for c in (answer if isinstance(answer, list) else answer["checkpoints"])), default=0)

    def running(number):
        """The attempt of that number, once it has written a checkpoint of its own."""
        before = newest()
        wait_for(f"attempt {number} trains", lambda: len(tutti.attempts(job)) >= number and newest() > before)
        return [a for a in tutti.attempts(job) if a["number"] == number][0]

    def begins_at(number):
        log = tutti.cli("logs", str(job), "--attempt", str(number), "--rank", "0")
        return int(re.search(r"rank 0 of 2 begins at step (\d+)", log).group(1))

    first, second = pilot("node1"), pilot("node2")
    spec = root / "job.yaml"
    spec.write_text(JOB % {"ckpt": checkpoints, "go": root / "go"})
    job = int(re.search(r"job (\d+)", tutti.cli("submit", str(spec))).group(1))
    running(1)
    print("a gang runs over the nodes of two pilots", flush=True)

    # Slurm takes one away: its worker ends, its ranks end with the lease, the other node's are stopped.
    saved = newest()
    slurm.run("scancel", str(second))
    wait_for("the gang has stopped", lambda: tutti.attempts(job)[0]["state"] == "ended")
    third = pilot("node2")
    running(2)
    assert begins_at(2) >= saved, (begins_at(2), saved)
    print(f"after scancel it has gone on from step {begins_at(2)} on a new pilot", flush=True)

    # The other comes to its limit: what runs there is told to save and to go.
    saved = newest()
    slurm.run("scontrol", "update", f"JobId={first}", f"EndTime=now+{LEAVE + 5}seconds")
    wait_for("node1 is retired", lambda: tutti.nodes()["node1"]["service"] == "retired")
    wait_for("its pilot has ended well", lambda: slurm.state(first) == "COMPLETED")
    ended = [a for a in tutti.attempts(job) if a["number"] == 2][0]
    assert ended["state"] == "ended" and ended["cause"] != "node_lost", ended
    fourth = pilot("node1")
    running(3)
    assert begins_at(3) >= saved, (begins_at(3), saved)
    print(f"after the time limit (cause {ended['cause']}) it has gone on from step {begins_at(3)}", flush=True)

    (root / "go").touch()
    wait_for("the job has succeeded", lambda: tutti.get("show", str(job))["state"] == "succeeded")

    for number in (third, fourth):
        pilots.leave(number)
    assert {n["service"] for n in tutti.nodes().values()} == {"retired"}, tutti.nodes()


if __name__ == "__main__":
    main()
