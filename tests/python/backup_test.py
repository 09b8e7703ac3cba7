#!/usr/bin/python3
"""`tutti backup` and `tutti restore` of a cluster that works: the queue is as it was, history is there, no id comes again, and
nothing runs twice.

    TUTTI_BIN=build/dev/bin tests/python/backup_test.py

`tutti up` with one worker, in folders of its own. Exit 77: nothing is built.
"""
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
DEADLINE = 120  # seconds, for any one thing
sys.path.insert(0, str(SOURCE / "api" / "python"))

import tutti  # noqa: E402

# Holds a lock while it runs: a second one beside it says so. Ends when it is let go.
RANK = """
exec 9>"$WORK/$1.lock"
flock -n 9 || { echo "$1" >> "$WORK/twice"; exit 7; }
echo "$TUTTI_ATTEMPT" >> "$WORK/$1.begun"
until [ -e "$WORK/$1.go" ]; do sleep 0.05; done
"""


def environment():
    return {k: v for k, v in os.environ.items() if not k.startswith("TUTTI_")}


class Folder:
    """Of a cluster, and `tutti up` in it."""

    def __init__(self, work):
        self.path = Path(tempfile.mkdtemp(prefix="tutti-backup-", dir="/tmp"))
        self.path.chmod(0o755)  # jobs run as another user
        self.data = self.path / "data"
        self.work = work
        self.process = None
        self.log = None

    def up(self):
        self.close_log()
        self.log = open(self.path / "up.log", "a+", encoding="utf-8")
        ready, told = os.pipe()
        self.process = subprocess.Popen(
            [BIN / "tutti", "up", "--data", self.data, "--port", "0", "--workers", "1", "--gpus", "2",
             "--start-timeout", str(DEADLINE), "--once-ready-fd", str(told)],
            env={**environment(), "HOME": str(self.work)}, stdout=self.log, stderr=subprocess.STDOUT,
            pass_fds=[told], start_new_session=True)
        os.close(told)
        try:
            if not select.select([ready], [], [], DEADLINE)[0] or not os.read(ready, 200):
                self.log.seek(0)
                raise AssertionError("the cluster does not start:\n" + self.log.read())
        finally:
            os.close(ready)
        context = json.loads((self.data / "context.json").read_text(encoding="utf-8"))
        self.client = tutti.Client(context["server"], context["token"])

    def stop(self):
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def kill(self):
        """As if `tutti up` had crashed: scheduler, database and workers end, ranks run on under their supervisors."""
        self.process.kill()
        self.process.wait()
        until = time.monotonic() + DEADLINE
        while (self.data / "postgres/data/postmaster.pid").exists():
            assert time.monotonic() < until, "its database does not end"
            time.sleep(0.05)

    def close_log(self):
        if self.log is not None:
            self.log.close()

    def remove(self):
        self.stop()
        self.close_log()
        shutil.rmtree(self.path, ignore_errors=True)


