"""What the benchmarks stand on: a PostgreSQL with all its durability, schedulers, the fleet of workers, and the table that
says what was measured against what aim. Standard library only."""
import glob
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

SPEC = '{"name":"bench","run":"true","priority":50,"nodes":1,"resources":{"gpus":8}}'
SMALL_SPEC = '{"name":"bench","run":"true","priority":50,"nodes":1,"resources":{"gpus":1}}'
GANG_SPEC = '{"name":"gang","run":"true","priority":50,"nodes":4,"resources":{"gpus":8}}'


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


def wait_for(condition, seconds, what):
    """Asks until it is so; ends the benchmark after so long."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"waited {seconds} s in vain for {what}")
        time.sleep(0.02)


class Home:
    """A directory for one benchmark, on a disk that keeps what it is told to keep; gone afterwards."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="tutti-bench-", dir="/var/tmp")
        os.chmod(self.path, 0o755)
        self.things = []
        return self

    def keep(self, thing):
        """Stopped at the end, the last one first."""
        self.things.append(thing)
        return thing

    def __exit__(self, *_):
        for thing in reversed(self.things):
            thing.stop()
        shutil.rmtree(self.path, ignore_errors=True)


class Postgres:
    """A server of our own, set up as the embedded one is; it outlives the schedulers that use it."""

    SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "15min", "autovacuum_naptime": "15s",
                "jit": "off", "max_connections": "200", "client_connection_check_interval": "2s", "listen_addresses": ""}

    def __init__(self, home, **settings):
        self.directory = os.path.join(home.path, "pg")
        os.mkdir(self.directory)
        if os.getuid() == 0:
            shutil.chown(self.directory, "postgres", "postgres")
        self.data = os.path.join(self.directory, "data")
        subprocess.run(as_postgres([pg_tool("initdb"), "-D", self.data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C"]),
                       check=True, cwd="/", stdout=subprocess.DEVNULL)
        options = [f"-c {k}={v}" for k, v in {**self.SETTINGS, **settings, "unix_socket_directories": self.directory}.items()]
        self.options = " ".join(options)
        self.start()
        self.createdb("tutti")
        home.keep(self)

    def start(self):
        self.command([pg_tool("pg_ctl"), "-D", self.data, "-w", "-t", "60", "-l", os.path.join(self.directory, "log"), "-o", self.options,
                      "start"])

    @staticmethod
    def command(command):
        subprocess.run(as_postgres(command), check=True, cwd="/", stdout=subprocess.DEVNULL)

    def createdb(self, name):
        self.sql(f"CREATE DATABASE {name}", "postgres")

    def dsn(self, database="tutti"):
        return f"host={self.directory} user=postgres dbname={database}"

    def sql(self, text, database="tutti"):
        """Rows of text."""
        out = subprocess.run([pg_tool("psql"), "-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1", "-d", self.dsn(database),
                              "-c", text], check=True, capture_output=True, text=True).stdout
        return [line.split("\t") for line in out.splitlines() if line]

    def number(self, text, database="tutti"):
        return float(self.sql(text, database)[0][0] or 0)

    def settle(self, database="tutti"):
        """Neither side pays for the vacuum that the other side's rows have called for."""
        self.sql("VACUUM (ANALYZE)", database)

    def stop(self):
        subprocess.run(as_postgres([pg_tool("pg_ctl"), "-D", self.data, "-m", "immediate", "-w", "stop"]), cwd="/",
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Scheduler:
    """With a database of its own inside it, or (`db`) on one that is there."""

    def __init__(self, bin_dir, home, db=None, name="scheduler", like=None, flags=()):
        self.home, self.name = home, name
        self.port = free_port()
        self.data = os.path.join(home.path, name)
        os.makedirs(self.data, exist_ok=True)
        if like:  # one cluster: the same token and key
            for secret in ("token", "secret"):
                shutil.copy(os.path.join(like.data, secret), self.data)
        self.command = [os.path.join(bin_dir, "tutti-scheduler"), "--listen", f"127.0.0.1:{self.port}", "--data", self.data, "--log-level",
                        "warn", "--requests-per-second", "0", "--requests-per-second-address", "0", *flags]
        self.command += ["--db", db] if db else ["--embedded-db"]
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None
        home.keep(self)

    def start(self, wait="ready"):
        """When it was started. `wait`: until it is "ready", only until it "listens", or not at all (None)."""
        log = open(os.path.join(self.home.path, self.name + ".log"), "a")
        began = time.monotonic()
        self.process = subprocess.Popen(self.command, stdout=log, stderr=log)
        deadline = began + 120
        while wait and not (self.ready() if wait == "ready" else self.listens()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the scheduler did not start; see {log.name}:\n" + open(log.name).read()[-2000:])
            time.sleep(0.01)
        return began

    def answers(self, path):
        try:
            return urllib.request.urlopen(self.url + path, timeout=1).status
        except urllib.error.HTTPError as e:
            return e.code
        except OSError:
            return 0

    def ready(self):
        return self.answers("/readyz") == 200

    def listens(self):
        return self.answers("/healthz") == 200

    @property
    def token(self):
        return open(os.path.join(self.data, "token")).read().strip()

    @property
    def pid(self):
        return self.process.pid

    @property
    def socket(self):  # of its embedded database
        found = glob.glob(os.path.join(self.data, "postgres", "**", ".s.PGSQL.*"), recursive=True)
        return os.path.dirname([s for s in found if not s.endswith(".lock")][0])

    def kill(self):
        self.process.kill()
        self.process.wait(60)

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()

    def resident_bytes(self):
        with open(f"/proc/{self.pid}/status") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmRSS"))

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Fleet:
    """worker_fleet against a scheduler; what it prints is read as it comes."""

    def __init__(self, bin_dir, home, scheduler, **flags):
        command = [os.path.join(bin_dir, "worker_fleet"), "--port", str(scheduler.port), "--token", scheduler.token]
        for name, value in flags.items():
            command += ["--" + name.replace("_", "-"), str(value)]
        self.errors = open(os.path.join(home.path, "fleet.log"), "w+")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.errors, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()
        home.keep(self)

    def read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line))
        self.lines.put(None)

    def next(self, seconds):
        """The next line; None at the end."""
        try:
            return self.lines.get(timeout=seconds)
        except queue.Empty:
            raise SystemExit(f"the fleet has said nothing for {seconds:.0f} s") from None

    def wait(self, key, value=None, seconds=300):
        """The next line that has `key` (and there `value`)."""
        while True:
            line = self.next(seconds)
            if line is None:
                self.errors.seek(0)
                raise SystemExit("the fleet has ended: " + self.errors.read()[-2000:])
            if key in line and (value is None or line[key] == value):
                return line

    def result(self, seconds=300):
        result = self.wait("result", seconds=seconds)["result"]
        if self.process.wait(30) != 0:
            self.errors.seek(0)
            raise SystemExit("the fleet: " + self.errors.read()[-2000:])
        return result

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        self.errors.close()


def run_json(bin_dir, program, **flags):
    """A program of ours that prints one JSON object."""
    command = [os.path.join(bin_dir, program)]
    for name, value in flags.items():
        command += ["--" + name.replace("_", "-"), str(value)]
    out = subprocess.run(command, capture_output=True, text=True)
    if out.returncode != 0:
        raise SystemExit(f"{program}: {out.stderr[:1000]}")
    return json.loads(out.stdout)


def rest(bin_dir, scheduler, **flags):
    return run_json(bin_dir, "rest_load", port=scheduler.port, token=scheduler.token, **flags)


def row(work, value, unit="", least=None, most=None, digits=2):
    """A line of the table. `least` or `most`: the aim; without one nothing is judged."""
    aim = f"≥ {least:g}" if least is not None else f"≤ {most:g}" if most is not None else ""
    ok = None if not aim else value >= least if least is not None else value <= most
    return {"work": work, "value": round(value, digits + 2), "unit": unit, "aim": aim + (" " + unit if aim and unit else ""),
            "verdict": "" if ok is None else "PASS" if ok else "MISS", "digits": digits}


def show(rows):
    width = max(len(r["work"]) for r in rows)
    for r in rows:
        value = f"{r['value']:,.{r.pop('digits')}f} {r['unit']}".strip()
        print(f"  {r['work']:<{width}}  {value:>18}  {('aim ' + r['aim']) if r['aim'] else '':<22} {r['verdict']}".rstrip(), flush=True)
    return rows
