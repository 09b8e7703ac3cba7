#!/usr/bin/python3
"""The benchmarks of bench/scale.py, once and small, against real processes: each measures something, and no generator fails.
What they measure here says nothing about speed; no aim is judged.

    TUTTI_BIN=build/dev/bin tests/bench/smoke_test.py

Exit 77: nothing is built, or there is no pgbench.
"""
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("TUTTI_BIN", SOURCE / "build/dev/bin")).resolve()
sys.path.insert(0, str(SOURCE / "bench"))
import rig  # noqa: E402


def run(*names):
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        done = subprocess.run([sys.executable, str(SOURCE / "bench/run.py"), "--bin", str(BIN.parent), "--smoke", "--json", out.name,
                               *names], capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise AssertionError(f"{' '.join(names)}: {done.stdout}\n{done.stderr}")
        return json.loads(Path(out.name).read_text())


class Smoke(unittest.TestCase):
    def values(self, result):
        self.assertTrue(result["rows"])
        for r in result["rows"]:
            self.assertEqual(r["verdict"] != "", r["aim"] != "", r)
        return {r["work"].strip(): r["value"] for r in result["rows"]}

    def test_submissions_are_measured_beside_pgbench_and_multi_row_inserts(self):
        result = run("submit")["submit"]
        self.values(result)
        for key in ("pgbench", "multi_row"):
            self.assertGreater(result["runs"][0][key], 0)
        for key in ("rest", "batch"):
            self.assertGreater(result["runs"][0][key]["acknowledged"], 0)
            self.assertEqual(result["runs"][0][key]["errors"], 0)

    def test_the_writer_runs_whole_lives(self):
        r = run("writer")["writer"]["runs"][0]
        self.assertGreater(r["bare"]["transitions_per_second"], 0)
        self.assertGreater(r["writer"]["jobs_per_second"], 0)
        for key in ("submissions_per_second", "job_transitions_per_second", "attempt_transitions_per_second"):
            self.assertGreater(r["writer"][key], 0)

    def test_orders_to_workers_and_the_first_after_a_restart_are_seen(self):
        results = run("start", "restart")
        start = results["start"]["runs"][0]
        for key in ("submit_to_prepare", "submit_to_launch"):
            self.assertEqual(start[key]["n"], 20)
            self.assertGreater(start[key]["p50_ms"], 0)
        self.assertGreaterEqual(start["submit_to_launch"]["p50_ms"], start["submit_to_prepare"]["p50_ms"])
        self.assertGreaterEqual(results["restart"]["queued"], 2000)
        self.assertGreater(results["restart"]["seconds"][0], 0)

    def test_a_standby_takes_over(self):
        seconds = run("failover")["failover"]["seconds"]
        self.assertEqual(len(seconds), 2)
        self.assertTrue(all(0 < s < 60 for s in seconds), seconds)

    def test_the_fleet_beats_and_survives_a_storm_and_troublemakers(self):
        result = run("fleet")["fleet"]
        self.values(result)
        gangs = result["gangs"]
        for phase in ("calm", "storm", "trouble"):
            self.assertGreater(gangs[phase]["heartbeats"]["n"], 0, phase)
        self.assertGreater(gangs["finished"], 0)
        self.assertEqual(gangs["storm"]["not_back"], 0)
        attacks = gangs["trouble"]["attacks"]
        self.assertEqual(len(attacks), 7, attacks)

    def test_churn_runs_jobs_and_measures_tables(self):
        result = run("churn")["churn"]
        values = self.values(result)
        self.assertGreater(result["reports"][-1]["finished"], 0)
        self.assertEqual(values["submissions refused"], 0)
        self.assertGreater(result["samples"][-1]["tables"]["job_done"]["bytes"], 0)

    def test_what_waits_is_cancelled_and_nobody_else_notices(self):
        result = run("cancel")["cancel"]
        values = self.values(result)
        self.assertEqual(values["  jobs cancelled, of those that waited"], 1)
        self.assertEqual(values["  jobs that run and went on"], 1)
        self.assertGreater(len(result["others"]), 0)


if __name__ == "__main__":
    needed = [BIN / p for p in ("tutti-scheduler", "rest_load", "worker_fleet", "bare_writer", "writer_bench")]
    if not all(p.exists() for p in needed) or rig.pg_tool("pgbench") is None:
        print("not built, or no pgbench")
        sys.exit(77)
    unittest.main(verbosity=2)