def run(*words, status=0):
    """A verb of tutti that needs no server; what it printed."""
    done = subprocess.run([BIN / "tutti", *map(str, words)], env=environment(), capture_output=True, text=True,
                          timeout=DEADLINE, check=False)
    if done.returncode != status:
        raise AssertionError(f"{words} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout + done.stderr


class BackupTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = Path(tempfile.mkdtemp(prefix="tutti-backups-", dir="/tmp"))
        cls.base.chmod(0o755)
        cls.work = cls.base / "work"
        cls.work.mkdir()
        cls.work.chmod(0o777)
        (cls.work / "rank.sh").write_text(RANK, encoding="utf-8")
        cls.first = Folder(cls.work)
        try:
            cls.first.up()
            cls.make_history()
        except BaseException:
            cls.tearDownClass()
            raise

    @classmethod
    def tearDownClass(cls):
        for name in ("done", "runs", "waits", "later"):
            (cls.work / f"{name}.go").touch()
        cls.first.remove()
        shutil.rmtree(cls.base, ignore_errors=True)

    @classmethod
    def submit(cls, client, name, gpus):
        return client.submit({"name": name, "run": f"sh {cls.work}/rank.sh {name}", "launcher": "direct", "workdir": "/",
                              "resources": {"gpus": gpus}, "procs_per_node": 1, "env": {"WORK": str(cls.work)}})["id"]

    @classmethod
    def eventually(cls, ask, what):
        until = time.monotonic() + DEADLINE
        while not (answer := ask()):
            if time.monotonic() > until:
                raise AssertionError(what)
            time.sleep(0.05)
        return answer

    @classmethod
    def begun(cls, name):
        file = cls.work / f"{name}.begun"
        return len(file.read_text(encoding="utf-8").split()) if file.exists() else 0

    # At the backup one job has ended, one runs, one waits. Afterwards the one that ran ends, the one that waited runs, and
    # another one is submitted.
    @classmethod
    def make_history(cls):
        client = cls.first.client
        (cls.work / "done.go").touch()
        cls.done = cls.submit(client, "done", 1)
        assert client.wait(cls.done, timeout=DEADLINE)["state"] == "succeeded"
        cls.runs = cls.submit(client, "runs", 2)
        cls.eventually(lambda: cls.begun("runs") == 1 and client.job(cls.runs)["state"] == "running", "it runs")
        cls.waits = cls.submit(client, "waits", 2)
        cls.backup = cls.base / "whole"
        cls.said = run("backup", cls.backup, "--data", cls.first.data, "--with-secrets")
        (cls.work / "runs.go").touch()
        assert client.wait(cls.runs, timeout=DEADLINE)["state"] == "succeeded"
        cls.eventually(lambda: cls.begun("waits") == 1, "the one that waited begins")
        cls.later = cls.submit(client, "later", 2)

    def copy(self, name):
        copy = self.base / name
        shutil.copytree(self.backup, copy)
        return copy

    def test_1_a_backup_says_what_it_holds_and_is_whole(self):
        self.assertIn("2 unfinished jobs (1 of them run), 1 finished", self.said)
        said = run("backup", "--verify", self.backup)
        self.assertIn("all parts are as the manifest says", said)
        self.assertIn("checkpoints", said)
        manifest = json.loads((self.backup / "manifest.json").read_text(encoding="utf-8"))
        self.assertEqual([p["name"] for p in manifest["parts"]], ["database.dump", "secret", "token"])
        self.assertEqual((self.backup / "secret").stat().st_mode & 0o777, 0o600)
        self.assertEqual(sorted(p.name for p in self.base.iterdir() if "partial" in p.name), [])

    def test_1_nothing_is_replaced(self):
        self.assertIn("is there already", run("backup", self.backup, "--data", self.first.data, status=2))

    def test_1_without_secrets_they_are_named_as_missing(self):
        said = run("backup", self.base / "bare", "--data", self.first.data)
        self.assertIn("not in it  the files secret and token", said)
        self.assertFalse((self.base / "bare/secret").exists())

    def test_1_a_database_by_its_connection_string(self):
        where = f"host={self.first.data}/postgres user=postgres dbname=tutti"
        run("backup", self.base / "by-db", "--db", where)
        said = run("restore", self.base / "by-db", "--db", where, "--replace", status=4)
        self.assertIn("a scheduler leads on this database", said)
        self.assertIn("stop all schedulers first", said)

    def test_1_a_scheduler_that_runs_is_not_restored_under(self):
        self.assertIn("a scheduler runs in", run("restore", self.backup, "--data", self.first.data, status=4))

    def test_1_what_is_cut_off_is_refused(self):
        cut = self.copy("cut")
        os.truncate(cut / "database.dump", (cut / "database.dump").stat().st_size // 2)
        for words in (("backup", "--verify", cut), ("restore", cut, "--data", self.base / "never")):
            self.assertIn("its manifest says", run(*words, status=1))
        self.assertFalse((self.base / "never").exists())

    def test_1_what_is_changed_is_refused(self):
        changed = self.copy("changed")
        with open(changed / "database.dump", "r+b") as dump:
            dump.seek(1000)
            byte = dump.read(1)
            dump.seek(1000)
            dump.write(bytes([byte[0] ^ 1]))
        self.assertIn("is damaged: its SHA-256", run("restore", changed, "--data", self.base / "never", status=1))

    def test_1_a_newer_schema_is_refused(self):
        newer = self.copy("newer")
        manifest = json.loads((newer / "manifest.json").read_text(encoding="utf-8"))
        manifest.update(schema_version=9999, tutti_version="99.0")
        (newer / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        said = run("restore", newer, "--data", self.base / "never", status=2)
        self.assertIn("schema version 9999 (tutti 99.0)", said)
        self.assertIn("restore it with the tutti that made it, or a newer one", said)

    def test_1_what_is_no_backup_is_said_to_be_none(self):
        self.assertIn("is no backup", run("restore", self.work, "--data", self.base / "never", status=3))

    def test_1_a_full_disk_leaves_nothing(self):
        full = self.base / "full"
        full.mkdir()
        if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", full],
                                               check=False).returncode != 0:
            self.skipTest("needs a small file system, so root")
        try:
            self.assertIn("No space left", run("backup", full / "b", "--data", self.first.data, status=1))
            self.assertEqual(list(full.iterdir()), [])
        finally:
            subprocess.run(["umount", full], check=True)

    def test_2_in_a_fresh_place_the_queue_is_as_it_was(self):
        second = Folder(self.work)
        try:
            said = run("restore", self.backup, "--data", second.data, "--check")
            self.assertIn("nothing was changed", said)
            self.assertFalse(second.data.exists())
            self.assertIn("1 attempts are over", said)
            said = run("restore", self.backup, "--data", second.data, "--quiet-minutes", "5")
            self.assertIn("2 unfinished jobs, of which 1 ran at the backup", said)
            self.assertIn("the database is not empty", run("restore", self.backup, "--data", second.data, status=4))
            second.up()
            client = second.client
            self.assertEqual(client.job(self.done)["state"], "succeeded")
            self.assertTrue(any(e["to"] == "succeeded" for e in self.events(client, self.done)))
            self.assertEqual({j["id"]: j["state"] for j in client.jobs()}[self.waits], "queued")
            self.assertEqual(client.job(self.runs)["state"], "queued")
            with self.assertRaises(tutti.ServerError) as gone:
                client.job(self.later)
            self.assertEqual(gone.exception.status, 404)
            attempts = client.attempts(self.runs)
            self.assertEqual([(a["number"], a["cause"]) for a in attempts], [(1, "control")])
            # Old work might still run somewhere: nothing begins.
            self.assertIn("restored", json.dumps(client.explain(self.waits)))
            new = self.submit(client, "later", 2)
            self.assertGreater(new, 1_000_000)
            client.cancel(new)
        finally:
            second.remove()

    def events(self, client, job):
        out = []
        for event in client.events(job, deadline=time.monotonic() + DEADLINE):
            out.append(event)
            if event.get("kind") == "state" and event.get("to") == "succeeded":
                break
        return out

    # The ranks of `waits` run on while the database is set back to when it had not begun yet.
    def test_3_what_still_runs_is_ended_before_it_begins_again(self):
        self.first.kill()
        self.assertEqual(self.begun("waits"), 1)
        said = run("restore", self.backup, "--data", self.first.data, "--replace")
        self.assertIn("in the place of what is there", said)
        self.first.up()
        client = self.first.client
        self.assertEqual(client.job(self.waits)["state"], "queued")
        # The worker is connected and has told what it has: nobody else can have anything.
        subprocess.run([BIN / "tutti", "unset", "reservation", "restored"], check=True, timeout=DEADLINE,
                       stdout=subprocess.DEVNULL, env={**environment(), "TUTTI_CONTEXT": str(self.first.data / "context.json")})
        self.assertEqual(client.wait(self.runs, timeout=DEADLINE)["state"], "succeeded")
        self.assertEqual([a["number"] for a in client.attempts(self.runs)], [1, 2])
        (self.work / "waits.go").touch()
        self.assertEqual(client.wait(self.waits, timeout=DEADLINE)["state"], "succeeded")
        self.assertEqual(self.begun("waits"), 2)
        self.assertFalse((self.work / "twice").exists(), "two attempts of one job at one time")
        newest = self.submit(client, "done", 1)
        self.assertGreater(newest, 1_000_000)
        self.assertEqual(client.wait(newest, timeout=DEADLINE)["state"], "succeeded")


if __name__ == "__main__":
    if not (BIN / "tutti-scheduler").exists():
        print(f"no {BIN}/tutti-scheduler: build first")
        sys.exit(77)
    unittest.main()
