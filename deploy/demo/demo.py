#!/usr/bin/env python3
"""The demo behind `./dev demo`: a whole Tutti cluster on this machine, and a real distributed training that
survives a GPU fault. Nothing here knows more than a user does: it starts `tutti up`, talks REST, reads logs, and
breaks a simulated GPU with `tutti-gpu-sim`. Standard library only.

  demo.py --bin build/release [--once] [--keep] [--plain]
"""
import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

STEPS, EVERY = 240, 30
NODES, GPUS = 4, 8
CONSOLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "console", "dist")


class Stage:
    """What a person sees: a line of narration before each step, a bar on anything that takes a while."""

    def __init__(self, plain):
        self.tty = sys.stdout.isatty() and not plain
        self.colour = self.tty and "NO_COLOR" not in os.environ
        self.begin = time.monotonic()
        self.number = 0
        self.open_bar = False

    def paint(self, code, text):
        return f"\033[{code}m{text}\033[0m" if self.colour else text

    def clear(self):
        if self.open_bar:
            print("\r\033[K", end="")
            self.open_bar = False

    def step(self, text):
        self.clear()
        self.number += 1
        print(self.paint("1;36", f"\n[{time.monotonic() - self.begin:5.1f} s] {self.number}. {text}"), flush=True)

    def say(self, text=""):
        self.clear()
        print(f"          {text}" if text else "", flush=True)

    def bar(self, done, total, text):
        if not self.tty:
            return
        width = 30
        filled = int(width * min(1.0, done / total)) if total else 0
        print(f"\r\033[K          [{'#' * filled}{'.' * (width - filled)}] {text}", end="", flush=True)
        self.open_bar = True


class Api:
    def __init__(self, url, token):
        self.url, self.token = url, token

    def call(self, method, path, body=None, headers=None, raw=False, timeout=10):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("Authorization", "Bearer " + self.token)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            text = answer.read().decode(errors="replace")
            return text if raw else json.loads(text)

    def get(self, path, **kw):
        return self.call("GET", path, **kw)


