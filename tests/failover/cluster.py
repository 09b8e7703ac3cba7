"""etcd, Patroni and PostgreSQL 15 on loopback, each in a directory of its own and on free ports, as user postgres where we are
root. Standard library only. One thread drives them; `sql` may be called from any.

Everything ends with its Home, by process id: what was stopped (SIGSTOP) is let go first, then Patroni stops its PostgreSQL, and a
postmaster that is left over is killed."""
import contextlib
import glob
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

PATIENCE = 90  # seconds, for any one thing
TTL = 10  # seconds, of the leader key in etcd
DCS = {"ttl": TTL, "loop_wait": 1, "retry_timeout": 3, "primary_start_timeout": 0, "maximum_lag_on_failover": 1 << 20,
       "synchronous_mode": True}
PARAMETERS = {"max_connections": 60, "max_wal_size": "256MB", "shared_buffers": "64MB", "wal_log_hints": "on", "wal_keep_size": "64MB",
              "client_connection_check_interval": "2s", "jit": "off", "log_min_messages": "warning", "max_wal_senders": 8,
              "max_replication_slots": 8}


class Failure(AssertionError):
    """What was waited for did not come, or an oracle says no."""


def eventually(what, ask, seconds=PATIENCE, every=0.02, said=lambda: ""):
    """What `ask` answers, as soon as it is true."""
    until = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException, subprocess.SubprocessError, json.JSONDecodeError):
            if answer := ask():
                return answer
        if time.monotonic() > until:
            raise Failure(f"{what}: not within {seconds:g} s\n{said()}")
        time.sleep(every)


def pg_tool(name):
    found = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"))
    return found[-1] if found else shutil.which(name)


def as_postgres(command):
    if os.getuid() == 0:
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"] + command
    return command


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def tail(path, size=2000):
    with contextlib.suppress(OSError), open(path, "rb") as f:
        f.seek(max(0, os.fstat(f.fileno()).st_size - size))
        return f.read().decode(errors="replace")
    return ""


def children(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(word) for word in f.read().split()]
    return []


def send(pid, number):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


class Home:
    """A directory for one case; what was started in it ends with it, the last one first."""

    def __init__(self):
        self.path = tempfile.mkdtemp(prefix="tutti-failover-", dir="/var/tmp")
        os.chmod(self.path, 0o755)
        self.things = []

    def folder(self, name, mode=0o755, owner=None):
        path = os.path.join(self.path, name)
        os.makedirs(path, exist_ok=True)
        os.chmod(path, mode)
        if owner and os.getuid() == 0:
            shutil.chown(path, owner, owner)
        return path

    def keep(self, thing):
        self.things.append(thing)
        return thing

    def end(self, keep=False):
        for thing in reversed(self.things):
            try:
                thing.stop()
            except Exception as e:  # the others are to be stopped as well
                print(f"    cannot stop {thing}: {e}", flush=True)
        if not keep:
            shutil.rmtree(self.path, ignore_errors=True)


class Child:
    """A process of ours with a log."""

    def __init__(self, command, log, environment=None):
        self.log = log
        with open(log, "a") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd="/",
                                            env={**os.environ, **(environment or {})}, start_new_session=True)

    @property
    def pid(self):
        return self.process.pid

    def running(self):
        return self.process.poll() is None

    def send(self, number):
        if self.running():
            self.process.send_signal(number)

    def end(self, number=signal.SIGTERM, seconds=20):
        self.send(signal.SIGCONT)
        self.send(number)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(seconds)


class Etcd:
    """Spoken to by version 2 of its protocol: by version 3 Debian's Patroni, 3.0.2, may take the leader's key from its successor when
    it has been paused (docs/failover.md)."""

    def __init__(self, home):
        self.port, peer = free_port(), free_port()
        folder = home.folder("etcd", 0o700, "postgres")
        client, peers = f"http://127.0.0.1:{self.port}", f"http://127.0.0.1:{peer}"
        self.child = Child(as_postgres(["etcd", "--name", "e1", "--data-dir", os.path.join(folder, "data"), "--unsafe-no-fsync", "--enable-v2",
                                        "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peers,
                                        "--initial-advertise-peer-urls", peers, "--initial-cluster", f"e1={peers}", "--logger", "zap"]),
                           os.path.join(home.path, "etcd.log"))
        home.keep(self)
        eventually("etcd answers", lambda: get_json(self.port, "/health").get("health") == "true", said=lambda: tail(self.child.log))

    def value(self, key):
        """What Patroni keeps there, as text; "" if there is no such key."""
        found = get_json(self.port, f"/v2/keys/service/tutti/{key}", statuses=[200, 404])
        return found["node"]["value"] if "node" in found else ""

    def stop(self):
        self.child.end()


