#!/usr/bin/python3
"""Runs the commands of the quickstart, of the how-tos, and of installation and monitoring, page by page, in their order.

    TUTTI_BIN=build/dev/bin TUTTI_SOURCE=. tests/docs/commands_test.py [PAGE ...]

In a page, ```sh blocks are run (bash -e), and ```sh background blocks, which are `tutti up`, are started and left running
until the page ends. ```sh machine blocks need a machine of their own and are not run here, other blocks (yaml, c, …) are for
reading. Every page has a folder and a cluster of its own; a command has two minutes. Exit 77: nothing to run the pages with.

install.md and monitoring.md are one after the other on one cluster, as a person would come to them: the folders of the packages
are below the page's own, names of machines are this one, packages are this build, and `systemctl` starts what the unit says.
"""
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SOURCE = pathlib.Path(os.environ.get("TUTTI_SOURCE", os.getcwd())).resolve()
BIN = pathlib.Path(os.environ.get("TUTTI_BIN", SOURCE / "build/dev/bin")).resolve()
DEADLINE = 120  # seconds, for any one block
BLOCK = re.compile(r"^```sh([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Failed(Exception):
    pass


class Page:
    def __init__(self, path):
        self.path, self.background, self.ran = path, [], 0
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="tutti-docs-", dir="/tmp"))
        self.folder.chmod(0o755)  # jobs run as another user
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("TUTTI_")},
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(self.folder / "home"),
            "XDG_DATA_HOME": str(self.folder / "data"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "OMPI_ALLOW_RUN_AS_ROOT": "1",
            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        }
        (self.folder / "home").mkdir()
        (self.folder / "work").mkdir()
        (self.folder / "work").chmod(0o777)

    def run(self):
        for flags, text in BLOCK.findall(self.path.read_text()):
            if "machine" in flags:
                continue
            if "background" in flags:
                self.start(text)
            else:
                self.execute(text)
            self.ran += 1

    def execute(self, text):
        process = subprocess.Popen(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=self.folder / "work",
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=DEADLINE)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            raise Failed(f"not within {DEADLINE} s:\n{text}\n--- output\n{output}") from None
        if process.returncode != 0:
            raise Failed(f"exit {process.returncode}:\n{text}\n--- output\n{output}")

    def start(self, text):
        log = open(self.folder / f"background-{len(self.background)}.log", "w+")
        command = text.strip().replace("tutti up", "tutti up --port 0", 1)  # 7070 may be somebody's
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=self.folder / "work",
            env=self.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.background.append((process, log))
        until = time.monotonic() + DEADLINE
        while not list(self.folder.glob("data/**/context.json")):  # written when the workers are connected
            if process.poll() is not None or time.monotonic() > until:
                log.seek(0)
                raise Failed(f"not ready:\n{text}\n--- output\n{log.read()}")
            time.sleep(0.1)

    def stop(self):
        for process, log in self.background:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
            log.close()
        shutil.rmtree(self.folder, ignore_errors=True)


# What systemd does for a unit of Type=notify: starts it, and is done when it says that it is ready.
SYSTEMCTL = """#!/usr/bin/python3
import os, shlex, socket, subprocess, sys, time
verb, now, unit = sys.argv[1:]
assert (verb, now) == ("enable", "--now"), sys.argv
os.chdir({folder!r})
lines = open({units!r} + "/" + unit + ".service").read().splitlines()
command = [line.partition("=")[2] for line in lines if line.startswith("ExecStart=")][0]
command = command.replace("/usr/bin", {bin!r}).replace("/etc/tutti", {folder!r} + "/etc/tutti")
ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
ready.bind("notify-" + unit)
ready.settimeout(1)
process = subprocess.Popen(shlex.split(command), stdin=subprocess.DEVNULL, stdout=open(unit + ".log", "w"), stderr=subprocess.STDOUT,
                           env={{**os.environ, "NOTIFY_SOCKET": os.path.abspath("notify-" + unit)}}, start_new_session=True)
open(unit + ".pid", "w").write(str(process.pid))
until = time.monotonic() + {deadline}
while time.monotonic() < until:
    try:
        if b"READY=1" in ready.recv(8192):
            sys.exit(0)
    except TimeoutError:
        pass
    if process.poll() is not None:
        break
sys.exit(unit + " is not ready:\\n" + open(unit + ".log").read())
"""


