#!/usr/bin/python3
"""Writes config.md and ../cli/verbs.md from what the programs say of themselves (--help, tutti --markdown):
flags.py --bin build/dev/bin.
With --check: says whether they are what it would write."""
import argparse
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
NOTE = "<!-- Written by docs/reference/flags.py from the programs' --help. -->\n"
SERVICES = [("tutti-scheduler", "One per cluster (a second one waits until the first is gone)."),
            ("tutti-worker", "One per machine with GPUs.")]


def ask(binaries, program, *question):
    environment = {**os.environ, "HOME": "/nonexistent", "COLUMNS": "100"}
    for name in [name for name in environment if name.startswith("TUTTI_")]:
        del environment[name]
    got = subprocess.run([os.path.join(binaries, program), *question], capture_output=True, text=True,
                         timeout=60, env=environment)
    if got.returncode != 0:
        raise SystemExit(f"{program} {' '.join(question)} failed: {got.stderr[:500]}")
    text = got.stdout.replace(os.path.join(binaries, program), program)
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines()) + "\n"


def block(text, kind="text"):
    return f"```{kind}\n{text}```\n"


def config(binaries):
    out = [NOTE, "# Configuration\n",
           "Each flag is also a key of a TOML file (`--config FILE`) and a variable (`TUTTI_SCHEDULER_LISTEN`, `TUTTI_WORKER_QUEUE`): a flag wins "
           "over the environment, that over the file ([more](../install.md#configuration-files)). What a job's ranks see is in [variables](variables.md), "
           "what a client reads (`TUTTI_SERVER`, `TUTTI_TOKEN`, contexts) in [contexts](../cli/contexts.md).\n"]
    for program, line in SERVICES:
        out += [f"## {program}\n", line + "\n", block(ask(binaries, program, "--help")),
                f"### /etc/tutti/{program.removeprefix('tutti-')}.toml\n", "As `--print-config` writes it: every key with its default.\n",
                block(ask(binaries, program, "--print-config"), "toml")]
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--check", action="store_true")
    o = parser.parse_args()
    stale = []
    for path, text in ((HERE / "config.md", config(o.bin)), (HERE / "../cli/verbs.md", ask(o.bin, "tutti", "--markdown"))):
        if not o.check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    if stale:
        sys.exit(f"not as the programs are: {', '.join(stale)}; docs/reference/flags.py --bin {o.bin} writes them")


main()
