#!/usr/bin/python3
"""A real Prometheus scrapes a real scheduler and two real workers for a minute: ./dev test monitoring.

    TUTTI_BIN=build/dev/bin tests/monitoring/prometheus_test.py

Looked at: promtool on what they show, on the configuration and on the rules; every target up and without scrape errors; every
metric they show in the table, with its type, and known to Prometheus; recording rules evaluate. Exit 77: nothing is built.
"""
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.parse
import urllib.request
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("TUTTI_BIN", SOURCE / "build/dev/bin")).resolve()
PROMETHEUS = SOURCE / "deploy/prometheus"
DEADLINE = 120  # seconds, for any one thing
SCRAPED = 60    # seconds, so long everything is scraped
# What a cluster does not show that has just started and has run one job: these come with faults and failures.
NOT_AT_ONCE = {"tutti_fault_shadow_total", "tutti_node_conditions", "tutti_worker_conditions", "tutti_queue_oldest_timestamp_seconds"}

# Alerts that tell how slow or full this machine is. Most alerts wait for minutes: here they can be pending at most.
OF_THIS_MACHINE = {"TuttiStateDirFull", "TuttiCommitSlow", "TuttiPlannerSlow", "TuttiHeartbeatsLate"}


def table():
    out = {}
    for line in (SOURCE / "scheduler/model/metric_table.csv").read_text().splitlines():
        if line and not line.startswith("#"):
            name, program, kind, _, _, _ = line.split(",", 5)
            out[name] = (program, kind)
    return out


TABLE = table()


def get(url, headers=None):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers or {}), timeout=10) as answer:
        return answer.read().decode()


def until(what, condition, seconds=DEADLINE):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {what}")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Cluster:
    def __init__(self, folder):
        self.log = open(folder / "up.log", "w+")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TUTTI_")}
        ready, told = os.pipe()
        self.process = subprocess.Popen(
            [BIN / "tutti", "up", "--data", folder / "data", "--port", "0", "--workers", "2", "--gpus", "2", "--start-timeout", str(DEADLINE),
             "--once-ready-fd", str(told), "--worker-flag=--metrics-listen=127.0.0.1:0"],
            env={**environment, "HOME": str(folder)}, stdout=self.log, stderr=subprocess.STDOUT, pass_fds=[told], start_new_session=True)
        os.close(told)
        try:
            if not select.select([ready], [], [], DEADLINE)[0] or not os.read(ready, 200):
                raise AssertionError("the cluster does not start:\n" + self.said())
        except BaseException:
            self.stop()
            raise
        finally:
            os.close(ready)
        context = json.loads((folder / "data/context.json").read_text())
        self.server, self.token = context["server"], context["token"]
        self.scheduler = urllib.parse.urlsplit(self.server).netloc
        endpoints = until("both workers tell where their metrics are", lambda: (lambda found: len(found) == 2 and found)(
            list((folder / "data").glob("**/metrics_endpoint"))))
        self.workers = sorted(e.read_text().strip() for e in endpoints)

    def metrics(self, address=None):
        address = address or self.scheduler
        return get(f"http://{address}/metrics", {"Authorization": f"Bearer {self.token}"} if address == self.scheduler else {})

    def run(self, *words):
        environment = {**os.environ, "TUTTI_SERVER": self.server, "TUTTI_TOKEN": self.token}
        got = subprocess.run([BIN / "tutti", *words], env=environment, capture_output=True, text=True, timeout=DEADLINE)
        assert got.returncode == 0, got.stdout + got.stderr
        return got.stdout

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


class Prometheus:
    """The shipped configuration with the addresses of this cluster."""

    def __init__(self, folder, cluster):
        self.url = f"http://127.0.0.1:{free_port()}"
        for file in ("recording.yml", "alerts.yml"):
            shutil.copy(PROMETHEUS / file, folder)
        config = (PROMETHEUS / "prometheus.yml").read_text()
        config = re.sub(r"- targets: \[.*\]", f'- targets: ["{cluster.scheduler}"]', config)
        config = config.replace("scrape_interval: 15s", "scrape_interval: 2s").replace("evaluation_interval: 30s", "evaluation_interval: 5s")
        assert cluster.scheduler in config
        (folder / "prometheus.yml").write_text(config)
        rules = (folder / "recording.yml").read_text().replace("interval: 30s", "interval: 5s")
        (folder / "recording.yml").write_text(rules)
        (folder / "tutti.token").write_text(cluster.token)
        (folder / "workers.json").write_text(json.dumps([{"targets": cluster.workers}]))
        self.log = open(folder / "prometheus.log", "w+")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}",
             f"--web.listen-address={self.url[7:]}"], stdout=self.log, stderr=subprocess.STDOUT, cwd=folder)

    def api(self, path, **query):
        try:
            answer = json.loads(get(self.url + path + ("?" + urllib.parse.urlencode(query) if query else "")))
        except OSError:
            if self.process.poll() is None:
                return None
            self.log.seek(0)
            raise AssertionError("prometheus has ended:\n" + self.log.read()) from None
        assert answer["status"] == "success", answer
        return answer["data"]

    def ask(self, expr):
        return self.api("/api/v1/query", query=expr)["result"]

    def stop(self):
        self.process.terminate()
        self.process.wait(DEADLINE)
        self.log.close()


class MonitoringTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="tutti-monitoring-", dir="/tmp"))
        cls.folder.chmod(0o755)  # jobs run as another user
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.cluster = Cluster(cls.folder)
        cls.addClassCleanup(cls.cluster.stop)
        cls.prometheus = Prometheus(cls.folder, cls.cluster)
        cls.addClassCleanup(cls.prometheus.stop)
        job = cls.folder / "job.yaml"
        job.write_text("name: seen\nrun: sleep 20\nlauncher: direct\nnodes: 2\nresources: {gpus: 1}\n")
        cls.cluster.run("submit", str(job))
        until("prometheus is ready", lambda: cls.prometheus.api("/api/v1/targets"))
        cls.begun = time.monotonic()

    def shown(self):
        return {address: self.cluster.metrics(address) for address in [self.cluster.scheduler, *self.cluster.workers]}

    def test_1_promtool_finds_nothing_wrong_with_what_is_shown(self):
        for address, text in self.shown().items():
            got = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=DEADLINE)
            self.assertEqual((got.returncode, got.stdout + got.stderr), (0, ""), address)

    def test_2_promtool_finds_nothing_wrong_with_configuration_and_rules(self):
        for words in (["check", "config", "--syntax-only", "prometheus.yml"], ["check", "rules", "recording.yml", "alerts.yml"],
                      ["test", "rules", "recording_test.yml", "alerts_test.yml", "together_test.yml"]):
            got = subprocess.run(["promtool", *words], cwd=PROMETHEUS, capture_output=True, text=True, timeout=DEADLINE)
            self.assertEqual(got.returncode, 0, got.stdout + got.stderr)

    def test_3_what_is_shown_stands_in_the_table(self):
        until("the job has ended", lambda: 'tutti_jobs_ended_total{' in self.cluster.metrics())
        seen = {"scheduler": {}, "worker": {}}
        for address, text in self.shown().items():
            program = "scheduler" if address == self.cluster.scheduler else "worker"
            seen[program].update(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
        for program, types in seen.items():
            for name, kind in types.items():
                self.assertIn(name, TABLE, f"a {program} shows {name}, of which the table knows nothing")
                self.assertIn(TABLE[name][0], (program, "both"), name)
                self.assertEqual(TABLE[name][1], kind, name)
            missing = {n for n, (p, _) in TABLE.items() if p in (program, "both")} - set(types) - NOT_AT_ONCE
            self.assertEqual(missing, set(), f"a {program} does not show these")

    def test_4_prometheus_scrapes_all_of_them_for_a_minute(self):
        until(f"{SCRAPED} s have passed", lambda: time.monotonic() - self.begun > SCRAPED, SCRAPED + DEADLINE)
        targets = self.prometheus.api("/api/v1/targets")["activeTargets"]
        self.assertEqual(len(targets), 3)
        for t in targets:
            self.assertEqual((t["health"], t["lastError"]), ("up", ""), t["scrapeUrl"])
        for r in self.prometheus.ask("min_over_time(up[50s])"):
            self.assertEqual(r["value"][1], "1", r)
        self.assertGreaterEqual(min(int(r["value"][1]) for r in self.prometheus.ask("count_over_time(up[50s])")), 20)
        own = get(self.prometheus.url + "/metrics")
        for trouble in ("prometheus_target_scrapes_sample_duplicate_timestamp_total", "prometheus_target_scrapes_sample_out_of_order_total"):
            found = re.findall(rf"^{trouble} (\S+)$", own, re.MULTILINE)
            self.assertEqual([float(value) for value in found], [0], trouble)

    def test_5_prometheus_knows_every_metric_with_its_type(self):
        metadata = self.prometheus.api("/api/v1/metadata")
        for text in self.shown().values():
            for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE):
                self.assertEqual({m["type"] for m in metadata.get(name, [])}, {kind}, name)
                self.assertTrue(all(m["help"] for m in metadata[name]), name)

    def test_6_rules_evaluate(self):
        for group in self.prometheus.api("/api/v1/rules")["groups"]:
            for rule in group["rules"]:
                self.assertEqual((rule["health"], rule.get("lastError", "")), ("ok", ""), rule["name"])
        for expr, at_least in (("tutti:gpu_used:ratio", 0), ("tutti:commit_seconds:p99_5m", 0), ("tutti:plan_seconds:p99_5m", 0),
                               ("tutti:http_errors:ratio_5m", 0), ("max_over_time(tutti:gpu_used:ratio[55s])", 0.4)):
            result = self.prometheus.ask(expr)
            self.assertEqual(len(result), 1, expr)
            self.assertGreaterEqual(float(result[0]["value"][1]), at_least, expr)

    def test_7_nothing_fires_or_is_about_to_on_a_healthy_cluster(self):
        found = self.prometheus.api("/api/v1/alerts")["alerts"]  # pending and firing
        self.assertEqual([(a["state"], a["labels"]) for a in found
                          if a["labels"]["severity"] != "info" and a["labels"]["alertname"] not in OF_THIS_MACHINE], [])

    def test_8_what_dashboards_ask_is_understood(self):
        for file in (SOURCE / "deploy/grafana").glob("*.json"):
            for panel in json.loads(file.read_text())["panels"]:
                for target in panel["targets"]:
                    expr = re.sub(r"\$\w+", ".*", target["expr"])
                    self.assertIsNotNone(self.prometheus.ask(expr), f"{file.name}: {expr}")


if __name__ == "__main__":
    if not (BIN / "tutti-scheduler").exists():
        print(f"no {BIN}/tutti-scheduler: build first")
        sys.exit(77)
    if not shutil.which("prometheus"):
        sys.exit("no prometheus: ./dev test monitoring installs it")
    unittest.main(verbosity=2)
