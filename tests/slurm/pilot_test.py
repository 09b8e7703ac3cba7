#!/usr/bin/python3
"""What the pilot decides from nodes and reservations as the scheduler shows them, and its script with stand-ins for the programs
that it calls. No Slurm, no scheduler: slurm_test.py has them. The program is the one in deploy/slurm/tutti-pilot.sbatch."""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest

PILOT = pathlib.Path(__file__).resolve().parent.parent.parent / "deploy" / "slurm" / "tutti-pilot.sbatch"
PROGRAM = re.search(r"^DECIDE=\$\(cat <<'PY'\n(.*?)^PY$", PILOT.read_text(), re.MULTILINE | re.DOTALL).group(1)
BEGIN, END = "2026-10-01T10:00:00.000000Z", "2026-10-01T12:00:00.000000Z"
BEGIN_S, END_S = 1790848800, 1790856000
JOINS = "joined_cordoned: Slurm job 7 has yet to reserve it"


def node(name, service="schedulable", reason="", linked=True, jobs=(), gpus=()):
    return {"name": name, "service": service, "service_reason": reason, "linked": linked, "jobs": list(jobs),
            "gpus": [{"index": i, "health_reason": why} for i, why in enumerate(gpus)]}


def reservation(name, nodes, begin=BEGIN, end=END):
    return {"name": name, "nodes": list(nodes), "from": begin, "until": end}


def decide(question, nodes, reservations=(), fitting="yes"):
    known = json.dumps({"nodes": nodes}, indent=2) + "\n" + json.dumps({"reservations": list(reservations)})
    done = subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM, question, "7", fitting, str(BEGIN_S), str(END_S), "a", "b"],
                          input=known, capture_output=True, text=True, timeout=60, check=True)
    return [line for line in done.stdout.splitlines() if line]


class Enter(unittest.TestCase):
    def test_a_node_is_opened_once_it_is_reserved(self):
        nodes = [node("a", "cordoned", JOINS), node("b", "retired", "Slurm job 3 has ended"), node("other", "cordoned", JOINS)]
        self.assertEqual(decide("enter", nodes), ["reserve a,b", "linked 2"])
        self.assertEqual(decide("enter", nodes, [reservation("slurm-7", "ab")]), ["open a", "resume b", "linked 2"])

    def test_whoever_is_there_is_reserved_and_the_others_when_they_come(self):
        first = node("a", "cordoned", JOINS)
        self.assertEqual(decide("enter", [first]), ["reserve a", "linked 1"])
        late = node("b", "cordoned", JOINS)
        self.assertEqual(decide("enter", [node("a"), late], [reservation("slurm-7", "a")]), ["reserve a,b", "linked 2"])

    def test_another_end_is_reserved_anew_and_until_then_nothing_is_opened(self):
        nodes = [node("a", "cordoned", JOINS)]
        self.assertEqual(decide("enter", nodes, [reservation("slurm-7", "a", "2026-10-01T09:00:00Z")]), ["reserve a", "linked 1"])

    def test_a_node_that_is_not_there_stays_closed(self):
        nodes = [node("a", "retired", "Slurm job 3 has ended", linked=False)]
        self.assertEqual(decide("enter", nodes, [reservation("slurm-7", "a")]), ["linked 0"])

    def test_only_what_a_pilot_has_closed_is_opened(self):
        for service, reason in (("quarantined", "at fault three times in a week"), ("cordoned", "nvswitch_fatal: Slurm job 3 has ended"),
                                ("retired", "sold"), ("draining", "Slurm job 3 ends soon"), ("retired", "Slurm job 3 has ended; a person decides about GPU 1"),
                                ("cordoned", "Slurm job 3 has ended"), ("draining", "Slurm job 3 has ended"), ("draining", "Slurm job 7 has it")):
            self.assertEqual(decide("enter", [node("a", service, reason)], [reservation("slurm-7", "a")]), ["linked 1"], reason)

    def test_one_that_was_being_left_when_the_pilot_was_killed_is_opened(self):
        nodes = [node("a", "draining", "Slurm job 3 ends")]
        self.assertEqual(decide("enter", nodes, [reservation("slurm-7", "a")]), ["open a", "linked 1"])

    def test_reservations_of_pilots_that_were_killed_go(self):
        left = [reservation("slurm-3", ["a", "c"]), reservation("slurm-4", ["c"]), reservation("slurm-of-mine", ["b"], "2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z")]
        self.assertEqual(decide("enter", [node("a"), node("b")], left), ["unset slurm-3", "reserve a,b", "linked 2"])
        self.assertEqual(decide("enter", [node("a")], left[:1], fitting="no"), ["unset slurm-3", "linked 1"])

    def test_a_persons_reservation_of_that_time_stands_and_ours_leaves_its_nodes_out(self):
        theirs = reservation("fans", "a", "2026-10-01T11:00:00Z", "2026-10-03T00:00:00Z")
        nodes = [node("a", "cordoned", JOINS), node("b", "cordoned", JOINS)]
        said = decide("enter", nodes, [theirs])
        self.assertIn("reserve b", said)
        self.assertIn("open a", said)
        self.assertNotIn("open b", said)
        self.assertTrue(said[0].startswith("note a is in reservation fans"), said)

    def test_with_any_job_nothing_is_reserved(self):
        nodes = [node("a", "retired", "Slurm job 3 has ended"), node("b", "cordoned", JOINS)]
        self.assertEqual(decide("enter", nodes, fitting="no"), ["resume a", "open b", "linked 2"])


