#!/usr/bin/python3
"""The Python package against a real cluster: the client submits, follows and waits; tutti.training, inside the job, tells
its progress, writes a checkpoint, asks for a restart, and resumes.

    TUTTI_BIN=build/dev/bin tests/python/cluster_test.py

`tutti up` with one worker, in a folder of its own. Exit 77: nothing is built.
"""
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("TUTTI_BIN", SOURCE / "build/dev/bin")).resolve()
DEADLINE = 90  # seconds, for any one thing
sys.path.insert(0, str(SOURCE / "api" / "python"))

import tutti  # noqa: E402

TRAINER = '''
import os, pathlib, time
from tutti import training

run = training.current()
assert run.managed and run.world_size == 1, "inside a job"
print("attempt", run.attempt, "begins after step", run.resume_step, flush=True)
for step in range(run.resume_step + 1, 4):
    print("step", step, flush=True)
    if step == 1:
        with run.checkpoint(step) as folder:
            (folder / "weights.txt").write_text("of step 1")
        run.exit_for_restart()
    if step == 2:
        print("resumed:", (run.resume_checkpoint / "weights.txt").read_text(), flush=True)
        until = time.monotonic() + 120
        while not pathlib.Path(os.environ["GO"]).exists():
            assert time.monotonic() < until, "nobody lets it go on"
            run.progress(step, total=4, loss=0.25)
            time.sleep(0.05)
'''


class Cluster:
    """`tutti up`, until its end."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="tutti-python-", dir="/tmp"))
        self.folder.chmod(0o755)  # jobs run as another user
        self.work = self.folder / "work"
        for folder in (self.work, self.work / "checkpoints"):
            folder.mkdir()
            folder.chmod(0o777)
        shutil.copytree(SOURCE / "api/python/tutti", self.folder / "python/tutti",
                        ignore=shutil.ignore_patterns("__pycache__"))
        (self.work / "train.py").write_text(TRAINER)
        self.log = open(self.folder / "up.log", "w+", encoding="utf-8")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TUTTI_")}
        ready, told = os.pipe()
        self.process = subprocess.Popen(
            [BIN / "tutti", "up", "--data", self.folder / "data", "--port", "0", "--workers", "1", "--gpus", "1",
             "--start-timeout", str(DEADLINE), "--once-ready-fd", str(told)],
            env={**environment, "HOME": str(self.work)}, stdout=self.log, stderr=subprocess.STDOUT,
            pass_fds=[told], start_new_session=True)
        os.close(told)
        try:
            if not select.select([ready], [], [], DEADLINE)[0] or not os.read(ready, 200):
                raise AssertionError("the cluster does not start:\n" + self.said())
        except BaseException:
            self.stop()
            raise
        finally:
            os.close(ready)

    def client(self):
        context = json.loads((self.folder / "data/context.json").read_text(encoding="utf-8"))
        return tutti.Client(context["server"], context["token"])

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class ClusterTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster()
        cls.client = cls.cluster.client()

    @classmethod
    def tearDownClass(cls):
        cls.cluster.stop()

    def wait_for_line(self, job, wanted, attempt):
        """The log of that attempt is followed until it says so."""
        seen = []
        for line in self.client.logs(job, attempt=attempt, follow=True):
            seen.append(line)
            if line == wanted:
                return
        self.fail(f"{wanted!r} is not in {seen}\n{self.client.job(job)}")

    def eventually(self, ask, what):
        until = time.monotonic() + DEADLINE
        while not (answer := ask()):
            self.assertLess(time.monotonic(), until, what)
            time.sleep(0.05)
        return answer

    def test_a_job_tells_its_progress_writes_a_checkpoint_and_resumes_from_it(self):
        work = self.cluster.work
        job = self.client.submit({
            "name": "py", "run": f"{sys.executable} train.py", "launcher": "direct", "workdir": str(work),
            "env": {"PYTHONPATH": str(self.cluster.folder / "python"), "PYTHONDONTWRITEBYTECODE": "1",
                    "GO": str(work / "go")},
            "checkpoint": {"dir": str(work / "checkpoints")}})
        self.eventually(lambda: len(self.client.attempts(job["id"])) == 2 and
                        self.client.job(job["id"])["state"] == "running", "it asked to be started again")
        self.wait_for_line(job["id"], "resumed: of step 1", attempt=2)
        told = self.eventually(lambda: self.client.job(job["id"])["progress"], "its progress")
        self.assertEqual((told["step"], told["total"], told["metrics"]["loss"]), (2, 4, 0.25))
        (work / "go").write_text("on\n", encoding="utf-8")

        done = self.client.wait(job["id"], timeout=DEADLINE)
        self.assertEqual(done["state"], "succeeded", done)
        self.assertEqual(list(self.client.logs(job["id"], attempt=1)),
                         ["attempt 1 begins after step -1", "step 0", "step 1"])
        self.assertEqual(list(self.client.logs(job["id"])),
                         ["attempt 2 begins after step 1", "step 2", "resumed: of step 1", "step 3"])
        checkpoints = self.client.checkpoints(job["id"])
        self.assertEqual([c["step"] for c in checkpoints], [1])
        self.assertEqual(checkpoints[0]["path"], str(work / "checkpoints/step-1"))
        self.assertEqual(sorted(a["number"] for a in self.client.attempts(job["id"])), [1, 2])

    def test_what_is_wrong_is_said_as_the_server_says_it(self):
        with self.assertRaises(tutti.ServerError) as raised:
            self.client.submit({"name": "x", "run": "true", "nodez": 2})
        self.assertEqual(raised.exception.status, 422)
        job = self.client.submit({"name": "x", "run": "sleep 1000"})
        with contextlib.suppress(tutti.WaitTimeout):
            self.client.wait(job["id"], timeout=0.2)
            self.fail("it does not end by itself")
        self.client.cancel(job["id"])
        self.assertEqual(self.client.wait(job["id"], timeout=DEADLINE)["state"], "cancelled")


if __name__ == "__main__":
    if not (BIN / "tutti-scheduler").exists():
        print(f"no {BIN}/tutti-scheduler: build first")
        sys.exit(77)
    unittest.main()