class Demo:
    def __init__(self, options):
        self.o = options
        self.stage = Stage(options.plain)
        self.home = options.home
        self.up = None
        self.api = None
        self.told = {}  # job -> (state, checkpoints) already printed
        self.states = {}  # job -> all states seen

    # ------------------------------------------------------------------ the cluster

    def stage_programs(self):
        """Ranks never run as root, and their user may not be able to enter this checkout: copy what they run."""
        shutil.rmtree(self.home, ignore_errors=True)
        os.makedirs(self.home, mode=0o755)
        for folder in ("bin", "lib"):
            source = os.path.join(self.o.bin, folder)
            if os.path.isdir(source):
                shutil.copytree(source, os.path.join(self.home, folder), symlinks=True)
        if os.path.exists(os.path.join(CONSOLE, "index.html")):
            shutil.copytree(CONSOLE, os.path.join(self.home, "share", "tutti", "console"))
        shared = os.path.join(self.home, "shared")
        os.makedirs(shared)
        os.chmod(shared, 0o1777)
        for root, dirs, _ in os.walk(self.home):
            for d in dirs:
                if os.path.join(root, d) != shared:
                    os.chmod(os.path.join(root, d), 0o755)

    def program(self, name):
        return os.path.join(self.home, "bin", name)

    def start(self):
        self.stage.step(f"Starting a cluster here: PostgreSQL, one scheduler, {NODES} workers with {GPUS} simulated GPUs each")
        self.stage_programs()
        data = os.path.join(self.home, "data")
        log = open(os.path.join(self.home, "up.log"), "w")
        command = [self.program("tutti"), "up", "--data", data, "--workers", str(NODES), "--gpus", str(GPUS),
                   "--port", str(self.o.port)]
        if not self.o.no_namespaces:
            command.append("--namespaces")
        self.up = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        self.wait(self.find_api, 90, "starting", lambda _: "PostgreSQL, scheduler, workers")
        nodes = self.wait(lambda: self.reachable() if len(self.reachable()) == NODES else None, 60, "workers register",
                          lambda _: f"{len(self.reachable())} of {NODES} workers")
        cluster = self.api.get("/v1/cluster")
        kind = "simulated GPUs" if cluster.get("simulated_gpus", True) else "GPUs"
        self.stage.say(f"{len(nodes)} nodes, {cluster['gpus']['total']} {kind}, leader {cluster['leader']}, "
                       f"lease {cluster['lease_seconds']:g} s + kill margin {cluster['kill_margin_seconds']:g} s")
        where = {n["address"] for n in nodes}
        self.stage.say("each node is a network and host-name namespace: " + ", ".join(sorted(where))
                       if len(where) > 1 else "the nodes share this host (namespaces need root)")
        if self.has_console():
            self.stage.say(f"watch it in a browser: {self.api.url}/console/  (sign in with the token in {data}/token)")

    def has_console(self):
        """Whether this server has the pages: they are built only where there is Node."""
        try:
            return "<title>Tutti" in self.api.get("/console/", raw=True)
        except urllib.error.HTTPError:
            return False

    def find_api(self):
        if self.up.poll() is not None:
            raise SystemExit("`tutti up` has ended:\n" + open(os.path.join(self.home, "up.log")).read()[-3000:])
        try:
            data = os.path.join(self.home, "data")
            url = open(os.path.join(data, "endpoint")).read().strip()
            self.api = Api(url, open(os.path.join(data, "token")).read().strip())
            self.api.get("/readyz", raw=True)
            return self.api
        except (OSError, urllib.error.URLError):
            return None

    def reachable(self):
        return [n for n in self.api.get("/v1/nodes")["nodes"] if n["linked"]]

    def stop(self):
        if self.up is None or self.up.poll() is not None:
            return
        self.up.send_signal(signal.SIGTERM)
        try:
            self.up.wait(60)
        except subprocess.TimeoutExpired:
            self.up.kill()

    def wait(self, condition, seconds, what, text):
        """Until condition() is true; the answer. A bar after two seconds."""
        begin = time.monotonic()
        while True:
            value = condition()
            if value:
                self.stage.clear()
                return value
            passed = time.monotonic() - begin
            if passed > seconds:
                raise SystemExit(f"demo: {what}: not done after {seconds} s; see {self.home}/up.log")
            if passed > 2:
                self.stage.bar(passed, seconds, text(value))
            time.sleep(0.1)

    # ------------------------------------------------------------------ the training

    def spec(self, name, step_ms):
        run = (f"{self.program('charlm')} --steps {STEPS} --checkpoint-every {EVERY} --log-every 20 --seed 7 "
               f"--step-ms {step_ms}")
        return {
            "name": name, "nodes": 2, "resources": {"gpus": f"H100:{GPUS // 2}"}, "launcher": "mpirun", "run": run,
            "checkpoint": {"dir": os.path.join(self.home, "shared", name)},
            "retry": {"backoff": {"gpu": {"initial": "3s", "max": "3s"}}},
            "time_limit": "10m",
        }

    def submit(self, name, step_ms):
        spec = self.spec(name, step_ms)
        os.makedirs(spec["checkpoint"]["dir"], exist_ok=True)
        os.chmod(spec["checkpoint"]["dir"], 0o1777)
        key = f"demo-{name}-{os.getpid()}"
        job = self.api.call("POST", "/v1/jobs", spec, {"Idempotency-Key": key})
        again = self.api.call("POST", "/v1/jobs", spec, {"Idempotency-Key": key})
        assert again["id"] == job["id"], "a repeated key must answer with the same job"
        return job["id"]

    def job(self, job_id):
        return self.api.get(f"/v1/jobs/{job_id}")

    def describe(self, job):
        p = job.get("progress") or {}
        loss = (p.get("metrics") or {}).get("loss")
        return f"{job['state']}, step {p.get('step', 0)} of {STEPS}" + (f", loss {loss:.4f}" if loss else "")

    def watch(self, job_id, until, seconds, what):
        """Follows a job until `until(job)`; prints each change of state and each new checkpoint."""
        begin = time.monotonic()
        state, seen = self.told.get(job_id, (None, 0))
        while True:
            job = self.job(job_id)
            steps = [c["step"] for c in self.api.get(f"/v1/jobs/{job_id}/checkpoints")["checkpoints"]]
            for step in steps[seen:]:
                known = (job.get("progress") or {}).get("step", 0) >= step
                self.stage.say(f"checkpoint of step {step} is complete" + (f"   ({self.describe(job)})" if known else ""))
            if job["state"] != state:
                state = job["state"]
                self.states.setdefault(job_id, []).append(state)
                extra = f": {job['reason']}" if job.get("reason") else ""
                self.stage.say(f"{state}{extra}")
            seen = len(steps)
            self.told[job_id] = (state, seen)
            if until(job, steps):
                self.stage.clear()
                return job
            if time.monotonic() - begin > seconds:
                raise SystemExit(f"demo: {what}: not done after {seconds} s, job is {state}; see {self.home}/up.log")
            p = job.get("progress") or {}
            self.stage.bar(p.get("step", 0), STEPS, self.describe(job))
            time.sleep(0.1)

    def logs(self, job_id, attempt, rank=0):
        return self.api.get(f"/v1/jobs/{job_id}/attempts/{attempt}/logs?rank={rank}", raw=True)

    def final_loss(self, job_id):
        attempts = self.api.get(f"/v1/jobs/{job_id}/attempts")["attempts"]
        found = re.findall(r"final loss (\S+)", self.logs(job_id, attempts[-1]["number"]))
        return found[-1] if found else None

    def train(self):
        self.stage.step(f"Submitting a data-parallel training over REST: 2 nodes x {GPUS // 2} GPUs, Open MPI, "
                        "a character model on this machine's licence texts")
        job_id = self.submit("charlm", 60)
        self.stage.say(f"job {job_id} accepted (committed to PostgreSQL); the same Idempotency-Key gave the same job")
        self.stage.step("It runs: the gang is placed, loss falls, checkpoints appear")
        job = self.watch(job_id, lambda j, steps: j["state"] == "running" and len(steps) >= 2, 120, "the first run")
        for part in job["allocation"]:
            self.stage.say(f"node {part['node']}: GPUs {part['gpus']}")
        for line in self.logs(job_id, 1).splitlines()[-3:]:
            self.stage.say("log | " + line)
        return job_id

    def break_gpu(self, job_id):
        part = self.job(job_id)["allocation"][0]
        gpu = part["gpus"][1]
        self.stage.step(f"Breaking GPU {gpu} of node {part['node']}: Xid 79, \"GPU has fallen off the bus\"")
        state = os.path.join(self.home, "data", "nodes", part["node"], "gpu")
        subprocess.run([self.program("tutti-gpu-sim"), "xid", "--state", state, "--gpu", str(gpu), "--xid", "79"],
                       check=True, stdout=subprocess.DEVNULL)
        self.broken = (part["node"], gpu)
        # From the kill over the delay heap (the spec asks for 3 s of back-off) to the second run.
        self.watch(job_id, lambda j, _: j["epoch"] == 2 and j["state"] == "running", 120, "the restart")
        job = self.job(job_id)
        self.stage.say("second attempt on " + ", ".join(f"{p['node']} {p['gpus']}" for p in job["allocation"]))
        self.stage.step("It finishes")
        job = self.watch(job_id, lambda j, _: j["state"] in ("succeeded", "failed", "cancelled", "held"), 240, "the end")
        if job["state"] != "succeeded":
            raise SystemExit(f"demo: the job ended as {job['state']}: {job.get('reason')}")

    def reference(self):
        self.stage.step("The same training once more, undisturbed, to compare")
        job_id = self.submit("charlm-undisturbed", 0)
        job = self.watch(job_id, lambda j, _: j["state"] in ("succeeded", "failed", "held"), 240, "the reference run")
        if job["state"] != "succeeded":
            raise SystemExit(f"demo: the reference run ended as {job['state']}: {job.get('reason')}")
        return job_id

    # ------------------------------------------------------------------ what happened

    def report(self, job_id, reference_id):
        self.stage.step("What happened, from the job's own history")
        for a in self.api.get(f"/v1/jobs/{job_id}/attempts")["attempts"]:
            where = "; ".join(f"{m['node']} GPUs {[g['index'] for g in m['gpus']]} ({m['proof']})" for m in a["gang"])
            self.stage.say(f"attempt {a['number']} (epoch {a['epoch']}): {a['result']}" +
                           (f", cause {a['cause']}" if a.get("cause") else ""))
            self.stage.say(f"   on {where}")
            if a.get("detail"):
                self.stage.say(f"   {a['detail']}")
            for e in a.get("evidence") or []:
                self.stage.say(f"   evidence: {json.dumps(e)}")
        self.recovery(job_id)
        with_fault, without = self.final_loss(job_id), self.final_loss(reference_id)
        self.stage.say()
        self.stage.say(f"final loss with the fault     {with_fault}")
        self.stage.say(f"final loss without            {without}")
        same = with_fault is not None and with_fault == without
        return self.verdict(job_id, same)

    def verdict(self, job_id, same_loss):
        """Everything that this demo claims, asked of the job's own history."""
        first, second = self.api.get(f"/v1/jobs/{job_id}/attempts")["attempts"][:2]
        again = {(m["node"], g["index"]) for m in second["gang"] for g in m["gpus"]}
        claims = {
            "the first attempt ended with cause gpu, with the Xid as evidence":
                first["cause"] == "gpu" and any(e.get("xid") == 79 for e in first.get("evidence") or []),
            "every node proved its ranks dead":
                all(m["proof"] and "unproven" not in m["proof"] for m in first["gang"]),
            "the job passed through the delay heap": "delayed" in self.states.get(job_id, []),
            "the broken GPU was not used again": self.broken not in again,
            "it resumed from a checkpoint, at epoch 2":
                second["epoch"] == 2 and (second["resume_step"] or 0) > 0,
            "the final losses are equal to the last digit": same_loss,
        }
        for claim, true in claims.items():
            self.stage.say((self.stage.paint("1;32", "yes  ") if true else self.stage.paint("1;31", "NO   ")) + claim)
        return all(claims.values())

    def recovery(self, job_id):
        attempts = self.api.get(f"/v1/jobs/{job_id}/attempts")["attempts"]
        if len(attempts) < 2:
            raise SystemExit("demo: there was no second attempt")
        first, second = attempts[0], attempts[1]
        lost = (first["last_step"] or 0) - (second["resume_step"] or 0)
        self.stage.say(f"steps lost: {lost} (reached {first['last_step']}, resumed from {second['resume_step']})")
        stamps = [("decided", first["stopping_at"]), ("gang proven dead everywhere", first["ended_at"]),
                  ("placed again (after 3 s in the delay heap)", second["placed_at"]),
                  ("every rank running again", second["running_at"])]
        begin = parse_time(first["fault_at"])
        for what, at in stamps:
            self.stage.say(f"   fault + {parse_time(at) - begin:6.3f} s  {what}")

    def goodbye(self):
        data = os.path.join(self.home, "data")
        self.stage.step("Yours to try; Ctrl-C stops everything")
        self.stage.say(f"export TUTTI_SERVER={self.api.url} TUTTI_TOKEN=$(cat {data}/token)")
        self.stage.say(f"export PATH={self.home}/bin:$PATH")
        if self.has_console():
            self.stage.say(f"the console: {self.api.url}/console/")
        for line in ("tutti ls -a              all jobs", "tutti nodes              who is there",
                     "tutti submit - <<< '{\"name\":\"hello\",\"run\":\"hostname\"}'",
                     f"curl -H \"Authorization: Bearer $TUTTI_TOKEN\" {self.api.url}/v1/cluster",
                     f"{self.api.url}/openapi.json   the whole API"):
            self.stage.say("  " + line)

    def run(self):
        self.start()
        job_id = self.train()
        self.break_gpu(job_id)
        reference_id = self.reference()
        same = self.report(job_id, reference_id)
        self.stage.say()
        self.stage.say(f"demo finished in {time.monotonic() - self.stage.begin:.1f} s")
        if not self.o.once:
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
            self.goodbye()
            signal.sigwait([signal.SIGINT, signal.SIGTERM])
            self.stage.say("stopping everything")
        return 0 if same else 1


def parse_time(text):
    from datetime import datetime
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def main():
    parser = argparse.ArgumentParser(description="A cluster on this machine and a training that survives a GPU fault.")
    parser.add_argument("--bin", required=True, help="build directory with bin/ and lib/")
    parser.add_argument("--once", action="store_true", help="stop when done; exit status says whether all went well")
    parser.add_argument("--plain", action="store_true", help="no bars, no colour")
    parser.add_argument("--no-namespaces", action="store_true", help="nodes share this host")
    parser.add_argument("--port", type=int, default=7070)
    parser.add_argument("--home", default=f"/var/tmp/tutti-demo-{os.getuid()}")
    demo = Demo(parser.parse_args())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    status = 1
    try:
        status = demo.run()
    except KeyboardInterrupt:
        status = 130
    except (urllib.error.URLError, OSError, subprocess.CalledProcessError) as e:
        print(f"demo: {e}; see {demo.home}/up.log", file=sys.stderr)
    finally:
        demo.stop()
    sys.exit(status)


if __name__ == "__main__":
    main()
