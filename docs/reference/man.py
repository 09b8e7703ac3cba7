"""The manual pages, docs/man, out of what the programs say of themselves: --help, --print-config, tutti --man. flags.py
writes and compares them, groff reads them as a check."""
import itertools
import re
import shutil
import subprocess

CHECK_CONFIG = """.TP
.B 0
Stopped by a signal; or the configuration that was to be checked is good.
.TP
.B 1
It could not start; or something that the configuration names is wrong.
.TP
.B 2
The command line or the configuration itself is wrong: file, line and the nearest known key are named.
"""
DEPOSED = """.TP
.B 3
Another scheduler has taken the lead. To be started again, as a standby; the unit of systemd does so.
"""

# Of each service what its --help does not say: a line for whatis(1), what it is, signals, exit status, files, and pages.
SERVICES = {
    "tutti-scheduler": (
        "places GPU trainings on nodes: REST, decisions, one PostgreSQL",
        "Serves the REST API, the web console and the workers, decides what runs where, and keeps it in a PostgreSQL: its own in "
        "--data, or the one that --db or --db-file name. Several may run on one database: one leads, the others answer reads, hand "
        "writes on to it and take over when it is gone.\n.PP\nThe token of the first administrator is in DATA/token after the first "
        "start.",
        [("SIGTERM, SIGINT", "Ends. Gangs run on: the next scheduler takes them over."),
         ("SIGHUP", "Reads certificates, log-level, requests-per-second…, login-… and submissions-per-minute again. Of other keys that "
                    "have changed the log says that they need a new start.")],
        CHECK_CONFIG + DEPOSED,
        [("/etc/tutti/scheduler.toml", "The configuration of the packaged service."),
         ("/var/lib/tutti", "Its --data: token, secret, decision log, and the embedded database.")],
        ["tutti(1)", "tutti-worker(8)", "tutti-scheduler.toml(5)"]),
    "tutti-worker": (
        "runs the ranks of GPU trainings on this machine",
        "The agent of a GPU machine: registers with the scheduler, watches GPUs, links and disks, starts the ranks that are placed here, "
        "each attempt under a supervisor of its own, and proves that they are gone when they have ended. It runs as root, or as the "
        "one account of all jobs.\n.PP\nStopping it stops no job: supervisors and ranks go on, and the next worker takes them over.",
        [("SIGTERM, SIGINT", "Ends. What runs here runs on."),
         ("SIGHUP", "Reads log-level again. Of other keys that have changed the log says that they need a new start.")],
        CHECK_CONFIG,
        [("/etc/tutti/worker.toml", "The configuration of the packaged service."),
         ("/var/lib/tutti-worker", "Its --state-dir: the node's credential, attempts and their logs.")],
        ["tutti(1)", "tutti-checkpoint(1)", "tutti-scheduler(8)", "tutti-worker.toml(5)"]),
}


KINDS = {"TEXT": "TEXT", "BOOLEAN": "1|0"}  # others are numbers


def escaped(text):
    """Troff takes backslashes, and dots and quotes at the start of a line, for its own; hyphens of flags stay hyphens."""
    lines = []
    for line in text.split("\n"):
        line = line.replace("\\", "\\e").replace("-", "\\-").replace("…", "...")
        line = "".join(c if ord(c) < 128 else f"\\[u{ord(c):04X}]" for c in line)
        lines.append("\\&" + line if line[:1] in (".", "'") else line)
    return "\n".join(lines)


def sentence(text):
    text = text.strip()
    return text if text.endswith((".", "…")) else text + "."


def capital(text):
    return text[:1].upper() + text[1:]


def prose(text):
    return "\n.PP\n".join(escaped(part) for part in text.split("\n.PP\n")) + "\n"


def head(program, section, what, version, manual):
    return (f".\\\" Written by docs/reference/flags.py from what the program says of itself.\n"
            f".TH {escaped(program.upper())} {section} \"\" \"tutti {version}\" \"{manual}\"\n.SH NAME\n{escaped(program)} \\- {escaped(what)}\n")


def paragraph(name, text):
    return f".TP\n{name}\n{escaped(text)}\n"


def see_also(pages):
    names = [f"\\fB{escaped(name)}\\fR({section})" for name, section in (re.fullmatch(r"(.*)\((\d)\)", page).groups() for page in pages)]
    return ".SH SEE ALSO\n" + ", ".join(names) + "\n.PP\nThe package tutti\\-doc: /usr/share/doc/tutti\\-doc/README.md\n"


