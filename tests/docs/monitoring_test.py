#!/usr/bin/python3
"""Dashboards, rules and alerts name only what exists: metrics and labels of scheduler/model/metric_table.csv, recorded series; each
alert has its section in docs/alerts.md and its cases in alerts_test.yml. promtool looks at the rules where it is installed."""
import json
import re
import shutil
import subprocess
import unittest
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
PROMETHEUS = SOURCE / "deploy/prometheus"
SELECTOR = re.compile(r"\b([a-z_][a-zA-Z0-9_:]*)\s*(?:\{([^{}]*)\})?")
WORDS = {"sum", "max", "min", "avg", "count", "by", "rate", "increase", "histogram_quantile", "time", "absent", "vector", "and", "or",
         "unless", "on", "label_values", "le", "without", "group_left", "ignoring"}
TARGET = {"job", "instance"}  # what Prometheus adds to all


def table():
    out = {}
    for line in (SOURCE / "scheduler/model/metric_table.csv").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, kind, _, labels, _ = line.split(",", 5)
            out[name] = (kind, set(labels.split()))
    return out


def rules(file):
    """[(record or alert, expression, the lines of the rule)]: these files keep to one shape."""
    text = (PROMETHEUS / file).read_text()
    out = []
    for block in re.split(r"\n(?=      - (?:alert|record): )", text)[1:]:
        name = re.match(r"      - (?:alert|record): (\S+)", block).group(1)
        folded = re.search(r"\n        expr: >-\n((?:          .*\n?)+)", block)
        expr = " ".join(folded.group(1).split()) if folded else re.search(r"\n        expr: (.*)", block).group(1)
        out.append((name, json.loads(expr) if expr.startswith('"') else expr, block))
    return out


RECORDED = {name: expr for name, expr, _ in rules("recording.yml")}
TABLE = table()


def labels_of(name):
    """Of a series, or None where there is no such one."""
    if name in RECORDED:
        by = re.findall(r"\bby \(([^)]*)\)", RECORDED[name])
        return {w.strip() for w in by[0].split(",")} - {"le"} if by else set()
    if name == "up":
        return set(TARGET)
    if name in TABLE and TABLE[name][0] != "histogram":
        return TABLE[name][1] | TARGET
    stem, _, suffix = name.rpartition("_")
    if suffix in ("bucket", "sum", "count") and TABLE.get(stem, ("",))[0] == "histogram":
        return TABLE[stem][1] | TARGET | ({"le"} if suffix == "bucket" else set())
    return None


def problems(expr):
    """What is wrong with an expression."""
    out, found = [], set()
    bare = re.sub(r'"[^"]*"', '""', expr)
    grouped = {w.strip() for group in re.findall(r"\bby \(([^)]*)\)", bare) for w in group.split(",")}
    asked = re.findall(r"label_values\([^,]*,\s*(\w+)\)", bare)
    bare = re.sub(r"\b(by|without|on|ignoring) \([^)]*\)", "", bare)
    bare = re.sub(r"(label_values\([^,]*),\s*\w+\)", r"\1)", bare)
    bare = re.sub(r"\[\w+\]", "", bare)
    for name, matchers in SELECTOR.findall(bare):
        if name in WORDS:
            continue
        labels = labels_of(name)
        if labels is None:
            out.append(f"no metric {name}")
            continue
        found |= labels
        for matcher in filter(None, (m.strip() for m in matchers.split(","))):
            label = re.match(r"\w+", matcher).group(0)
            if label not in labels:
                out.append(f"{name} has no label {label}")
    for label in grouped | set(asked):
        if label not in found:
            out.append(f"nothing in it has a label {label}")
    return out


