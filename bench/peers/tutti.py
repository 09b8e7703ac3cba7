"""Tutti as a peer among others: a scheduler on a PostgreSQL of its own, and workers with eight simulated GPUs each, started one
by one so that a node can lose its power and stay off. Standard library only."""
import http.client
import json
import os
import signal
import subprocess
import time

from rig import Postgres, Scheduler, wait_for


class Tutti:
    def __init__(self, bin_dir, home, nodes=4, flags=()):
        self.bin, self.home, self.workers = bin_dir, home, {}
        self.postgres = Postgres(home)
        self.scheduler = Scheduler(bin_dir, home, self.postgres.dsn(), flags=flags)
        self.scheduler.start()
        home.keep(self)
        for i in range(1, nodes + 1):
            self.start_node(f"n{i}")
        wait_for(lambda: sum(n["state"] == "reachable" for n in self.get("/v1/nodes")["nodes"]) >= nodes, 60, "the nodes to be reachable")

    def folder(self, node):
        return os.path.join(self.home.path, "node-" + node)

    def start_node(self, node):
        folder = self.folder(node)
        if not os.path.exists(folder):
            os.makedirs(folder + "/state")
            subprocess.run([os.path.join(self.bin, "tutti-gpu-sim"), "init", "--state", folder + "/gpu", "--gpus", "8", "--model", "H100",
                            "--node", node], check=True, stdout=subprocess.DEVNULL)
        library = os.path.join(self.bin, "..", "lib", "nvml-double", "libnvidia-ml.so.1")
        command = [os.path.join(self.bin, "tutti-worker"), "--scheduler", self.scheduler.url, "--token-file",
                   os.path.join(self.scheduler.data, "token"), "--node", node, "--address", "127.0.0.1", "--state-dir", folder + "/state",
                   "--nvml-library", os.path.abspath(library), "--run-as", "job-user", "--cpus", "64", "--log-level", "warn"]
        log = open(os.path.join(self.home.path, node + ".log"), "a")
        self.workers[node] = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ, TUTTI_NVML_DOUBLE_STATE=folder + "/gpu"))

    def request(self, method, path, body=None, connection=None):
        c = connection or http.client.HTTPConnection("127.0.0.1", self.scheduler.port, timeout=30)
        c.request(method, path, body, {"Authorization": "Bearer " + self.scheduler.token, "Content-Type": "application/json"})
        answer = c.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {text[:300]}")
        return json.loads(text)

    def get(self, path):
        return self.request("GET", path)

    def submit(self, connection=None, **spec):
        return self.request("POST", "/v1/jobs", json.dumps({"name": "bench", **spec}), connection)["id"]

    def kill_node(self, node):
        """As if its power were gone: the worker, its supervisors and all ranks, in one stroke."""
        mark = self.folder(node) + "/"
        for _ in range(3):  # what is started meanwhile, too
            for pid in filter(str.isdigit, os.listdir("/proc")):
                try:
                    if mark in open(f"/proc/{pid}/cmdline").read() + open(f"/proc/{pid}/environ", errors="replace").read():
                        os.kill(int(pid), signal.SIGKILL)
                except OSError:
                    pass
        self.workers.pop(node).wait(30)

    def stop(self):
        for node in list(self.workers):
            self.kill_node(node)
