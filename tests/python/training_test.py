"""tutti.training without a worker: what it writes, and that it does nothing where there is nothing to do."""
import json
import os
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "api" / "python"))

from tutti import TuttiError, training  # noqa: E402


class TrainingTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dir = Path(folder.name)

    def run_in_job(self, **more):
        return training.Run({"TUTTI_JOB_ID": "7", "TUTTI_EPOCH": "3", "TUTTI_ATTEMPT": "2", "RANK": "1",
                             "CHECKPOINT_DIR": str(self.dir), "TUTTI_PROGRESS_FILE": str(self.dir / "progress.json"),
                             "TUTTI_STOP_FILE": str(self.dir / "stop"),
                             "TUTTI_STOP_DEADLINE_FILE": str(self.dir / "deadline"), **more})

    def test_outside_a_job_it_does_nothing(self):
        run = training.Run({"CHECKPOINT_DIR": str(self.dir)})
        run.progress(1, total=10, loss=0.5)
        self.assertFalse(run.managed)
        self.assertFalse(run.should_stop)
        self.assertIsNone(run.stop_deadline)
        self.assertIsNone(run.resume_checkpoint)
        self.assertEqual(run.resume_step, -1)
        self.assertEqual(list(self.dir.iterdir()), [])

    def test_a_checkpoint_outside_a_job_is_found_again(self):
        run = training.Run({"CHECKPOINT_DIR": str(self.dir)})
        for step in (9, 10):
            with run.checkpoint(step) as folder:
                (folder / "model.bin").write_bytes(b"x" * step)
        (self.dir / "step-11").mkdir()  # never finished
        self.assertEqual(run.resume_checkpoint, self.dir / "step-10")
        self.assertEqual(run.resume_step, 10)
        said = json.loads((self.dir / "step-10" / "COMPLETE.json").read_text())
        self.assertEqual((said["step"], said["shards"], said["bytes"]), (10, 1, 10))

    def test_a_checkpoint_that_fails_is_none(self):
        run = self.run_in_job()
        with self.assertRaises(ZeroDivisionError):
            with run.checkpoint(5) as folder:
                (folder / "half").write_bytes(b"x")
                1 // 0
        with self.assertRaises(TuttiError):
            with run.checkpoint(6):
                pass  # nothing written
        self.assertEqual(list(self.dir.glob("*/COMPLETE.json")), [])

    def test_shards_of_many_ranks_are_counted(self):
        first, second = self.run_in_job(RANK="0"), self.run_in_job(RANK="1")
        folder = first.begin(4)
        for rank, run in enumerate((first, second)):
            (folder / f"rank-{rank}").write_bytes(b"abc")
        first.shard(4, "rank-0")
        with self.assertRaises(TuttiError):
            first.commit(4, shards=2)
        second.shard(4, "rank-1")
        first.commit(4, shards=2)
        said = json.loads((folder / "COMPLETE.json").read_text())
        self.assertEqual((said["shards"], said["bytes"], said["epoch"]), (2, 6, 3))

    def test_a_file_that_changed_after_it_was_announced_is_no_part(self):
        run = self.run_in_job()
        folder = run.begin(4)
        (folder / "a").write_bytes(b"abc")
        run.shard(4, "a")
        (folder / "a").write_bytes(b"abcd")
        with self.assertRaises(TuttiError):
            run.commit(4)

    def test_the_tool_is_used_where_there_is_one(self):
        tool = self.dir / "tool"
        tool.write_text(f'#!/bin/sh\necho "$@" >> {self.dir}/calls\n[ "$1" = begin ] && mkdir -p {self.dir}/step-3 '
                        f'&& echo {self.dir}/step-3\n[ "$2" != 66 ]\n')
        tool.chmod(0o755)
        run = self.run_in_job(TUTTI_CHECKPOINT_TOOL=str(tool))
        with run.checkpoint(3) as folder:
            (folder / "model.bin").write_bytes(b"x")
        self.assertEqual((self.dir / "calls").read_text().splitlines(), ["begin 3", "shard 3 model.bin", "commit 3"])
        with self.assertRaises(TuttiError):
            run.begin(66)

    def test_progress_is_written_whole_and_not_too_often(self):
        run = self.run_in_job()
        run.progress(1, total=10, loss=0.5, compute_s=0.2)
        self.assertEqual(json.loads((self.dir / "progress.json").read_text()),
                         {"step": 1, "total": 10, "compute_s": 0.2, "metrics": {"loss": 0.5}})
        run.progress(2, total=10)
        self.assertEqual(json.loads((self.dir / "progress.json").read_text())["step"], 1)
        run.progress(10, total=10)  # the last one always
        self.assertEqual(json.loads((self.dir / "progress.json").read_text())["step"], 10)
        self.assertEqual(sorted(p.name for p in self.dir.iterdir()), ["progress.json"])

    def test_trouble_with_the_progress_file_does_not_end_the_training(self):
        self.run_in_job(TUTTI_PROGRESS_FILE="/nowhere/progress.json").progress(1)

    def test_a_stop_is_seen_with_its_deadline(self):
        run = self.run_in_job()
        self.assertFalse(run.should_stop)
        (self.dir / "deadline").write_text(str(int(time.time()) + 30))
        (self.dir / "stop").touch()
        self.assertTrue(run.should_stop)
        self.assertGreater(run.stop_deadline, time.time())
        with self.assertRaises(SystemExit) as ended:
            run.exit_for_restart()
        self.assertEqual(ended.exception.code, 85)

    def test_it_resumes_where_it_is_told(self):
        run = self.run_in_job(RESUME_CHECKPOINT=str(self.dir / "step-40"))
        self.assertEqual(run.resume_step, 40)
        self.assertIsNone(self.run_in_job(RESUME_CHECKPOINT="").resume_checkpoint)

    def test_a_number_that_is_none_is_named(self):
        with self.assertRaisesRegex(TuttiError, "RANK"):
            _ = training.Run({"RANK": "first"}).rank


if __name__ == "__main__":
    unittest.main()
