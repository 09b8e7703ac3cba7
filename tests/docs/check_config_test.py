#!/usr/bin/python3
"""--check-config of both services finds what their start would refuse, and names the key.

    TUTTI_BIN=build/dev/bin tests/docs/check_config_test.py
"""
import os
import pathlib
import subprocess
import tempfile
import unittest

BIN = pathlib.Path(os.environ["TUTTI_BIN"]).resolve()
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(("TUTTI_", "SUDO_"))}


class Service(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="tutti-config-")
        self.root = pathlib.Path(self.folder.name)
        self.root.chmod(0o755)  # jobs pass through it
        self.addCleanup(self.folder.cleanup)

    def run_with(self, program, keys, *words):
        text = "".join(f"{key} = {value}\n" for key, value in keys.items())
        (self.root / "service.toml").write_text(text)
        return subprocess.run([BIN / program, "--config", self.root / "service.toml", *words], capture_output=True, text=True,
                              timeout=60, env=ENVIRONMENT)

    def check(self, program, good, key, value, *words):
        done = self.run_with(program, {**good, key: value}, *words)
        self.assertEqual(done.returncode, 1, (key, value, done.stdout, done.stderr))
        self.assertIn(f"--{key}", done.stdout + done.stderr)


class Scheduler(Service):
    def good(self):  # --check-config alone does not ask the database
        return {"data": f'"{self.root}/data"', "db": '"host=127.0.0.1 port=1 dbname=tutti"'}

    def test_what_the_start_would_refuse_is_found(self):
        for key, value in (("otlp-endpoint", "collector:4318"), ("report-dir", "/proc/x"), ("history-archive", "/proc/x"),
                           ("data", "/proc/x"), ("console-dir", str(self.root))):
            with self.subTest(key=key):
                self.check("tutti-scheduler", self.good(), key, f'"{value}"', "--check-config")

    def test_what_is_good_is_good_and_nothing_is_made(self):
        more = {"otlp-endpoint": '"http://collector:4318"', "report-dir": f'"{self.root}/reports"',
                "history-archive": f'"{self.root}/history"'}
        done = self.run_with("tutti-scheduler", {**self.good(), **more}, "--check-config")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([p.name for p in self.root.iterdir()], ["service.toml"])


class Worker(Service):
    WRONG = (("metrics-listen", "7071"), ("metrics-listen", "no-address:7071"), ("job-user", "of-nobody"), ("state-dir", "/proc/x"))

    def good(self):
        return {"scheduler": '["http://127.0.0.1:1"]', "no-gpus": "true", "state-dir": f'"{self.root}/worker"', "container": '"none"'}

    def test_what_the_start_would_refuse_is_found(self):
        for key, value in self.WRONG:
            with self.subTest(key=key):
                self.check("tutti-worker", self.good(), key, f'"{value}"', "--check-config")

    def test_and_the_start_does_refuse_it(self):
        for key, value in self.WRONG:
            with self.subTest(key=key):
                self.check("tutti-worker", self.good(), key, f'"{value}"')

    def test_what_is_good_is_good_and_nothing_is_made(self):
        more = {"metrics-listen": '"127.0.0.1:0"'}
        done = self.run_with("tutti-worker", {**self.good(), **more}, "--check-config")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([p.name for p in self.root.iterdir()], ["service.toml"])


if __name__ == "__main__":
    unittest.main()
