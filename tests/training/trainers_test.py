#!/usr/bin/python3
"""The trainers as a launcher starts them: killed after a checkpoint, stopped by SIGTERM, resumed.

    TUTTI_BIN=build/dev/bin TUTTI_SOURCE=. tests/training/trainers_test.py [Charlm | CharlmNccl | Ddp]

"Equal" is the whole last line, nine digits of the loss: a resumed run must not differ in the last one. Tests wait for
lines of output, never for time; every wait has a deadline. Exit 77: something this test needs is not installed.
"""
import glob
import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

SOURCE = os.environ.get("TUTTI_SOURCE", os.getcwd())
BIN = os.environ.get("TUTTI_BIN", os.path.join(SOURCE, "build/dev/bin"))
DIGITS = os.path.join(SOURCE, ".tutti/cache/digits.csv.gz")
PYTHON = "/usr/bin/python3"
DEADLINE = 60  # seconds, for any one wait
RESTART_ME, CHECKPOINT_REFUSED, NO_DEVICE, PEER_LOST = 85, 65, 69, 76

MPIRUN = (
    "mpirun --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 --mca btl tcp,vader,self"
).split()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


class Run:
    """One or more processes with their output, line by line."""

    def __init__(self, commands, env):
        self.lines, self.queue, self.talking = [], queue.Queue(), len(commands)
        clean = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
        self.processes = [
            subprocess.Popen(
                command,
                env={**clean, "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", **env, **own},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            for command, own in commands
        ]
        self.readers = [threading.Thread(target=self.read, args=(p,), daemon=True) for p in self.processes]
        for reader in self.readers:
            reader.start()

    def read(self, process):
        for line in process.stdout:
            self.queue.put(line.rstrip("\n"))
        self.queue.put(None)

    def take(self, timeout):
        """Moves one line over; a process that ends gives a None, which counts down `talking`."""
        line = self.queue.get(timeout=timeout)
        if line is None:
            self.talking -= 1
        else:
            self.lines.append(line)

    def text(self):
        while not self.queue.empty():
            self.take(0)
        return "\n".join(self.lines)

    def wait_until(self, done, what):
        until = time.monotonic() + DEADLINE
        while not done():
            try:
                if self.talking == 0:
                    raise queue.Empty  # nobody is left who could say it
                self.take(max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {what} in:\n{self.text()}") from None

    def wait_for_line(self, pattern):
        self.wait_until(lambda: any(re.search(pattern, line) for line in self.lines), f"line like {pattern!r}")

    def rank_pids(self):
        """By rank. The ranks' lines reach us in any order, rank 0's first step perhaps before rank 1's introduction."""
        found = {}

        def all_introduced():
            for line in self.lines:
                if match := re.search(r"^rank (\d+)/(\d+) .* pid (\d+) ", line):
                    found[int(match[1])] = int(match[3])
                    found["size"] = int(match[2])
            return len(found) - 1 == found.get("size")

        self.wait_until(all_introduced, "introduction of every rank")
        return [found[rank] for rank in range(found["size"])]

    def signal_ranks(self, number, ranks=None):
        pids = self.rank_pids()
        for pid in pids if ranks is None else [pids[i] for i in ranks]:
            os.kill(pid, number)

    def wait(self):
        """Exit statuses, after all output was read."""
        until = time.monotonic() + DEADLINE
        statuses = [p.wait(max(0.1, until - time.monotonic())) for p in self.processes]
        for reader in self.readers:
            reader.join(DEADLINE)
        return statuses

    def end(self):
        """Whatever the test did, nothing of it stays behind."""
        for process in self.processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait(DEADLINE)
            process.stdout.close()


class TrainerCase(unittest.TestCase):
    """What holds for every trainer. A subclass says how a gang is started and how it ends."""

    ranks = 2
    killed = None  # statuses of the processes started by hand once all ranks were killed
    stopped = None  # … after a planned stop
    refused = None  # … when the checkpoint is refused

    def commands(self, options):
        raise NotImplementedError

    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="tutti-trainers-")
        self.addCleanup(shutil.rmtree, self.dir)

    def start(self, name, options=(), resume="", checkpoints=True):
        env = {
            "TUTTI_EPOCH": "4",
            "RESUME_CHECKPOINT": resume,
            "TUTTI_PROGRESS_FILE": os.path.join(self.dir, "progress.%r"),
            "CHECKPOINT_DIR": os.path.join(self.dir, name) if checkpoints else "",
        }
        run = Run(self.commands(["--steps", "60", "--checkpoint-every", "10", *options]), env)
        self.addCleanup(run.end)
        return run

    def latest(self, name):
        complete = glob.glob(os.path.join(self.dir, name, "step-*", "COMPLETE.json"))
        self.assertTrue(complete, "no complete checkpoint")
        return max((os.path.dirname(path) for path in complete), key=lambda d: int(d.rsplit("-", 1)[1]))

    def final_line(self, run):
        self.assertEqual(set(run.wait()), {0}, run.text())
        lines = [line for line in run.text().splitlines() if "final loss" in line]
        self.assertEqual(len(lines), 1, run.text())
        self.assertRegex(lines[0], r"final loss \d\.\d{9}")
        return lines[0]

    def uninterrupted(self):
        return self.final_line(self.start("whole", checkpoints=False))

    def test_killed_and_resumed_ends_in_the_same_loss(self):
        self.ranks = 4  # with two, a + b = b + a hides a reduction whose order changes
        run = self.start("run", ["--step-ms", "25"])
        run.wait_for_line("checkpoint step-20 complete")
        run.signal_ranks(signal.SIGKILL)
        self.assertIn(run.wait()[0], self.killed, run.text())
        self.assertNotIn("final loss", run.text())

        step_dir = self.latest("run")
        with open(os.path.join(step_dir, "COMPLETE.json"), encoding="utf-8") as text:
            complete = json.load(text)
        self.assertEqual(set(complete), {"step", "time", "shards", "bytes", "epoch"})
        self.assertEqual((complete["step"], complete["epoch"]), (int(step_dir.rsplit("-", 1)[1]), 4))

        resumed = self.start("run", resume=step_dir)
        self.assertEqual(self.final_line(resumed), self.uninterrupted())
        self.assertIn(f"at step {complete['step']}", resumed.text())

    def test_planned_stop_ends_the_pause_and_resumes_to_the_same_loss(self):
        # Long pacing: the stop must end the pause, or 60 steps of 5 s would outlast the deadline.
        run = self.start("run", ["--step-ms", "5000", "--checkpoint-every", "0", "--log-every", "1"])
        run.wait_for_line("^step 1/60")
        run.signal_ranks(signal.SIGTERM)
        self.assertEqual(set(run.wait()), self.stopped, run.text())
        self.assertRegex(run.text(), r"planned stop after step \d+, exit 85")
        resumed = self.start("run", resume=self.latest("run"))
        self.assertEqual(self.final_line(resumed), self.uninterrupted())

    def test_ranks_agree_on_the_step_when_only_one_is_signalled(self):
        run = self.start("run", ["--step-ms", "25", "--checkpoint-every", "0", "--log-every", "1"])
        run.wait_for_line("^step 3/60")
        run.signal_ranks(signal.SIGTERM, ranks=[1])
        self.assertEqual(set(run.wait()), self.stopped, run.text())
        self.latest("run")

    def test_without_a_checkpoint_directory_sigterm_just_ends_it(self):
        run = self.start("run", ["--step-ms", "25", "--log-every", "1"], checkpoints=False)
        run.wait_for_line("^step 1/60")
        run.signal_ranks(signal.SIGTERM)
        self.assertNotIn(run.wait()[0], (0, RESTART_ME))

    def test_corrupt_checkpoint_is_refused(self):
        first = self.start("run", ["--steps", "10"])
        self.final_line(first)
        step_dir = self.latest("run")
        shard = sorted(glob.glob(os.path.join(step_dir, "shard-*")))[-1]
        with open(shard, "r+b") as raw:
            raw.seek(os.path.getsize(shard) // 2)
            byte = raw.read(1)
            raw.seek(-1, os.SEEK_CUR)
            raw.write(bytes([byte[0] ^ 1]))
        run = self.start("run", resume=step_dir)
        self.assertEqual(set(run.wait()), self.refused, run.text())
        self.assertIn("checkpoint refused", run.text())
        self.assertIn("checksum", run.text())

    def test_every_rank_reports_its_progress(self):
        self.uninterrupted()
        for rank in (0, 1):
            with open(os.path.join(self.dir, f"progress.{rank}"), encoding="utf-8") as text:
                report = json.load(text)
            self.assertEqual((report["step"], report["total"]), (60, 60))
            self.assertGreater(report["compute_s"], 0)
            self.assertGreater(report["metrics"]["loss"], 0)


class Charlm(TrainerCase):
    killed, stopped, refused = {137}, {RESTART_ME}, {CHECKPOINT_REFUSED}

    def commands(self, options):
        return [([*MPIRUN, "-np", str(self.ranks), os.path.join(BIN, "charlm"), *options], {})]

    def test_loss_falls_and_depends_on_nothing_but_seed_and_size(self):
        self.ranks = 4
        first = self.start("one", ["--steps", "50", "--log-every", "50"], checkpoints=False)
        line = self.final_line(first)
        self.assertLess(float(line.split()[2]), 3.3)  # ln 86 = 4.45 at the start
        self.assertEqual(line, self.final_line(self.start("two", ["--steps", "50"], checkpoints=False)))

    def test_started_without_mpirun_in_a_gang_says_so(self):
        run = Run([([os.path.join(BIN, "charlm"), "--solo"], {"WORLD_SIZE": "2"})], {})
        self.addCleanup(run.end)
        self.assertEqual(run.wait(), [64], run.text())
        self.assertIn("mpirun", run.text())


class CharlmNccl(unittest.TestCase):
    def test_without_a_driver_it_says_so_with_its_own_status(self):
        if glob.glob("/dev/nvidia[0-9]*"):
            self.skipTest("there is a GPU here")
        run = Run([([os.path.join(BIN, "charlm-nccl"), "--steps", "1"], {})], {})
        self.addCleanup(run.end)
        self.assertEqual(run.wait(), [NO_DEVICE], run.text())
        self.assertRegex(run.text(), "no usable CUDA driver|shows no device")


def ddp(options):
    return [PYTHON, os.path.join(SOURCE, "training/ddp.py"), "--data", DIGITS, *options]


class Ddp(TrainerCase):
    killed, stopped, refused = {-signal.SIGKILL}, {RESTART_ME}, {CHECKPOINT_REFUSED}

    def commands(self, options):
        meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "WORLD_SIZE": str(self.ranks)}
        return [(ddp(options), {**meet, "RANK": str(rank), "LOCAL_RANK": str(rank)}) for rank in range(self.ranks)]

    def test_a_lost_peer_ends_the_other_rank(self):
        run = self.start("run", ["--step-ms", "25", "--log-every", "1"])
        run.wait_for_line("^step 2/60")
        self.assertEqual(len(run.rank_pids()), 2)
        run.processes[1].kill()
        self.assertEqual(run.wait(), [PEER_LOST, -signal.SIGKILL], run.text())


class DdpUnderTorchrun(Ddp):
    killed = {137}

    def commands(self, options):
        launcher = [PYTHON, os.path.join(SOURCE, "training/torchrun"), "--nproc_per_node", str(self.ranks)]
        meet = ["--master_addr", "127.0.0.1", "--master_port", free_port()]
        return [([*launcher, *meet, *ddp(options)[1:]], {"OMP_NUM_THREADS": "1"})]

    # torchrun looks at its ranks once a second and takes three to come up: only what differs from plain variables.
    test_ranks_agree_on_the_step_when_only_one_is_signalled = None
    test_without_a_checkpoint_directory_sigterm_just_ends_it = None
    test_every_rank_reports_its_progress = None
    test_a_lost_peer_ends_the_other_rank = None
    test_killed_and_resumed_ends_in_the_same_loss = None

    def test_planned_stop_may_reach_the_launcher_too(self):
        run = self.start("run", ["--step-ms", "25", "--checkpoint-every", "0", "--log-every", "1"])
        run.wait_for_line("^step 2/60")
        os.killpg(run.processes[0].pid, signal.SIGTERM)
        self.assertEqual(run.wait(), [RESTART_ME], run.text())
        self.latest("run")


def missing_for(name):
    if name == "Charlm" and not shutil.which("mpirun"):
        return "no mpirun (openmpi-bin)"
    if name == "Ddp":
        if subprocess.run([PYTHON, "-c", "import torch"], stderr=subprocess.DEVNULL, check=False).returncode:
            return "no PyTorch (python3-torch)"
        fetch = os.path.join(SOURCE, "training/fetch-digits")
        if subprocess.run([fetch, DIGITS], stdout=subprocess.DEVNULL, check=False).returncode:
            return "the digits cannot be fetched"
    return None


def main():
    suites = {"Charlm": [Charlm], "CharlmNccl": [CharlmNccl], "Ddp": [Ddp, DdpUnderTorchrun]}
    chosen = sys.argv[1:] or list(suites)
    for name in chosen:
        reason = missing_for(name)
        if reason:
            print(f"skipped: {name}: {reason}")
            return 77
    loader = unittest.TestLoader()
    cases = [loader.loadTestsFromTestCase(case) for name in chosen for case in suites[name]]
    return 0 if unittest.TextTestRunner(verbosity=2).run(unittest.TestSuite(cases)).wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