class Leave(unittest.TestCase):
    NODES = [node("a"), node("b", "probation", "board changed")]

    def test_what_takes_work_is_drained_and_retired(self):
        self.assertEqual(decide("drain", self.NODES), ["drain a", "drain b"])
        self.assertEqual(decide("retire", self.NODES), ["retire a Slurm job 7 has ended", "retire b Slurm job 7 has ended"])
        drained = [node("a", "draining", "Slurm job 7 ends"), node("b", "draining", "Slurm job 7 has it")]
        self.assertEqual(decide("retire", drained), ["retire a Slurm job 7 has ended", "retire b Slurm job 7 has ended"])

    def test_one_that_has_joined_and_was_never_opened_is_retired(self):
        self.assertEqual(decide("retire", [node("a", "cordoned", JOINS)]), ["retire a Slurm job 7 has ended"])

    def test_what_a_person_or_a_fault_has_closed_stays_as_it_is(self):
        nodes = [node("a", "quarantined", "falls off the bus"), node("b", "draining", "new cable")]
        self.assertEqual(decide("drain", nodes), [])
        self.assertEqual(decide("retire", nodes), ["note a stays quarantined: falls off the bus", "note b stays draining: new cable"])

    def test_a_node_with_a_gpu_that_waits_for_a_person_is_not_opened_by_the_next_pilot(self):
        closed = decide("retire", [node("a", gpus=["", "at fault twice within a day; a person decides"])])
        self.assertEqual(closed, ["retire a Slurm job 7 has ended; a person decides about GPU 1"])
        again = node("a", "retired", closed[0].split(" ", 2)[2])
        self.assertEqual(decide("enter", [again], [reservation("slurm-7", "a")]), ["linked 1"])

    def test_jobs_of_our_nodes_alone(self):
        nodes = [node("a", jobs=[12, 3]), node("b", "draining", "new cable", jobs=[12]), node("other", jobs=[9])]
        self.assertEqual(decide("jobs", nodes), ["3 12"])


# Slurm and Tutti as far as the script asks them. In the folder: `end`, Unix seconds; `srun.pid`, once it runs; `told`, what was
# asked of Tutti. A step there never is: it waits for its nodes.
STAND_INS = {
    "scontrol": "echo a; echo b",
    "squeue": """case ${SLURM_TIME_FORMAT:-standard} in
  standard) date -d "@$(cat "$HERE/end")" +%FT%T ;;
  *) echo "Tomorr 12:00" ;;
esac""",
    "srun": """echo $$ > "$HERE/srun.new"; mv "$HERE/srun.new" "$HERE/srun.pid"
exec sleep 300""",
    "scancel": "exit 1",
    "tutti": """shift 4  # --token-file FILE --retry-for SECONDS
echo "$*" >> "$HERE/told"
case "$*" in
  "nodes -o json") echo '{"nodes": []}' ;;
  "reservations -o json") echo '{"reservations": []}' ;;
esac""",
}


class Script(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="tutti-pilot-")
        self.addCleanup(folder.cleanup)
        self.here = pathlib.Path(folder.name)
        for name, text in STAND_INS.items():
            (self.here / name).write_text("#!/bin/bash\n" + text + "\n")
            (self.here / name).chmod(0o755)
        (self.here / "token").write_text("x\n")
        self.environment = {"PATH": f"{self.here}:/usr/bin:/bin", "HERE": str(self.here), "SLURM_JOB_ID": "7", "SLURM_NNODES": "2",
                            "SLURM_JOB_NODELIST": "[a-b]", "TUTTI_SERVER": "http://127.0.0.1:1",
                            "TUTTI_TOKEN_FILE": str(self.here / "token"), "TUTTI_JOIN_TOKEN_FILE": str(self.here / "token")}

    def end_as_asked(self, end, **environment):
        (self.here / "end").write_text(str(end))
        function = re.search(r"^ask_end\(\) \{\n.*?^\}$", PILOT.read_text(), re.MULTILINE | re.DOTALL).group()
        done = subprocess.run(["bash", "-c", function + "\nSTART=0; ask_end && echo $END"], env={**self.environment, **environment},
                              capture_output=True, text=True, timeout=60, check=True)
        return int(done.stdout)

    def test_the_end_is_right_in_the_hour_that_is_there_twice(self):
        for end in 1792888200, 1792891800:  # 2026-10-25: 02:30 in summer time, and again an hour later
            self.assertEqual(self.end_as_asked(end, TZ="CET-1CEST,M3.5.0,M10.5.0/3"), end)

    def test_the_end_is_read_whatever_format_the_user_likes(self):
        self.assertEqual(self.end_as_asked(1792888200, SLURM_TIME_FORMAT="relative"), 1792888200)

    def test_told_to_leave_before_there_is_a_step_it_leaves(self):
        (self.here / "end").write_text(str(int(time.time()) + 86400))
        pilot = subprocess.Popen(["bash", str(PILOT)], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                 start_new_session=True)
        try:
            until = time.monotonic() + 60
            while not (self.here / "srun.pid").exists():
                self.assertLess(time.monotonic(), until)
                time.sleep(0.02)
            pilot.terminate()
            said, _ = pilot.communicate(timeout=60)
        finally:
            if pilot.poll() is None:
                os.killpg(pilot.pid, signal.SIGKILL)
                pilot.communicate()
        self.assertEqual(pilot.returncode, 0, said)
        self.assertIn("left a,b", said)
        self.assertRaises(ProcessLookupError, os.kill, int((self.here / "srun.pid").read_text()), 0)


if __name__ == "__main__":
    unittest.main()
