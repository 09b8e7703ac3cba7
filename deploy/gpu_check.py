#!/usr/bin/python3
"""./dev gpu-check: what of Tutti needs NVIDIA GPUs, on this machine's own ones.

  1. the NVML contract suite (tests/nvml) against the real libnvidia-ml
  2. an all-reduce over all GPUs (tutti-collective-check-nccl)
  3. the NCCL trainer over all GPUs (charlm-nccl), stopped and resumed by nobody: 40 steps
  4. a cluster on the real devices: `tutti up` with this machine as its node, the trainer as a job

Exit status: 0 all of it passed; 77 skipped, there is no GPU here (said with what was looked for); 1 something failed.
Without a GPU the programs are still looked at: that they were built, that their libraries are found, and that they say
by themselves that there is no device.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

SKIPPED = 77
NO_DEVICE = 69  # training/charlm/exit_codes.h
ROOT = pathlib.Path(__file__).resolve().parent.parent


def say(text):
    print(f"gpu-check: {text}", flush=True)


def find_driver():
    """Path of libnvidia-ml.so.1, and why there is none."""
    listed = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True).stdout
    found = re.search(r"libnvidia-ml\.so\.1 .*=> (\S+)", listed)
    if not os.path.exists("/dev/nvidiactl"):
        return None, "no /dev/nvidiactl (the driver is not loaded)" + ("" if found else ", no libnvidia-ml.so.1")
    if not found:
        return None, "/dev/nvidiactl is there, but no libnvidia-ml.so.1"
    return found.group(1), ""


def count_gpus():
    if not shutil.which("nvidia-smi"):  # as in a container that was given the devices and NVML alone
        return len([name for name in os.listdir("/dev") if re.fullmatch(r"nvidia\d+", name)])
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
    return len([line for line in listed.stdout.splitlines() if line.startswith("GPU ")])


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run_gang(command, ranks, folder, patience):
    """As `launcher: direct` does: one process per GPU. Their statuses."""
    port, children = free_port(), []
    for rank in range(ranks):
        env = dict(os.environ, RANK=str(rank), WORLD_SIZE=str(ranks), LOCAL_RANK=str(rank), LOCAL_WORLD_SIZE=str(ranks),
                   NODE_RANK="0", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), CHECKPOINT_DIR=str(folder / "ckpt"),
                   TUTTI_EPOCH="1", RESUME_CHECKPOINT="", NCCL_DEBUG=os.environ.get("NCCL_DEBUG", "WARN"))
        log = open(folder / f"rank-{rank}.log", "wb")
        children.append(subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT))
    until = time.monotonic() + patience
    statuses = []
    for child in children:
        try:
            statuses.append(child.wait(max(0.1, until - time.monotonic())))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            statuses.append("no end")
    return statuses


def show_logs(folder):
    for log in sorted(folder.glob("rank-*.log")):
        print(f"--- {log.name}", *log.read_text(errors="replace").splitlines()[-15:], sep="\n")


def without_gpus(binaries, why):
    """What can be said all the same. True: nothing is wrong."""
    well = True
    for name in ("charlm-nccl", "tutti-collective-check-nccl"):
        program = binaries / name
        if not program.exists():
            say(f"{name} is not built: CMake has found no CUDA toolkit or no nccl.h")
            continue
        missing = [line.strip() for line in subprocess.run(["ldd", program], capture_output=True, text=True).stdout.splitlines()
                   if "not found" in line and "libcuda.so" not in line]
        if missing:
            say(f"{name} is built, but {'; '.join(missing)}")
            well = False
            continue
        with tempfile.TemporaryDirectory(prefix="tutti-gpu-check-") as scratch:
            folder = pathlib.Path(scratch)
            command = [program, folder / "out.json"] if "collective" in name else [program, "--steps", "1", "--data", ROOT / "docs"]
            status = run_gang(command, 1, folder, 60)[0]
            log = (folder / "rank-0.log").read_text(errors="replace").strip().splitlines()
            if status in (NO_DEVICE, 1):
                say(f"{name} is built and linked; it says by itself: {log[-1] if log else 'nothing'} (status {status})")
            else:
                say(f"{name} without a GPU ended with {status}, expected {NO_DEVICE}")
                well = False
    say(f"skipped: no NVIDIA GPU here: {why}")
    return well


def check_nvml(binaries, library):
    test = binaries / "nvml_test"
    if not test.exists():
        return f"{test} is not built"
    env = dict(os.environ, TUTTI_NVML_LIBRARY=library, TUTTI_BIN=str(binaries), TUTTI_LIB=str(binaries.parent / "lib"))
    return "" if subprocess.run([test, "--gtest_filter=NvmlContract.*"], env=env).returncode == 0 else "the contract is broken"


def check_gang(command, gpus, what):
    with tempfile.TemporaryDirectory(prefix="tutti-gpu-check-") as scratch:
        folder = pathlib.Path(scratch)
        begin = time.monotonic()
        statuses = run_gang([word.replace("@", scratch) for word in command], gpus, folder, 300)
        if all(s == 0 for s in statuses):
            say(f"{what}: {gpus} ranks in {time.monotonic() - begin:.1f} s")
            result = folder / "out.json"
            if result.exists():
                print(result.read_text().strip())
            return ""
        show_logs(folder)
        return f"ranks ended with {statuses}"


def check_cluster(binaries, library, gpus):
    scratch = tempfile.mkdtemp(prefix="tutti-gpu-check-")
    os.chmod(scratch, 0o755)
    log_path = pathlib.Path(scratch, "up.log")
    with open(log_path, "wb") as log:
        up = subprocess.Popen([binaries / "tutti", "up", "--workers", "1", "--nvml-library", library, "--port", "0", "--data",
                               scratch + "/data"], stdout=log, stderr=log, start_new_session=True)
    try:
        until, url = time.monotonic() + 120, None
        while not (url := re.search(r"tutti is up: (http://\S+)", log_path.read_text(errors="replace"))):
            if up.poll() is not None or time.monotonic() > until:
                return "tutti up does not start:\n" + log_path.read_text(errors="replace")[-2000:]
            time.sleep(0.2)
        os.mkdir(scratch + "/ckpt")
        os.chmod(scratch + "/ckpt", 0o777)
        spec = {"name": "gpu-check", "nodes": 1, "resources": {"gpus": gpus}, "launcher": "direct",
                "checkpoint": {"dir": scratch + "/ckpt"}, "time_limit": "10m",
                "run": f"{binaries}/charlm-nccl --steps 40 --checkpoint-every 20 --data {ROOT}/docs"}
        path = pathlib.Path(scratch, "job.json")
        path.write_text(json.dumps(spec))
        done = subprocess.run([binaries / "tutti", "--server", url.group(1), "--token-file", scratch + "/data/token", "submit",
                               path, "--follow"], timeout=900)
        return "" if done.returncode == 0 else f"the job ended with {done.returncode}"
    finally:
        up.send_signal(signal.SIGINT)
        try:
            up.wait(60)
        except subprocess.TimeoutExpired:
            up.kill()
        shutil.rmtree(scratch, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, help="folder of the programs")
    binaries = pathlib.Path(parser.parse_args().bin).resolve()
    library, why = find_driver()
    gpus = count_gpus() if library else 0
    if gpus == 0:
        return SKIPPED if without_gpus(binaries, why or "nvidia-smi -L lists none, or /dev has none") else 1
    say(f"{gpus} GPUs, {library}")
    nccl, allreduce = str(binaries / "charlm-nccl"), str(binaries / "tutti-collective-check-nccl")
    checks = [("NVML contract", lambda: check_nvml(binaries, library)),
              ("all-reduce", lambda: check_gang([allreduce, "@/out.json"], gpus, "all-reduce")),
              ("NCCL trainer", lambda: check_gang([nccl, "--steps", "40", "--checkpoint-every", "20", "--data", str(ROOT / "docs")],
                                                  gpus, "trainer")),
              ("cluster on real devices", lambda: check_cluster(binaries, library, gpus))]
    failed = 0
    for name, check in checks:
        problem = check()
        say(f"{name}: {'ok' if not problem else 'FAILED: ' + problem}")
        failed += bool(problem)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