def get_json(port, path, method="GET", body=None, seconds=2, statuses=range(200, 600)):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    try:
        connection.request(method, path, body=body and json.dumps(body), headers={"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status not in statuses:
            raise OSError(f"{path} is {answer.status}")
        return json.loads(answer.read() or b"{}")
    finally:
        connection.close()


class Member:
    """Patroni and its PostgreSQL."""

    def __init__(self, home, etcd, name, dcs, parameters, disk=None):
        self.home, self.name = home, name
        self.port, self.rest_port = free_port(), free_port()
        self.folder = home.folder(name, 0o700, "postgres")
        self.data = os.path.join(disk or self.folder, "data")
        self.log = os.path.join(home.path, name + ".log")
        self.config = os.path.join(self.folder, "patroni.yml")  # JSON is YAML
        self.child = None
        self.paused = []
        with open(self.config, "w") as f:
            json.dump(self.settings(etcd, dcs, parameters), f, indent=1)
        os.chmod(self.config, 0o644)
        home.keep(self)

    def settings(self, etcd, dcs, parameters):
        user = {"username": "postgres", "password": "x"}
        return {
            "scope": "tutti", "name": self.name,
            "restapi": {"listen": f"127.0.0.1:{self.rest_port}", "connect_address": f"127.0.0.1:{self.rest_port}"},
            "etcd": {"host": f"127.0.0.1:{etcd.port}"},
            "bootstrap": {
                "dcs": {**DCS, **dcs, "postgresql": {"use_pg_rewind": True, "use_slots": True, "parameters": {**PARAMETERS, **parameters}}},
                "initdb": [{"encoding": "UTF8"}, "no-locale", "no-sync"],
                "pg_hba": ["local all all trust", "host all all 127.0.0.1/32 trust", "host replication all 127.0.0.1/32 trust"]},
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}", "connect_address": f"127.0.0.1:{self.port}", "data_dir": self.data,
                "bin_dir": os.path.dirname(pg_tool("postgres")), "pgpass": os.path.join(self.folder, "pgpass"),
                "authentication": {"superuser": user, "replication": {"username": "replicator", "password": "x"}, "rewind": user},
                "basebackup": [{"checkpoint": "fast"}], "parameters": {"unix_socket_directories": self.folder}},
            "watchdog": {"mode": "off"}}

    def start(self):
        self.child = Child(as_postgres(["/usr/bin/python3", "/usr/bin/patroni", self.config]), self.log, {"LC_ALL": "C.UTF-8"})
        return self

    def status(self):
        return get_json(self.rest_port, "/patroni")

    def role(self):
        """As PostgreSQL itself says now; "" if it does not answer."""
        with contextlib.suppress(OSError, http.client.HTTPException, json.JSONDecodeError):
            told = self.status()
            if told.get("state") == "running":
                return {"master": "primary"}.get(told["role"], told["role"])
        return ""

    def may_take_over(self):
        with contextlib.suppress(OSError, http.client.HTTPException, json.JSONDecodeError):
            return bool(get_json(self.rest_port, "/synchronous", statuses=[200]))
        return False

    def has_said(self, text):
        """How often, in its log."""
        with open(self.log, errors="replace") as f:
            return sum(text in line for line in f)

    def postmaster(self):
        with contextlib.suppress(OSError, ValueError), open(os.path.join(self.data, "postmaster.pid")) as f:
            return int(f.readline())
        return 0

    def backends(self):
        return children(self.postmaster())

    def kill_hard(self):
        """As when the machine loses power, but for the disk's cache: PostgreSQL's processes end with their postmaster."""
        pid, left = self.postmaster(), self.backends()
        self.child.process.kill()
        send(pid, signal.SIGKILL)
        self.child.process.wait(20)
        eventually(f"{self.name}: its processes are gone", lambda: not any(alive(p) for p in left + [pid]))

    def pause(self, everything):
        """SIGSTOP to Patroni and the postmaster, and (`everything`) to each process of PostgreSQL."""
        self.paused = [self.child.pid, self.postmaster()] + (self.backends() if everything else [])
        for pid in self.paused:
            send(pid, signal.SIGSTOP)

    def resume(self):
        for pid in self.paused:
            send(pid, signal.SIGCONT)
        self.paused = []

    def stop(self):
        self.resume()
        if self.child:
            self.child.end(seconds=30)
        if pid := self.postmaster():
            if alive(pid):
                send(pid, signal.SIGCONT)
                send(pid, signal.SIGQUIT)
                eventually(f"{self.name}: its postmaster has ended", lambda: not alive(pid), 20)


