#!/usr/bin/python3
"""Handwritten digits, learned data-parallel with PyTorch's DistributedDataParallel.

Started by torchrun (or training/torchrun), or directly, one process per rank, with RANK, WORLD_SIZE, LOCAL_RANK,
MASTER_ADDR and MASTER_PORT; with none of them it trains alone. NCCL where CUDA is available, else Gloo.

Keeps the checkpoint and stop contract of charlm (README.md), with the same exit statuses. Invariants:
1. After every step all ranks hold the same bits; gradients are summed as fixed-point integers, because Gloo, NCCL
   and DDP's buckets each choose an order of addition, and DDP rebuilds its buckets after the first iteration: a
   resumed run would add in another order than the uninterrupted one.
2. The loss is a function of (seed, world size, options, data) alone; samples come from (seed, step, rank).
3. COMPLETE.json exists only over shards that are whole and durable.
"""
import os
import select
import signal
import sys
import time

STOP = {"wanted": False}
WAKE_READ, WAKE_WRITE = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)


def install_stop_signal():
    """Before torch is imported, which takes a second or two. Without CHECKPOINT_DIR the signal keeps its default
    effect: exit 85 would promise a checkpoint that is not there."""
    if os.environ.get("CHECKPOINT_DIR"):
        signal.signal(signal.SIGTERM, lambda *_: STOP.update(wanted=True))
        signal.set_wakeup_fd(WAKE_WRITE, warn_on_full_buffer=False)


install_stop_signal()
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else CUDA refuses deterministic algorithms

import argparse  # noqa: E402
import csv  # noqa: E402
import datetime  # noqa: E402
import gzip  # noqa: E402
import hashlib  # noqa: E402
import io  # noqa: E402
import json  # noqa: E402
import socket  # noqa: E402

import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402
from torch.nn.parallel import DistributedDataParallel  # noqa: E402

EXIT_USAGE, EXIT_CHECKPOINT_REFUSED, EXIT_NO_DATA = 64, 65, 66
EXIT_DIVERGED, EXIT_IO, EXIT_PEER_LOST, EXIT_RESTART_ME = 70, 74, 76, 85
FIXED_POINT_ONE = 2.0**40
FIXED_POINT_LIMIT = 1024.0
PROGRESS_INTERVAL = 0.2
SHARD = "shard-00000-of-00001.pt"


class Failure(Exception):
    def __init__(self, status, message):
        super().__init__(message)
        self.status = status


def say(text):
    sys.stdout.write(text + "\n")  # in one piece: the ranks of a node may share a pipe
    sys.stdout.flush()


# ---- files ----------------------------------------------------------------------------------------------------------


def sync_directory(path):
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_file(path, content, durable):
    """Whole or absent: written under another name, then renamed."""
    unfinished = path + ".tmp"
    with open(unfinished, "wb") as out:
        out.write(content)
        out.flush()
        if durable:
            os.fsync(out.fileno())
    os.replace(unfinished, path)
    if durable:
        sync_directory(os.path.dirname(path) or ".")


def load_digits(path):
    """1797 images of 8x8 pixels, 0..16, and their digit; every fifth row is held out."""
    try:
        with open(path, "rb") as raw:
            packed = raw.read()
        rows = list(csv.reader(io.TextIOWrapper(gzip.GzipFile(fileobj=io.BytesIO(packed)), encoding="ascii")))
        table = torch.tensor([[float(x) for x in row] for row in rows])
    except (OSError, ValueError, EOFError) as error:
        raise Failure(EXIT_NO_DATA, f"{path}: {error}; training/fetch-digits gets it") from error
    images, digits = table[:, :64] / 16.0, table[:, 64].long()
    held_out = torch.arange(len(rows)) % 5 == 4
    return images, digits, held_out, hashlib.sha256(packed).hexdigest()


# ---- the gang -------------------------------------------------------------------------------------------------------


def to_fixed_point(values):
    if not torch.isfinite(values).all():
        raise Failure(EXIT_DIVERGED, "the gradient is not finite: lower --lr")
    return (values.double().clamp(-FIXED_POINT_LIMIT, FIXED_POINT_LIMIT) * FIXED_POINT_ONE).round().long()