class RulesTest(unittest.TestCase):
    def test_the_check_itself_finds_what_is_wrong(self):
        self.assertEqual(problems("sum(tutti_jobs)"), [])
        self.assertEqual(problems('sum by (state) (tutti_queue_jobs{queue="a"}) / 2'), [])
        self.assertEqual(problems("rate(tutti_commit_seconds_bucket[5m])"), [])
        self.assertEqual(problems("tutti_no_such_thing > 1"), ["no metric tutti_no_such_thing"])
        self.assertEqual(problems("tutti_commit_seconds > 1"), ["no metric tutti_commit_seconds"])
        self.assertEqual(problems('tutti_jobs{queue="a"}'), ["tutti_jobs has no label queue"])
        self.assertEqual(problems("sum by (rack) (tutti_jobs)"), ["nothing in it has a label rack"])
        self.assertEqual(problems("label_values(tutti_queue_jobs, color)"), ["nothing in it has a label color"])

    def test_rules_name_what_exists(self):
        for file in ("recording.yml", "alerts.yml"):
            for name, expr, _ in rules(file):
                self.assertEqual(problems(expr), [], f"{file}: {name}: {expr}")

    def test_recorded_names_are_of_the_usual_form(self):
        for name in RECORDED:
            self.assertRegex(name, r"^tutti:[a-z0-9_]+:[a-z0-9_]+$")

    def test_each_alert_has_its_section_and_a_severity(self):
        page = (SOURCE / "docs/alerts.md").read_text()
        sections = dict(re.findall(r"^### (\S+)\n\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL))
        alerts = rules("alerts.yml")
        self.assertEqual(sorted(sections), sorted(name for name, _, _ in alerts))
        for name, expr, block in alerts:
            self.assertRegex(block, rf"runbook_url: \S+/docs/alerts\.md#{name.lower()}(\n|$)")
            severity = re.search(r"severity: (critical|warning|info)\n", block)
            self.assertTrue(severity, name)
            section = sections[name]
            self.assertIn(f"*{severity.group(1)}*", section, name)
            self.assertIn(f"`{expr}`", section, f"{name}: the page shows another expression")
            self.assertIn("* Look at: ", section, name)
            self.assertIn("* Do: ", section, name)

    def test_each_alert_has_a_case_that_fires_and_one_that_does_not(self):
        cases = re.findall(r"^  - name: (.*)$", (PROMETHEUS / "alerts_test.yml").read_text(), re.MULTILINE)
        for name, _, _ in rules("alerts.yml"):
            self.assertIn(f"{name} fires", cases)
            self.assertIn(f"{name} is quiet", cases)

    def test_each_recorded_series_is_used(self):
        used = "".join(expr for _, expr, _ in rules("alerts.yml"))
        used += "".join(p.read_text() for p in (SOURCE / "deploy/grafana").glob("*.json"))
        for name in RECORDED:
            self.assertIn(name, used)

    @unittest.skipUnless(shutil.which("promtool"), "no promtool: ./dev test monitoring installs it")
    def test_promtool_agrees(self):
        for words in (["check", "config", "--syntax-only", "prometheus.yml"], ["check", "rules", "recording.yml", "alerts.yml"],
                      ["test", "rules", "recording_test.yml", "alerts_test.yml", "together_test.yml"]):
            got = subprocess.run(["promtool", *words], cwd=PROMETHEUS, capture_output=True, text=True, timeout=240)
            self.assertEqual(got.returncode, 0, got.stdout + got.stderr)


class DashboardsTest(unittest.TestCase):
    def dashboards(self):
        files = sorted((SOURCE / "deploy/grafana").glob("*.json"))
        self.assertEqual([f.stem for f in files], ["cluster", "control-plane", "faults", "queue"])
        return [(f.name, json.loads(f.read_text())) for f in files]

    def test_they_name_what_exists(self):
        for name, d in self.dashboards():
            for p in d["panels"]:
                for target in p["targets"]:
                    self.assertEqual(problems(target["expr"]), [], f"{name}: {p['title']}: {target['expr']}")
                    for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                        self.assertIn(label, target["expr"] + " job instance queue model cause use", f"{name}: {p['title']}")
            for v in d["templating"]["list"]:
                if v["type"] == "query":
                    self.assertEqual(problems(v["definition"]), [], f"{name}: {v['name']}")
                    self.assertIn("$" + v["name"], json.dumps(d["panels"]), f"{name}: variable {v['name']} is not used")

    def test_a_single_figure_is_of_now(self):
        """Asked over the whole time shown, it would be the last one that there was: one leader, hours after the last one died."""
        for name, d in self.dashboards():
            for p in d["panels"]:
                if p["type"] != "stat":
                    continue
                for target in p["targets"]:
                    self.assertEqual((target.get("instant"), target.get("range")), (True, False), f"{name}: {p['title']}")
                    if "tutti_leader" in target["expr"] or "queue_oldest" in target["expr"]:  # no sample: there is none
                        self.assertTrue(target["expr"].endswith(" or vector(0)"), f"{name}: {p['title']}")

    def test_they_can_be_imported(self):
        uids = set()
        for name, d in self.dashboards():
            self.assertGreaterEqual(d["schemaVersion"], 36, name)
            self.assertNotIn("__inputs", d, f"{name}: nothing is to be asked at the import")
            self.assertRegex(d["uid"], r"^[a-z-]{1,40}$")
            uids.add(d["uid"])
            self.assertTrue(d["title"] and d["description"])
            source = [v for v in d["templating"]["list"] if v["type"] == "datasource"]
            self.assertEqual([v["query"] for v in source], ["prometheus"], name)
            self.assertEqual(len({p["id"] for p in d["panels"]}), len(d["panels"]), name)
            taken = set()
            for p in d["panels"]:
                for word in ("title", "description"):
                    self.assertTrue(p[word], f"{name}: {p['title']} has no {word}")
                self.assertTrue(p["fieldConfig"]["defaults"]["unit"], f"{name}: {p['title']}")
                self.assertEqual(p["datasource"]["uid"], "${datasource}", f"{name}: {p['title']}")
                g = p["gridPos"]
                self.assertLessEqual(g["x"] + g["w"], 24, f"{name}: {p['title']}")
                cells = {(x, y) for x in range(g["x"], g["x"] + g["w"]) for y in range(g["y"], g["y"] + g["h"])}
                self.assertFalse(cells & taken, f"{name}: {p['title']} lies over another panel")
                taken |= cells
                self.assertTrue(all(t["datasource"]["uid"] == "${datasource}" for t in p["targets"]))
        self.assertEqual(len(uids), 4)


if __name__ == "__main__":
    unittest.main()
