#!/usr/bin/python3
"""Writes config.md and ../cli/verbs.md from what the programs say of themselves: flags.py --bin build/dev/bin.
With --check: says whether they are what it would write."""
import argparse
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
NOTE = "<!-- Written by docs/reference/flags.py from the programs' --help. -->\n"
SERVICES = [("tutti-scheduler", "One per cluster (a second one waits until the first is gone)."),
            ("tutti-worker", "One per machine with GPUs.")]
NOT_VERBS = {"OPTIONS", "POSITIONALS", "EXAMPLE", "EXAMPLES"}


def ask(binaries, words):
    environment = {**os.environ, "HOME": "/nonexistent", "COLUMNS": "100"}
    for name in ("TUTTI_SERVER", "TUTTI_TOKEN", "TUTTI_CONTEXT"):
        environment.pop(name, None)
    got = subprocess.run([os.path.join(binaries, words[0]), *words[1:], "--help"], capture_output=True, text=True,
                         timeout=60, env=environment)
    if got.returncode != 0:
        raise SystemExit(f"{' '.join(words)} --help failed: {got.stderr[:500]}")
    text = got.stdout.replace(os.path.join(binaries, words[0]), words[0])
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines()) + "\n"


def verbs_of(text):
    """Group, verb: the lines under every header that is not of options."""
    group, found = None, []
    for line in text.splitlines():
        if header := re.fullmatch(r"(\S.*):", line):
            group = None if header[1].upper() in NOT_VERBS else header[1]
        elif group and (verb := re.match(r"  ([a-z][a-z0-9-]*)(\s{2,}|$)", line)):
            found.append((group, verb[1]))
    return found


def block(text):
    return "```text\n" + text + "```\n"


def config(binaries):
    out = [NOTE, "# Configuration\n",
           "Flags only: there are no configuration files to keep in step. What a job's ranks see is in [variables](variables.md), "
           "what a client reads (`TUTTI_SERVER`, `TUTTI_TOKEN`, contexts) in [contexts](../cli/contexts.md).\n"]
    for program, line in SERVICES:
        out += [f"## {program}\n", line + "\n", block(ask(binaries, [program]))]
    return "\n".join(out)


def verbs(binaries):
    top = ask(binaries, ["tutti"])
    out = [NOTE, "# Verbs of `tutti`\n", block(top)]
    group = None
    for of, verb in verbs_of(top):
        if of != group:
            group = of
            out.append(f"## {group}\n")
        text = ask(binaries, ["tutti", verb])
        out += [f"### tutti {verb}\n", block(text)]
        for _, inner in verbs_of(text):
            out += [f"#### tutti {verb} {inner}\n", block(ask(binaries, ["tutti", verb, inner]))]
    return "\n".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--check", action="store_true")
    o = parser.parse_args()
    stale = []
    for path, text in ((HERE / "config.md", config(o.bin)), (HERE / "../cli/verbs.md", verbs(o.bin))):
        if not o.check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    if stale:
        sys.exit(f"not as the programs are: {', '.join(stale)}; docs/reference/flags.py --bin {o.bin} writes them")


main()
