#!/usr/bin/python3
"""Runs the commands of the quickstart and of the how-tos, page by page, in the order in which they stand.

    TUTTI_BIN=build/dev/bin TUTTI_SOURCE=. tests/docs/commands_test.py [PAGE ...]

In a page, ```sh blocks are run (bash -e), and ```sh background blocks, which are `tutti up`, are started and left running
until the page ends. Other blocks (yaml, c, …) are for reading. Every page has a folder and a cluster of its own; a command
has two minutes. Exit 77: nothing to run the pages with.
"""
import os
import pathlib
import re
import shutil
import signal
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


def main():
    if not (BIN / "tutti").exists():
        print(f"no {BIN}/tutti: build first")
        return 77
    names = sys.argv[1:]
    pages = [SOURCE / "docs/quickstart.md", *sorted((SOURCE / "docs/howto").glob("*.md"))]
    pages = [p for p in pages if not names or p.stem in names]
    failed = 0
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
    if not pages:
        print("no such page")
    return 1 if failed or not pages else 0


if __name__ == "__main__":
    sys.exit(main())