def options_of(help_text):
    """(names, what comes behind them, description) of each flag of CLI11's help: a short head shares its line with the description,
    which begins in column 30; a long one has a line of its own."""
    options = []
    for line in help_text.splitlines():
        if re.match(r"  -", line):
            shared = len(line) > 30 and line[29] == " "
            name, text = (line[:30], line[30:]) if shared else (line, "")
            flag, _, rest = name.strip().partition(" ")
            options.append([flag, rest, text])
        elif options and line.startswith(" " * 30):
            # A head that looked as if it shared its line did not.
            last = options[-1]
            if last[2]:
                last[1], last[2] = (last[1] + " " + last[2]).strip(), ""
            last[2] = line.strip()
    return options


def described(rest, text, default):
    """What comes behind a flag's name, in words; and the kind of its value."""
    kind = re.match(r"(?:TEXT|FLOAT|U?INT|BOOLEAN)\b", rest)
    text = sentence(text) if text else ""
    for word, said in (("Needs", "Goes with"), ("Excludes", "Not with")):
        found = re.search(word + r": ((?:--\S+ ?)+)", rest)
        if found:
            text += f" {said} {', '.join(found[1].split())}."
    variable = re.search(r"\(Env:(\w+)\)", rest)
    if variable:
        text += f" Variable: {variable[1]}."
    if "REQUIRED" in rest and "must be set" not in text:
        text += " Must be given."
    if default not in ("", '""', "[]", "false"):
        text += f" Default: {default.strip(chr(34))}."
    return ("" if kind is None else KINDS.get(kind[0], "NUMBER")), text.strip()


def flags_section(help_text, keys):
    out = ""
    for flag, rest, text in options_of(help_text):
        names = [name.split("{")[0] for name in flag.split(",")]
        key = names[-1].removeprefix("--")
        default = re.search(r"=(\S+)", rest)
        default = default[1] if default else ""
        for name in names:
            if name.removeprefix("--") in keys:
                text, default = keys[name.removeprefix("--")]
        kind, text = described(rest, text, default)
        kind = "FILE" if key == "config" else kind
        value = f" \\fI{kind}\\fR" if kind else ""
        if "{" in flag:  # a value that may be left out
            choices = re.search(r":\{([^}]*)\}", rest)
            value = f"[=\\fI{escaped(choices[1].replace(',', '|'))}\\fR]" if choices else ""
        out += f".TP\n{', '.join(f'{chr(92)}fB{escaped(name)}{chr(92)}fR' for name in names)}{value}\n{escaped(text or sentence(key))}\n"
    return out


def keys_of(config_text):
    """name → (what it says, default) of --print-config, in its order."""
    keys = {}
    for block in config_text.split("\n\n")[1:]:
        lines = [line.removeprefix("#").strip() for line in block.splitlines()]
        name, _, value = lines[-1].partition(" =")
        keys[name] = (" ".join(lines[:-1]), value.strip())
    return keys


def service_page(program, help_text, keys, version):
    what, about, signals, status, files, also = SERVICES[program]
    variable = program.upper().replace("-", "_")
    out = head(program, 8, what, version, "Tutti")
    out += f".SH SYNOPSIS\n.B {escaped(program)}\n[\\fIOPTIONS\\fR]\n.SH DESCRIPTION\n" + prose(about)
    out += ".SH OPTIONS\n" + flags_section(help_text, keys)
    out += ".SH ENVIRONMENT\n" + paragraph(f"\\fB{variable}_\\fIFLAG\\fR", f"Each flag, in capitals and with _ for -: {variable}_LOG_LEVEL "
                                           "is --log-level. A flag wins over the environment, that over the file of --config.")
    out += ".SH SIGNALS\n" + "".join(paragraph(f"\\fB{name}\\fR", text) for name, text in signals)
    out += ".SH EXIT STATUS\n" + status
    out += ".SH FILES\n" + "".join(paragraph(f"\\fI{escaped(name)}\\fR", text) for name, text in files)
    return out + see_also(also)


def config_page(program, keys, version):
    file = f"/etc/tutti/{program.removeprefix('tutti-')}.toml"
    out = head(f"{program}.toml", 5, f"configuration of {program}", version, "Tutti")
    out += f".SH SYNOPSIS\n.I {escaped(file)}\n.SH DESCRIPTION\n"
    out += prose(f"A file in TOML that {program} reads with --config. Each key is the flag of that name without --. Strings are quoted, "
                 "numbers are not, true and false are bare, and keys that may be repeated are lists, like label = [\"rack=r7\"]. There are no "
                 "sections. A flag wins over the environment, that over this file.\n.PP\nA key that is not known, or a value of another kind, "
                 f"is an error that names file and line: {program} --config FILE --check-config says so without starting anything. "
                 f"{program} --print-config writes a file with all keys. What a program reads again on SIGHUP is in its own page.")
    out += ".SH KEYS\nWith the default of each.\n"
    for name, (text, default) in keys.items():
        out += paragraph(f"\\fB{escaped(name)}\\fR" + (f" = \\fI{escaped(default)}\\fR" if default else ""), sentence(text or name))
    return out + see_also([f"{program}(8)"])


