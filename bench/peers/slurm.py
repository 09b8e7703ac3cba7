"""A Slurm of our own on loopback: munge, slurmctld and some slurmd on this machine, from Debian's packages. All files in one
directory, all processes ended by pid. FAST and cred_expire are the settings with which Slurm starts jobs soonest. Standard library only."""
import os
import signal
import socket
import subprocess
import time

from rig import wait_for

PACKAGES = ["slurmctld", "slurmd", "slurm-client", "munge"]

CONF = """ClusterName=peers
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={home}/munge.sock,cred_expire=30
SlurmctldPort={ctld}
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool-%n
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd-%n.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd-%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
MaxJobCount=200000
MaxArraySize=100000
MinJobAge=300
SlurmdTimeout={slurmd_timeout}
SlurmdParameters=config_overrides
KillWait=5
JobRequeue=1
{fast}
NodeName=n[1-{nodes}] NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports} CPUs=64 RealMemory=8000 Gres=gpu:8 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
FAST = """SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=0,sched_interval=1,batch_sched_delay=0,default_queue_depth=10000,bf_interval=1,max_rpc_cnt=0
PriorityType=priority/basic"""


def free_ports(count):
    """So many in a row."""
    for begin in range(23000, 60000, count + 7):
        held = []
        try:
            for port in range(begin, begin + count):
                s = socket.socket()
                held.append(s)
                s.bind(("127.0.0.1", port))
            return begin
        except OSError:
            continue
        finally:
            for s in held:
                s.close()
    raise SystemExit("no free ports for slurmd")


def install():
    missing = [p for p in PACKAGES if not os.path.exists(f"/var/lib/dpkg/info/{p}.list")]
    if missing:
        env = dict(os.environ, DEBIAN_FRONTEND="noninteractive", RUNLEVEL="1")
        subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing], check=True, env=env, stdout=subprocess.DEVNULL)


class Slurm:
    def __init__(self, home, nodes=4, slurmd_timeout=10):
        self.home = os.path.join(home.path, "slurm")
        self.processes, self.nodes = {}, nodes
        for directory in ("state", *(f"spool-n{i}" for i in range(1, nodes + 1))):
            os.makedirs(os.path.join(self.home, directory))
        ports = free_ports(nodes + 1)
        self.conf = os.path.join(self.home, "slurm.conf")
        with open(self.conf, "w") as f:
            f.write(CONF.format(home=self.home, ctld=ports + nodes, ports=f"[{ports}-{ports + nodes - 1}]", nodes=nodes,
                                slurmd_timeout=slurmd_timeout, fast=FAST))
        with open(os.path.join(self.home, "gres.conf"), "w") as f:
            f.write(f"Name=gpu File={self.home}/gpu[0-7]\n")
        for i in range(8):  # Slurm looks at nothing but their names
            open(os.path.join(self.home, f"gpu{i}"), "w").close()
        with open(os.path.join(self.home, "cgroup.conf"), "w") as f:
            f.write("CgroupPlugin=autodetect\n")
        self.env = dict(os.environ, SLURM_CONF=self.conf)
        home.keep(self)
        self.start_munge()
        self.start_head()
        for i in range(1, nodes + 1):
            self.start_node(f"n{i}")
        wait_for(lambda: self.idle_nodes() == nodes, 20, "the nodes of Slurm to be idle")

    def run(self, name, command):
        log = open(os.path.join(self.home, name + ".out"), "a")
        self.processes[name] = subprocess.Popen(command, env=self.env, stdout=log, stderr=log, start_new_session=True)

    def start_munge(self):
        key = os.path.join(self.home, "munge.key")
        with open(key, "wb") as f:
            f.write(os.urandom(128))
        os.chmod(key, 0o400)
        os.chmod(self.home, 0o755)
        self.run("munged", ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={self.home}/munge.sock",
                            f"--pid-file={self.home}/munge.pid", f"--log-file={self.home}/munge.log", f"--seed-file={self.home}/munge.seed"])
        wait_for(lambda: os.path.exists(f"{self.home}/munge.sock"), 10, "munge")

    def start_head(self):
        self.run("slurmctld", ["slurmctld", "-D", "-f", self.conf])
        wait_for(lambda: self.query(["scontrol", "ping"]).returncode == 0, 60, "slurmctld")

    def start_node(self, name):
        self.run(name, ["slurmd", "-D", "-N", name, "-f", self.conf])

    def query(self, command):
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60)

    def idle_nodes(self):
        out = self.query(["sinfo", "-h", "-N", "-o", "%T"]).stdout.split()
        return sum(state == "idle" for state in out)

    def submit(self, *arguments, script="#!/bin/sh\ntrue\n"):
        out = subprocess.run(["sbatch", "--parsable", "-o", "/dev/null", *arguments], input=script, env=self.env, capture_output=True, text=True)
        if out.returncode != 0:
            raise SystemExit("sbatch: " + out.stderr)
        return int(out.stdout.split(";")[0])

    def jobs(self):
        """id → state, of what the head still knows."""
        out = self.query(["squeue", "-h", "-r", "-t", "all", "-o", "%i %T"]).stdout
        return dict(line.split(None, 1) for line in out.splitlines())

    def kill_node(self, name):
        """As if its power were gone: the daemon and all that it has started."""
        for pid in descendants(self.processes[name].pid) + steps_of(os.path.join(self.home, f"spool-{name}") + "/"):
            kill(pid)
        self.processes[name].wait(30)

    def stop(self):
        for process in reversed(list(self.processes.values())):
            for pid in descendants(process.pid):
                kill(pid)
            process.wait(30)
        for pid in steps_of(self.home):
            kill(pid)


def steps_of(part):
    """Step daemons, which leave slurmd's tree, and what they run: a script in a spool directory whose path has `part`."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if about(pid, "cmdline").startswith("slurmstepd"):
            tree = descendants(int(pid))
            if any(part in about(p, "cmdline") for p in tree):
                found += tree
    return found


def about(pid, file):
    """What /proc says of it; nothing once it is gone."""
    try:
        with open(f"/proc/{pid}/{file}", errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def descendants(pid):
    """Of a process, itself last."""
    return [d for child in about(pid, f"task/{pid}/children").split() for d in descendants(int(child))] + [pid]


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