class Gang:
    def __init__(self):
        self.rank = int(os.environ.get("RANK", "0"))
        self.size = int(os.environ.get("WORLD_SIZE", "1"))
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        cuda = torch.cuda.is_available()
        if cuda:
            torch.cuda.set_device(self.local_rank % torch.cuda.device_count())
        self.device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")
        self.backend = "nccl" if cuda else "gloo"
        self.first_hook_at = None  # when this step's first bucket was ready: the end of our own work
        timeout = datetime.timedelta(seconds=60)
        if "WORLD_SIZE" in os.environ:
            dist.init_process_group(self.backend, timeout=timeout)
        else:
            dist.init_process_group(self.backend, store=dist.HashStore(), rank=0, world_size=1, timeout=timeout)

    def sum(self, values):
        tensor = torch.tensor(values, dtype=torch.int64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def require_agreement(self, digest, what):
        """If the sum is `size` times my value on every rank, all values are equal."""
        mine = int(digest[:12], 16)
        if self.sum([mine])[0] != mine * self.size:
            raise Failure(EXIT_DIVERGED, f"the ranks do not agree on {what}")

    def average_bucket(self, _state, bucket):
        """DDP's communication hook, see invariant 1."""
        if self.first_hook_at is None:
            self.first_hook_at = time.monotonic()
        fixed = to_fixed_point(bucket.buffer())
        dist.all_reduce(fixed)
        averaged = torch.futures.Future()
        averaged.set_result((fixed.double() / (FIXED_POINT_ONE * self.size)).to(bucket.buffer().dtype))
        return averaged


# ---- training -------------------------------------------------------------------------------------------------------


class Progress:
    """$TUTTI_PROGRESS_FILE, at most five times a second."""

    def __init__(self, gang, first_step, total):
        self.path = os.environ.get("TUTTI_PROGRESS_FILE", "").replace("%r", str(gang.rank))
        self.first_step, self.total, self.started = first_step, total, time.monotonic()
        self.written, self.compute, self.steps = float("-inf"), 0.0, 0

    def on_step(self, step, compute, loss, last):
        if not self.path:
            return
        self.compute += compute
        self.steps += 1
        now = time.monotonic()
        if not last and now - self.written < PROGRESS_INTERVAL:
            return
        per_step = (now - self.started) / (step - self.first_step)
        report = {
            "step": step,
            "total": self.total,
            "eta_s": per_step * (self.total - step),
            "compute_s": self.compute / self.steps,
            "metrics": {"loss": loss, "step_s": per_step},
        }
        try:
            write_file(self.path, json.dumps(report).encode() + b"\n", durable=False)
        except OSError as error:  # a full disk costs the report, not the run
            print(f"ddp: no progress report: {error}", file=sys.stderr)
        self.written, self.compute, self.steps = now, 0.0, 0


class Trainer:
    def __init__(self, options, gang):
        self.options, self.gang, self.step = options, gang, 0
        self.epoch = int(os.environ.get("TUTTI_EPOCH") or 0)
        self.checkpoint_dir = os.environ.get("CHECKPOINT_DIR", "")
        self.stop_file = os.environ.get("TUTTI_STOP_FILE", "")
        images, digits, held_out, data_digest = load_digits(options.data)
        self.train_images, self.train_digits = images[~held_out].to(gang.device), digits[~held_out].to(gang.device)
        self.test_images, self.test_digits = images[held_out].to(gang.device), digits[held_out].to(gang.device)
        self.identity = {"seed": options.seed, "hidden": options.hidden, "data": data_digest}

        torch.manual_seed(options.seed)
        model = torch.nn.Sequential(
            torch.nn.Linear(64, options.hidden), torch.nn.Tanh(), torch.nn.Linear(options.hidden, 10)
        ).to(gang.device)
        self.optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)
        self.model = model
        self.resume()
        plan = f"{self.state_digest()} {sorted(vars(options).items())} {bool(self.checkpoint_dir)}"
        gang.require_agreement(hashlib.sha256(plan.encode()).hexdigest(), "data, options and starting point")
        self.ddp = DistributedDataParallel(model)
        self.ddp.register_comm_hook(None, gang.average_bucket)

    def state_digest(self):
        digest = hashlib.sha256(str(self.step).encode())
        for parameter in self.model.parameters():
            digest.update(bytes(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).tolist()))
        return digest.hexdigest()

    def run(self):
        progress = Progress(self.gang, self.step, self.options.steps)
        while self.step < self.options.steps:
            began = time.monotonic()
            loss, stop, compute = self.train_step()
            last = self.step == self.options.steps
            progress.on_step(self.step, compute, loss, last or stop)
            if self.gang.rank == 0 and (last or stop or self.step % self.options.log_every == 0):
                say(f"step {self.step}/{self.options.steps} loss {loss:.4f} compute {compute * 1000:.1f} ms")
            every = self.options.checkpoint_every
            if self.checkpoint_dir and (stop or (every and (last or self.step % every == 0))):
                self.save()
            if stop and not last:
                if self.gang.rank == 0:
                    say(f"planned stop after step {self.step}, exit {EXIT_RESTART_ME}")
                return EXIT_RESTART_ME
            self.pause_until(began + self.options.step_ms / 1000)
        self.report_final()
        return 0

    def train_step(self):
        began = time.monotonic()
        generator = torch.Generator()
        generator.manual_seed(((self.options.seed * 1_000_003 + self.step) * 4096 + self.gang.rank) % 2**63)
        rows = torch.randint(len(self.train_digits), (self.options.batch,), generator=generator).to(self.gang.device)
        self.gang.first_hook_at = None
        self.optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(self.ddp(self.train_images[rows]), self.train_digits[rows])
        loss.backward()
        compute = (self.gang.first_hook_at or time.monotonic()) - began
        self.optimizer.step()
        self.step += 1
        total, stops = self.gang.sum([int(to_fixed_point(loss.detach())), int(self.stop_wanted())])
        return total / (FIXED_POINT_ONE * self.gang.size), stops > 0, compute

    def stop_wanted(self):
        if not self.checkpoint_dir:
            return False
        return STOP["wanted"] or (self.stop_file != "" and os.path.exists(self.stop_file))

    @staticmethod
    def pause_until(until):
        """Pacing; a stop signal ends it, through the wake-up pipe."""
        while not STOP["wanted"] and (left := until - time.monotonic()) > 0:
            if select.select([WAKE_READ], [], [], left)[0]:
                os.read(WAKE_READ, 64)

    def report_final(self):
        self.gang.require_agreement(self.state_digest(), "the final state")
        if self.gang.rank == 0:
            with torch.no_grad():
                scores = self.model(self.test_images)
                loss = torch.nn.functional.cross_entropy(scores, self.test_digits).item()
                right = (scores.argmax(1) == self.test_digits).float().mean().item()
            say(f"final loss {loss:.9f} accuracy {right:.4f}")

    # ---- checkpoints: DDP keeps every rank the same, so one shard holds all --------------------------------------

    def save(self):
        step_dir = os.path.join(self.checkpoint_dir, f"step-{self.step}")
        self.gang.require_agreement(self.state_digest(), f"the state at step {self.step}")
        if self.gang.rank == 0:
            try:
                self.write_checkpoint(step_dir)
            except OSError as error:
                raise Failure(EXIT_IO, f"cannot write {step_dir}: {error}") from error
            say(f"checkpoint step-{self.step} complete")
        self.gang.sum([1])  # no rank may leave before the commit: a planned stop ends the process next

    def write_checkpoint(self, step_dir):
        complete = os.path.join(step_dir, "COMPLETE.json")
        os.makedirs(step_dir, exist_ok=True)
        if os.path.exists(complete):  # of an earlier attempt: it stops being a checkpoint before it is replaced
            with open(complete, "rb") as old:
                if int(json.load(old).get("epoch", 0)) > self.epoch:
                    raise Failure(EXIT_IO, f"{step_dir} belongs to a later epoch than ours, this attempt is over")
            os.remove(complete)
            sync_directory(step_dir)
        sync_directory(self.checkpoint_dir)
        buffer = io.BytesIO()
        state = {"step": self.step, "model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        torch.save({**state, "identity": self.identity}, buffer)
        content = buffer.getvalue()
        write_file(os.path.join(step_dir, SHARD), content, durable=True)
        digest = f"{hashlib.sha256(content).hexdigest()}  {SHARD}\n"  # `sha256sum -c SHA256SUMS` checks it too
        write_file(os.path.join(step_dir, "SHA256SUMS"), digest.encode(), durable=True)
        commit = {"step": self.step, "time": int(time.time()), "shards": 1, "bytes": len(content), "epoch": self.epoch}
        write_file(complete, json.dumps(commit).encode() + b"\n", durable=True)

    def resume(self):
        step_dir = os.environ.get("RESUME_CHECKPOINT", "")
        if not step_dir:
            return
        try:
            with open(os.path.join(step_dir, "COMPLETE.json"), "rb") as complete:
                step = int(json.load(complete)["step"])
            with open(os.path.join(step_dir, "SHA256SUMS"), encoding="ascii") as sums:
                expected = sums.read().split()[0]
            with open(os.path.join(step_dir, SHARD), "rb") as shard:
                content = shard.read()
        except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
            raise Failure(EXIT_CHECKPOINT_REFUSED, f"checkpoint refused: {step_dir}: {error!r}") from error
        # Before unpickling: a corrupt pickle does not fail cleanly.
        if hashlib.sha256(content).hexdigest() != expected:
            raise Failure(EXIT_CHECKPOINT_REFUSED, f"checkpoint refused: {step_dir}/{SHARD}: checksum does not match")
        state = torch.load(io.BytesIO(content), map_location=self.gang.device)
        if state["identity"] != self.identity or state["step"] != step:
            raise Failure(EXIT_CHECKPOINT_REFUSED, f"checkpoint refused: {step_dir}: it is of another run")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = step
        if self.gang.rank == 0:
            say(f"resumed {step_dir} at step {step}")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default=".tutti/cache/digits.csv.gz", help="from training/fetch-digits")
    parser.add_argument("--steps", type=int, default=300, help="steps of the whole run, resumed ones included")
    parser.add_argument("--batch", type=int, default=32, help="images per rank and step")
    parser.add_argument("--hidden", type=int, default=64, help="width of the hidden layer")
    parser.add_argument("--lr", type=float, default=0.003, help="learning rate of Adam")
    parser.add_argument("--seed", type=int, default=1, help="of the weights and the samples")
    parser.add_argument("--step-ms", type=int, default=0, help="pacing: a step takes at least so many milliseconds")
    parser.add_argument("--checkpoint-every", type=int, default=0, help="steps; 0: at a planned stop only")
    parser.add_argument("--log-every", type=int, default=20, help="steps between log lines")
    options = parser.parse_args()
    if min(options.batch, options.hidden, options.log_every, options.steps) < 1 or options.checkpoint_every < 0:
        raise Failure(EXIT_USAGE, "--steps, --batch, --hidden and --log-every must be at least 1")
    return options


def main():
    options = parse_options()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    gang = Gang()
    say(
        f"rank {gang.rank}/{gang.size} local {gang.local_rank} host {socket.gethostname()} pid {os.getpid()} "
        f"backend {gang.backend} CUDA_VISIBLE_DEVICES={os.environ.get('CUDA_VISIBLE_DEVICES') or '(unset)'}"
    )
    status = Trainer(options, gang).run()
    gang.sum([0])  # all are here: nobody sees a peer vanish while it still waits
    return status


def guarded_main():
    who = f"ddp: rank {os.environ.get('RANK', '0')}"
    try:
        return main()
    except Failure as failure:
        print(f"{who}: {failure} (exit {failure.status})", file=sys.stderr)
        return failure.status
    except RuntimeError as error:  # all torch.distributed has to say about a lost peer
        print(f"{who}: {error} (exit {EXIT_PEER_LOST})", file=sys.stderr)
        return EXIT_PEER_LOST


if __name__ == "__main__":
    STATUS = guarded_main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Without the interpreter's own end: it gives SIGTERM back its default effect, and torchrun sends one to every
    # rank that is still there when the first has exited 85. Nothing is left to clean up: files are durable.
    os._exit(STATUS)
