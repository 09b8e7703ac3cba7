"""From inside a training program: where to resume, how far it is, when to stop, and checkpoints.

    from tutti import training

    run = training.current()
    for step in range(run.resume_step + 1, steps):
        ...
        run.progress(step, total=steps, loss=loss)
        if step % 100 == 0 or run.should_stop:
            with run.checkpoint(step) as folder:      # this form: of a single writer, see `begin` for many
                torch.save(state, folder / "model.pt")
        if run.should_stop:
            run.exit_for_restart()

Outside a job nothing of this does anything but `checkpoint`, which writes below CHECKPOINT_DIR or `./checkpoints`: the
same script runs anywhere. What is said goes through files (docs/checkpoints.md); no server is asked.
"""
from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Iterator, Mapping, NoReturn, Optional, Union

from .errors import TuttiError

EXIT_RESTART_ME = 85  # "checkpointed, start me again": never charged
_EVERY = 0.2  # seconds between two writes of the progress file

PathLike = Union[str, "os.PathLike[str]"]


def _write(path: Path, text: str, durable: bool) -> None:
    """Whole or absent: under another name, then renamed."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(unfinished, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    os.replace(unfinished, path)
    if durable:
        _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Run:
    """This process, as one rank of an attempt. Read once from the environment; `current()` keeps one."""

    def __init__(self, env: Optional[Mapping[str, str]] = None) -> None:
        self._env = dict(os.environ if env is None else env)
        self._lock = threading.Lock()
        self._told_at = 0.0

    def _number(self, name: str, default: int) -> int:
        try:
            return int(self._env.get(name) or default)
        except ValueError:
            raise TuttiError(f"{name} must be a whole number, not {self._env[name]!r}") from None

    @property
    def managed(self) -> bool:
        """Does Tutti run this process?"""
        return bool(self._env.get("TUTTI_JOB_ID"))

    @property
    def job_id(self) -> int:
        return self._number("TUTTI_JOB_ID", 0)

    @property
    def attempt(self) -> int:
        return self._number("TUTTI_ATTEMPT", 1)

    @property
    def restarts(self) -> int:
        return self._number("TUTTI_RESTART_COUNT", 0)

    @property
    def restart_cause(self) -> str:
        """Why the attempt before this one ended ("gpu", "preempted", …); "" at first."""
        return self._env.get("TUTTI_RESTART_CAUSE", "")

    @property
    def rank(self) -> int:
        return self._number("RANK", 0)

    @property
    def world_size(self) -> int:
        return self._number("WORLD_SIZE", 1)

    # ---- where to resume

    @property
    def checkpoint_dir(self) -> Path:
        return Path(self._env.get("CHECKPOINT_DIR") or "checkpoints")

    @property
    def resume_checkpoint(self) -> Optional[Path]:
        """The folder to begin from; None: from the beginning. Outside a job: the newest whole one there is."""
        if self.managed:
            path = self._env.get("RESUME_CHECKPOINT")
            return Path(path) if path else None
        steps = {step_of(folder): folder for folder in self.checkpoint_dir.glob("step-*")
                 if (folder / "COMPLETE.json").exists()}
        return steps[max(steps)] if steps else None

    @property
    def resume_step(self) -> int:
        """Of `resume_checkpoint`; -1: there is none."""
        path = self.resume_checkpoint
        return -1 if path is None else step_of(path)

    # ---- how far it is

    def progress(self, step: int, *, total: Optional[int] = None, eta_s: Optional[float] = None,
                 compute_s: Optional[float] = None, **metrics: float) -> None:
        """`compute_s`: this rank's own time of the step, before it waits for the others; it names a straggler.
        Cheap: written five times a second at most. Never raises for trouble with the file."""
        path = self._env.get("TUTTI_PROGRESS_FILE")
        now = time.monotonic()
        with self._lock:
            if not path or (now - self._told_at < _EVERY and (total is None or step < total)):
                return
            self._told_at = now
        said: dict[str, Any] = {"step": int(step)}
        for name, value in (("total", total), ("eta_s", eta_s), ("compute_s", compute_s)):
            if value is not None:
                said[name] = value
        said["metrics"] = {name: float(value) for name, value in metrics.items()}
        with contextlib.suppress(OSError):
            _write(Path(path), json.dumps(said), durable=False)

    # ---- when to stop

    @property
    def should_stop(self) -> bool:
        """A planned stop (preemption, maintenance, a person): write a checkpoint and go. All ranks must agree on
        the step before they save; ask after a step, on every rank."""
        path = self._env.get("TUTTI_STOP_FILE")
        return bool(path) and os.path.exists(path)

    @property
    def stop_deadline(self) -> Optional[float]:
        """When it will be killed (time.time()); None: no stop is wanted, or it is not said."""
        path = self._env.get("TUTTI_STOP_DEADLINE_FILE")
        if not path:
            return None
        try:
            return float(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def exit_for_restart(self) -> NoReturn:
        """Ends this process so that the job starts again from its newest checkpoint, free of charge."""
        sys.exit(EXIT_RESTART_ME)

    # ---- checkpoints

    def begin(self, step: int) -> Path:
        """Makes the folder of that step, on one rank, before any rank writes."""
        if self._tool:
            return Path(self._call("begin", str(step)).strip())
        folder = self.checkpoint_dir / f"step-{step}"
        folder.mkdir(parents=True, exist_ok=True)
        for old in (folder / "COMPLETE.json", *folder.glob(".shards/*.json")):
            with contextlib.suppress(FileNotFoundError):
                old.unlink()
        return folder

    def shard(self, step: int, *files: PathLike) -> None:
        """Makes files of that step durable and announces them, on every rank, after writing them."""
        names = [os.fspath(f) for f in files]
        if not names:
            raise TuttiError("shard: name the files that this rank has written")
        if self._tool:
            self._call("shard", str(step), *names)
            return
        folder = self.checkpoint_dir / f"step-{step}"
        sizes = {}
        for name in names:
            path = folder / name
            for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
                with open(file, "rb") as opened:
                    os.fsync(opened.fileno())
                sizes[os.path.relpath(file, folder)] = file.stat().st_size
        notes = folder / ".shards"
        notes.mkdir(exist_ok=True)
        _write(notes / f"rank-{self.rank}-{os.getpid()}.json", json.dumps(sizes), durable=True)

    def commit(self, step: int, *, shards: Optional[int] = None) -> Path:
        """Makes it a checkpoint, on one rank, after all others have announced their files (a barrier is yours to
        make). `shards`: so many files there must be."""
        if self._tool:
            return Path(self._call("commit", str(step), *(["--shards", str(shards)] if shards is not None else [])).strip())
        folder = self.checkpoint_dir / f"step-{step}"
        sizes: dict[str, int] = {}
        for note in sorted((folder / ".shards").glob("*.json")):
            sizes.update(json.loads(note.read_text(encoding="utf-8")))
        if not sizes or (shards is not None and len(sizes) != shards):
            raise TuttiError(f"step {step} has {len(sizes)} files announced, expected {shards or 'some'}")
        for name, size in sizes.items():
            if (folder / name).stat().st_size != size:
                raise TuttiError(f"{folder / name} has changed since it was announced")
        _sync_folder(folder)
        _write(folder / "COMPLETE.json", json.dumps({
            "step": step, "time": time.time(), "shards": len(sizes), "bytes": sum(sizes.values()),
            "epoch": self._number("TUTTI_EPOCH", 0)}), durable=True)
        return folder

    @contextlib.contextmanager
    def checkpoint(self, step: int) -> Iterator[Path]:
        """begin, shard of all that is written into the folder, commit: where one rank writes everything. An
        exception inside leaves no checkpoint."""
        folder = self.begin(step)
        yield folder
        written = sorted(p.name for p in folder.iterdir() if not p.name.startswith(".") and p.name != "COMPLETE.json")
        if not written:
            raise TuttiError(f"nothing was written into {folder}")
        self.shard(step, *written)
        self.commit(step)

    @property
    def _tool(self) -> str:
        """tutti-checkpoint: writes checksums, and refuses an attempt that is being ended."""
        return self._env.get("TUTTI_CHECKPOINT_TOOL", "") if self.managed else ""

    def _call(self, *words: str) -> str:
        folder = self.checkpoint_dir / f"step-{words[1]}"
        done = subprocess.run([self._tool, *words], cwd=folder if folder.is_dir() else None, env=self._env,
                              capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise TuttiError(done.stderr.strip() or f"tutti-checkpoint {words[0]} exited {done.returncode}")
        return done.stdout


def step_of(folder: PathLike) -> int:
    """Of a checkpoint's folder, as its COMPLETE.json or its name says; -1: neither does."""
    path = Path(folder)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return int(json.loads((path / "COMPLETE.json").read_text(encoding="utf-8"))["step"])
    found = re.fullmatch(r"step-(\d+)", path.name)
    return int(found.group(1)) if found else -1


_current: Optional[Run] = None


def current() -> Run:
    """The one of this process."""
    global _current
    if _current is None:
        _current = Run()
    return _current
