"""Everything that waits is cancelled at once while the cluster is full: 100,000 jobs, page by page over REST, by several people. What
runs must not notice, and neither must whoever submits meanwhile. Called by run.py (`./dev bench cancel`)."""
import json
import threading
import time
import urllib.request

from rig import SMALL_SPEC, Fleet, Home, Postgres, Scheduler, row, show, wait_for

PEOPLE = 4
ARRAY = 10_000  # tasks, the most that one may have


class Asker:
    """Requests of one person, over one connection each."""

    def __init__(self, scheduler):
        self.url, self.token = scheduler.url, scheduler.token

    def ask(self, path, body, timeout=60):
        request = urllib.request.Request(self.url + path, data=json.dumps(body).encode(), method="POST",
                                         headers={"Authorization": "Bearer " + self.token, "Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return json.loads(answer.read())


def waiting_spec(name, tasks=0):
    spec = {"name": name, "run": "true", "nodes": 1, "resources": {"gpus": 1}}
    return {**spec, "array": {"range": f"0-{tasks - 1}"}} if tasks else spec


def cancel_all(asker, name, done):
    token, changed = None, 0
    while True:
        page = asker.ask("/v1/jobs:bulk", {"action": "cancel", "filter": {"name": name}, "limit": 1000,
                                           **({"page_token": token} if token else {})})
        changed += page["changed"]
        token = page.get("next_page_token")
        if not token:
            done.append(changed)
            return


def submit_until(stop, asker, took, refused):
    while not stop.is_set():
        began = time.monotonic()
        try:
            asker.ask("/v1/jobs", waiting_spec("bystander"))
            took.append(time.monotonic() - began)
        except OSError:
            refused.append(1)
        stop.wait(0.02)


def bench_cancel(bin_dir, o):
    """100,000 jobs that wait are cancelled at once while 1,000 run: how long it takes, and what others see of it."""
    gpus, jobs = (40, 4_000) if o.smoke else (1000, 100_000)
    each = jobs // PEOPLE
    with Home() as home:
        postgres = Postgres(home)
        scheduler = Scheduler(bin_dir, home, postgres.dsn())
        scheduler.start()
        spec = home.path + "/running.json"
        with open(spec, "w") as f:
            f.write(SMALL_SPEC)
        fleet = Fleet(bin_dir, home, scheduler, workers=gpus // 8, run_ms=3_600_000, window=gpus, batch=100, seconds=20 if o.smoke else 90,
                      spec=spec)
        fleet.wait("phase", "calm")
        running = lambda: postgres.number("SELECT count(*) FROM job WHERE state = 6")
        wait_for(lambda: running() == gpus, 60, f"{gpus} jobs to run")
        asker = Asker(scheduler)
        began = time.monotonic()
        for person in range(PEOPLE):
            for first in range(0, each, ARRAY):
                asker.ask("/v1/jobs", waiting_spec(f"waiting-{person}", min(ARRAY, each - first)))
        submitted = time.monotonic() - began
        stop, took, refused, done = threading.Event(), [], [], []
        bystander = threading.Thread(target=submit_until, args=(stop, Asker(scheduler), took, refused))
        people = [threading.Thread(target=cancel_all, args=(Asker(scheduler), f"waiting-{p}", done)) for p in range(PEOPLE)]
        bystander.start()
        began = time.monotonic()
        for thread in people:
            thread.start()
        for thread in people:
            thread.join()
        seconds = time.monotonic() - began
        stop.set()
        bystander.join()
        still = running()
        calm = fleet.result()["calm"]
    took.sort()
    rows = show([
        row(f"{jobs:,} tasks of arrays submitted", submitted, "s"),
        row(f"{sum(done):,} jobs that wait cancelled by {PEOPLE} people, 1,000 a page", seconds, "s"),
        row("  jobs cancelled, of those that waited", sum(done) / jobs, least=1),
        row("  jobs that run and went on", still / gpus, least=1),
        row("  leases lapsed", calm["leases_lapsed"], most=0, digits=0),
        row("  links lost", calm["links_lost"], most=0, digits=0),
        row("  parts of jobs stopped", calm["parts_stopped"], most=0, digits=0),
        row("  heartbeat → acknowledged, p99", calm["heartbeats"]["p99_ms"], "ms"),
        row(f"  somebody else's submission, p99 of {len(took)}", 1000 * took[min(len(took) - 1, int(0.99 * len(took)))] if took else 0, "ms"),
        row("  of these refused", len(refused), most=0, digits=0)])
    return {"rows": rows, "seconds": seconds, "submitted": submitted, "others": took, "fleet": calm}
