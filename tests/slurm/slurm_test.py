#!/usr/bin/python3
"""The pilot under Debian's real Slurm: two slurmd on this machine, a pilot on each, a gang across both.

One pilot is cancelled, the other comes to its time limit; each time the gang goes on from its checkpoint once a new
pilot brings a node. Everything is in one scratch folder and ended by its own pid. Needs root, munge, slurmctld, slurmd
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


def run(slurm, tutti, root, checkpoints):
    flags = "--no-gpus --job-user nobody --no-gate"
    join = root / "join.token"
    join.touch(0o600)
    join.write_text(tutti.get("join-token", "create", "--uses", "2", "--expires-in", "1h")["token"] + "\n")
    env = dict(slurm.env, TUTTI_SERVER=tutti.url, TUTTI_TOKEN_FILE=str(tutti.token), TUTTI_JOIN_TOKEN_FILE=str(join), TUTTI_BIN=str(BIN),
               TUTTI_PILOT_STATE=str(root / "worker"), TUTTI_PILOT_LEAVE=str(LEAVE), TUTTI_PILOT_JOBS="any",
               TUTTI_PILOT_FLAGS=flags)

    def pilot(node, **more):
        text = slurm.run("sbatch", "--nodes=1", f"--nodelist={node}", "--time=10", "--signal=B:TERM@1",
                         "-o", str(root / "pilot-%j.out"), str(PILOT), env=dict(env, **more))
        number = int(text.split()[-1])
        wait_for(f"{node} in Tutti", lambda: tutti.linked(node))
        return number

    def newest():
        return max((int(p.name.split("-")[1]) for p in checkpoints.glob("step-*") if (p / "COMPLETE.json").exists()), default=0)

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

    # With TUTTI_PILOT_JOBS=fitting nothing is started that would not end in time.
    for number, node in ((third, "node2"), (fourth, "node1")):
        slurm.run("scancel", "--batch", "--signal=TERM", str(number))
        wait_for(f"{node} is left", lambda: slurm.state(number) == "COMPLETED")
    fitting = pilot("node1", TUTTI_PILOT_JOBS="fitting")
    wait_for("the reservation", lambda: f"slurm-{fitting}" in tutti.cli("reservations"))
    jobs = {}
    for name, limit in (("long", "2h"), ("short", "1m")):
        spec.write_text(f"name: {name}\ntime_limit: {limit}\nresources: {{cpus: 1}}\npreflight: none\nrun: 'true'\n")
        jobs[name] = re.search(r"job (\d+)", tutti.cli("submit", str(spec))).group(1)
    wait_for("the short job has run", lambda: tutti.get("show", jobs["short"])["state"] == "succeeded")
    assert tutti.get("show", jobs["long"])["state"] == "queued"
    slurm.run("scancel", "--batch", "--signal=TERM", str(fitting))
    wait_for("node1 is left", lambda: slurm.state(fitting) == "COMPLETED")
    print("what does not end before the pilot is not started there", flush=True)


if __name__ == "__main__":
    main()