class Installed(Page):
    """The packages as they would lie on one machine, which is scheduler, GPU machine and client."""

    def __init__(self, path):
        super().__init__(path)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.here = "127.0.0.1:%d" % s.getsockname()[1]
        stand_ins = self.folder / "bin"
        for folder in (stand_ins, self.folder / "etc/tutti", self.folder / "var/lib/tutti", self.folder / "var/lib/tutti-worker"):
            folder.mkdir(parents=True)
        systemctl = SYSTEMCTL.format(folder=str(self.folder), units=str(SOURCE / "deploy/packages"), bin=str(BIN), deadline=DEADLINE - 10)
        self.stand_in("systemctl", systemctl)
        self.stand_in("apt", "#!/bin/sh\nexit 0\n")
        if not shutil.which("promtool"):
            self.stand_in("promtool", "#!/bin/sh\nexit 0\n")
        self.environment["PATH"] = f"{stand_ins}:{self.environment['PATH']}"
        self.session = self.folder / "session"  # what one block exports the next one has
        self.session.write_text("")
        for program, flags in (("scheduler", ["--data", "/var/lib/tutti"]), ("worker", [])):  # as cmake/TuttiPackage.cmake
            text = subprocess.run([BIN / f"tutti-{program}", *flags, "--print-config"], check=True, capture_output=True, text=True).stdout
            text = self.moved(text).replace("# state-dir = ", "state-dir = ")  # its default is not ours to write to
            (self.folder / f"etc/tutti/{program}.toml").write_text(text)

    def stand_in(self, name, text):
        file = self.folder / "bin" / name
        file.write_text(text)
        file.chmod(0o755)

    def moved(self, text):
        text = text.replace("/etc/tutti", f"{self.folder}/etc/tutti").replace("/var/lib/tutti", f"{self.folder}/var/lib/tutti")
        text = re.sub(r"(sched|0\.0\.0\.0):7070", self.here, text)
        return text.replace("echo tuttijoin_…", 'echo "$(tutti join-token create --uses 2 --expires-in 1h)"')

    def execute(self, text):
        session = shlex.quote(str(self.session))
        super().execute(f"source {session}\n{self.moved(text)}\nexport -p > {session}")

    def then(self, path):
        """Another page, on what the one before has left."""
        shutil.copytree(SOURCE / "deploy/prometheus", self.folder / "work", dirs_exist_ok=True)
        self.path = path
        self.run()

    def check(self):
        node = 'tutti nodes -o json | python3 -c "import json, sys; d = json.load(sys.stdin); sys.exit(not d[\'nodes\'][0][\'linked\'])"'
        self.execute(f"until {node}; do sleep 0.2; done")

    def stop(self):
        for file in self.folder.glob("*.pid"):
            pid = int(file.read_text())
            os.kill(pid, signal.SIGTERM)
            until = time.monotonic() + 60
            while pathlib.Path(f"/proc/{pid}").exists() and time.monotonic() < until:
                time.sleep(0.1)
            if pathlib.Path(f"/proc/{pid}").exists():
                os.kill(pid, signal.SIGKILL)
        super().stop()


def run_installation(names):
    """Both pages, or none."""
    if names and not {"install", "monitoring"} & set(names):
        return 0, 0
    page, begin = Installed(SOURCE / "docs/install.md"), time.monotonic()
    try:
        page.run()
        page.check()
        page.then(SOURCE / "docs/monitoring.md")
        print(f"ok   docs/install.md, docs/monitoring.md: {page.ran} blocks in {time.monotonic() - begin:.1f} s", flush=True)
        return 1, 0
    except Failed as failure:
        print(f"FAIL {page.path.relative_to(SOURCE)}: {failure}", flush=True)
        return 1, 1
    finally:
        page.stop()


def main():
    if not (BIN / "tutti").exists():
        print(f"no {BIN}/tutti: build first")
        return 77
    names = sys.argv[1:]
    pages = [SOURCE / "docs/quickstart.md", *sorted((SOURCE / "docs/howto").glob("*.md"))]
    pages = [p for p in pages if not names or p.stem in names]
    ran, failed = run_installation(names)
    for path in pages:
        page, begin = Page(path), time.monotonic()
        try:
            page.run()
            print(f"ok   {path.relative_to(SOURCE)}: {page.ran} blocks in {time.monotonic() - begin:.1f} s", flush=True)
        except Failed as failure:
            failed += 1
            print(f"FAIL {path.relative_to(SOURCE)}: {failure}", flush=True)
        finally:
            page.stop()
    if not pages and not ran:
        print("no such page")
    return 1 if failed or not (pages or ran) else 0


if __name__ == "__main__":
    sys.exit(main())
