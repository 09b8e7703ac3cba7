#!/usr/bin/python3
"""Writes config.md, ../cli/verbs.md and the manual pages of ../man from what the programs say of themselves (--help,
tutti --markdown): flags.py --bin build/dev/bin.
With --check: says whether they are what it would write, and whether groff reads the manual pages without a word."""
import argparse
import functools
import os
import pathlib
import subprocess
import sys

sys.dont_write_bytecode = True  # beside the sources
import man  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
NOTE = "<!-- Written by docs/reference/flags.py from the programs' --help. -->\n"
SERVICES = [("tutti-scheduler", "One per cluster (a second one waits until the first is gone)."),
            ("tutti-worker", "One per machine with GPUs.")]


def ask(binaries, program, *question, status=0):
    environment = {**os.environ, "HOME": "/nonexistent", "COLUMNS": "100"}
    for name in [name for name in environment if name.startswith("TUTTI_")]:
        del environment[name]
    got = subprocess.run([os.path.join(binaries, program), *question], capture_output=True, text=True,
                         timeout=60, env=environment)
    if got.returncode != status:
        raise SystemExit(f"{program} {' '.join(question)} failed: {got.stderr[:500]}")
    text = (got.stdout + (got.stderr if status else "")).replace(os.path.join(binaries, program), program)
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
    folder = HERE.parent / "man"
    pages = {HERE / "config.md": config(o.bin), HERE.parent / "cli/verbs.md": ask(o.bin, "tutti", "--markdown")}
    manual = {folder / name: text for name, text in man.pages(functools.partial(ask, o.bin)).items()}
    pages.update(manual)
    stale = [path.name for path in folder.iterdir() if path not in manual]
    for path, text in pages.items():
        if not o.check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(path.name)
    if stale:
        sys.exit(f"not as the programs are: {', '.join(sorted(stale))}; docs/reference/flags.py --bin {o.bin} writes them")
    if said := man.complaints(sorted(manual)):
        sys.exit("\n".join(said))


main()