def simulator_page(ask, version):
    program = "tutti-gpu-sim"
    help_text = ask(program, "--help")
    verbs = re.findall(r"^  ([a-z]+) +(\S.*)$", help_text.split("Subcommands:")[1], re.M)
    out = head(program, 1, "makes and breaks simulated GPUs", version, "User Commands")
    out += f".SH SYNOPSIS\n.B {escaped(program)}\n\\fIVERB\\fR \\fB\\-\\-state\\fR \\fIFOLDER\\fR [\\fIOPTIONS\\fR]\n.SH DESCRIPTION\n"
    out += prose("Where there is no NVIDIA GPU a worker loads a double of NVML, whose devices are described by files in a folder: "
                 "tutti up and the demo do so. This program makes such a folder and does to its GPUs what hardware does.")
    out += ".SH VERBS\n"
    for verb, text in verbs:
        out += f".SS {escaped(verb)}\n{escaped(capital(sentence(text)))}\n"
        out += flags_section("\n".join(line for line in ask(program, verb, "--help").splitlines() if "--help" not in line), {})
    return out + see_also(["tutti(1)", "tutti-worker(8)"])


def checkpoint_page(usage, version):
    program = "tutti-checkpoint"
    commands = re.findall(rf"{program} (\w+)((?: \S+)*?)(?: \[(\S+ \S+)\])? {{2,}}(.+)", usage)
    status = re.search(r"Status: (.*)", usage)[1].rstrip(".")
    out = head(program, 1, "writes checkpoints that can be checked, from inside a job", version, "User Commands")
    out += ".SH SYNOPSIS\n"
    for name, operands, option, _ in commands:
        out += f".B {escaped(program)} {escaped(name)}\n{escaped(operands.strip())}{' [' + escaped(option) + ']' if option else ''}\n.br\n"
    out += ".SH DESCRIPTION\n" + prose(
        "For programs of ranks, which find it as $TUTTI_CHECKPOINT_TOOL. Makes files and folders durable, takes their checksums, and refuses to "
        "write for an attempt that is over. Prints the folder of the step.")
    out += ".SH COMMANDS\n" + "".join(paragraph(f"\\fB{escaped(name)}\\fR", capital(sentence(text))) for name, _, _, text in commands)
    out += ".SH EXIT STATUS\n" + "".join(paragraph(f".B {number}", capital(sentence(text)))
                                         for number, text in re.findall(r"(\d+) ([^,]+)", status))
    out += ".SH ENVIRONMENT\n" + paragraph(".B CHECKPOINT_DIR, TUTTI_ATTEMPT_DIR, TUTTI_EPOCH", "Set by the worker for each rank.")
    return out + see_also(["tutti(1)", "tutti-worker(8)"])


def pages(ask):
    """File name → text. `ask(program, arguments…)` is what a program writes; with status=N also to standard error."""
    cli = ask("tutti", "--man")
    version = re.search(r'"tutti ([^"]+)"', cli)[1]
    found = {"tutti.1": cli, "tutti-gpu-sim.1": simulator_page(ask, version),
             "tutti-checkpoint.1": checkpoint_page(ask("tutti-checkpoint", status=64), version)}
    for program in SERVICES:
        keys = keys_of(ask(program, "--print-config"))
        found[f"{program}.8"] = service_page(program, ask(program, "--help"), keys, version)
        found[f"{program}.toml.5"] = config_page(program, keys, version)
    return found


def complaints(files):
    """What groff says of these files; it says nothing of good ones."""
    if shutil.which("groff") is None:
        return ["groff is not installed, which reads the manual pages"]
    said = []
    for file, device in itertools.product(files, ("utf8", "ascii")):
        got = subprocess.run(["groff", "-man", f"-T{device}", "-ww", "-z", file], capture_output=True, text=True, timeout=60)
        if got.returncode != 0 or got.stdout or got.stderr:
            said.append(f"{file}: {(got.stdout + got.stderr)[:500]}")
    return said