def state_of(pid):
    """One letter, as in proc(5): R, S, T (stopped), Z …; X if there is no such process."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()[0]
    return "X"


def alive(pid):
    """Runs, or could: not a zombie."""
    return state_of(pid) not in "ZX"


class PatroniCluster:
    def __init__(self, home, members=2, dcs=None, parameters=None, disk=None):
        self.home = home
        self.etcd = Etcd(home)
        self.members = [Member(home, self.etcd, f"pg{i + 1}", dcs or {}, parameters or {}, disk) for i in range(members)]
        self.members[0].start()
        eventually("a primary", self.primary, said=lambda: tail(self.members[0].log))
        for member in self.members[1:]:
            member.start()
        self.sql("CREATE ROLE tutti LOGIN")
        self.sql("CREATE DATABASE tutti OWNER tutti")
        if members > 1:
            self.await_synchronous()

    def primary(self):
        return next((m for m in self.members if not m.paused and m.role() == "primary"), None)

    def standby(self):
        return next((m for m in self.members if not m.paused and m.role() in ("replica", "sync_standby")), None)

    def await_primary(self, seconds=PATIENCE, other_than=None):
        def ask():
            return next((m for m in self.members if m is not other_than and not m.paused and m.role() == "primary"), None)
        return eventually("a primary", ask, seconds, said=self.said)

    def await_synchronous(self):
        """Until both are there, a commit waits for the standby, and etcd says that this one may take over: that comes last."""
        eventually("a synchronous standby",
                   lambda: self.sql("SELECT 1 FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum') AND state = 'streaming'", "postgres"),
                   said=self.said)
        eventually("a standby that may take over", lambda: any(m.may_take_over() for m in self.members if not m.paused), said=self.said)

    def may_succeed(self):
        """As etcd has it, for whoever is to decide it when the primary is gone: the primary's name and those of the standbys that may
        take over."""
        told = json.loads(self.etcd.value("sync") or "{}")
        return told.get("leader"), [name for name in (told.get("sync_standby") or "").split(",") if name]

    def said(self):
        return "\n".join(f"--- {m.name}:\n{tail(m.log, 1500)}" for m in self.members)

    def dsn(self, ports=None):
        ports = ports or [m.port for m in self.members]
        hosts = ",".join("127.0.0.1" for _ in ports)
        return (f"host={hosts} port={','.join(map(str, ports))} user=tutti dbname=tutti target_session_attrs=read-write")

    def sql(self, text, database=None, member=None, user="postgres"):
        """Rows of text, of the primary unless a member is named."""
        member = member or eventually("a primary for SQL", self.primary, said=self.said)
        try:
            out = subprocess.run([pg_tool("psql"), "-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-d",
                                  f"host=127.0.0.1 port={member.port} user={user} dbname={database or 'postgres'} connect_timeout=3", "-c", text],
                                 check=True, capture_output=True, text=True, timeout=60).stdout
        except subprocess.CalledProcessError as e:
            raise OSError(f"{text}: {e.stderr.strip()}") from e
        return [line.split("\t") for line in out.splitlines() if line]

    def set_at(self, member, name, value):
        """A setting of that PostgreSQL, from now on. It is no commit, so that it waits for no standby."""
        self.sql(f"ALTER SYSTEM SET {name} = '{value}'", member=member)
        self.sql("SELECT pg_reload_conf()", member=member)

    def number(self, text, database="tutti"):
        return float(self.sql(text, database)[0][0] or 0)

    @contextlib.contextmanager
    def switchover(self):
        """By the tool an operator uses, which is done at the end of the block."""
        old, new = self.primary(), self.standby()
        tool = Child(as_postgres(["/usr/bin/python3", "/usr/bin/patronictl", "-c", old.config, "switchover", "tutti", "--master", old.name,
                                  "--candidate", new.name, "--force"]), os.path.join(self.home.path, "patronictl.log"), {"LC_ALL": "C.UTF-8"})
        try:
            yield
            if tool.process.wait(60) != 0:
                raise Failure(f"patronictl: {tail(tool.log)}")
        finally:
            tool.end()
