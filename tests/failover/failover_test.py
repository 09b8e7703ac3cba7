#!/usr/bin/python3
"""PostgreSQL fails over under a running cluster: real Patroni, etcd and two PostgreSQL 15 with synchronous replication, two
schedulers with a connection string of both hosts, two workers with simulated GPUs and a gang, and clients that submit all the time.

    ./dev test failover
    TUTTI_BIN=build/release/bin tests/failover/failover_test.py [--keep] [CASE ...]
    TUTTI_BIN=build/release/bin tests/failover/failover_test.py --rounds 6      the figures of docs/failover.md

After each case: no accepted job is lost and no key has two jobs; the gang has the same attempt and processes, and its log has gone
on until now; no scheduler has crashed. Where the end of the database is known to the moment (the primary or its postmaster is killed,
with a silent standby too, or the disk is full): nothing was decided while it could not be written. In the other cases somebody
takes commits nearly all the time, so only what was decided later is judged. Exit 77: programs are missing."""
import argparse
import json
import os
import re
import shutil
import signal
import statistics
import sys
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cluster import Failure, Home, PatroniCluster, alive, eventually  # noqa: E402
from disturb import Flood, SilentStandby, SmallDisk, Strangers  # noqa: E402
from gap import Gap, say  # noqa: E402
from programs import BIN, Asked, Tutti  # noqa: E402
from proxy import Proxy  # noqa: E402

ACCEPTED_WITHIN = 5  # seconds after the promotion
NO_ROOM = "connection slots|too many clients"
GIVEN_UP = "the store is lost: .*no answer in time"
DECLINED = "i am not the healthiest node"  # Patroni's words
OPTIONS = argparse.Namespace(keep=False, rounds=0)
# With sanitizers: what is freed must not count as memory in use.
os.environ.setdefault("ASAN_OPTIONS", "quarantine_size_mb=16")


class FailoverTest(unittest.TestCase):
    current = None

    def setUp(self):
        FailoverTest.current = self
        print(f"\n{self.id().split('.')[-1]}: {self.shortDescription()}", flush=True)
        self.home = Home()
        self.addCleanup(lambda: self.home.end(keep=OPTIONS.keep or self.broken()))

    def broken(self):
        result = self._outcome and self._outcome.result  # None: we were interrupted
        failed = result and any(test is self for test, _ in result.failures + result.errors)
        if failed:
            say(f"what was written is left in {self.home.path}")
        return failed

    def start(self, members=2, dsn=None, flags=(), schedulers=2, **options):
        began = time.monotonic()
        self.cluster = PatroniCluster(self.home, members, **options)
        self.tutti = Tutti(self.home, self.cluster, dsn=dsn and dsn(self.cluster), flags=flags, schedulers=schedulers)
        self.tutti.begin()
        say(f"up after {time.monotonic() - began:.1f} s")

    def check(self, gap_begin, gap_end):
        """What holds after every case. Where both times are the same no gap is judged: somebody took commits, or may have."""
        self.tutti.load.await_more(20)
        count = self.tutti.expect_each_once()
        self.tutti.await_linked()
        self.tutti.expect_gang_untouched(log_until=time.time())
        if gap_begin < gap_end:
            self.tutti.expect_nothing_decided(gap_begin, gap_end)
        self.tutti.expect_later_decisions(gap_end)
        self.tutti.expect_one_owner()
        self.tutti.expect_no_crash()
        say(f"{count} accepted jobs, each there once; refused meanwhile: {dict(self.tutti.load.refusals)}")

    def fail_over(self, old):
        """kill -9 of the primary and its Patroni, until jobs are accepted again."""
        gap = Gap(self.tutti)
        old.kill_hard()
        self.tutti.let_brief_jobs_end()
        gap.await_promotion(old)
        gap.await_accepted()
        gap.tell("kill")
        return gap

    # ---------------------------------------------------------------- cases

    def test_1_killed_primary(self):
        """kill -9 of the primary's postmaster and its Patroni"""
        self.start()
        old = self.cluster.primary()
        gap = self.fail_over(old)
        self.assertLess(gap.accepted - gap.promoted, ACCEPTED_WITHIN)
        self.check(gap.begin, gap.promoted)
        gap.expect_told()
        old.start()
        self.cluster.await_synchronous()

    def test_1_killed_postmaster(self):
        """kill -9 of the postmaster alone: its Patroni gives way to the standby"""
        self.start()
        old, gap = self.cluster.primary(), Gap(self.tutti)
        os.kill(old.postmaster(), signal.SIGKILL)
        self.tutti.let_brief_jobs_end()
        gap.await_promotion(old)
        gap.await_accepted()
        gap.tell("kill")
        self.assertLess(gap.accepted - gap.promoted, ACCEPTED_WITHIN)
        self.check(gap.begin, gap.promoted)
        gap.expect_told()
        self.cluster.await_synchronous()

    def test_2_switchover(self):
        """patronictl switchover"""
        self.start()
        gap = Gap(self.tutti)
        self.tutti.let_brief_jobs_end()
        old = self.cluster.primary()
        with self.cluster.switchover():
            gap.await_promotion(old)
        gap.await_accepted()
        gap.tell("switchover")
        self.assertLess(gap.accepted - gap.promoted, ACCEPTED_WITHIN)
        self.check(gap.begin, gap.begin)  # the old one takes commits until it is stopped
        gap.expect_told()
        self.cluster.await_synchronous()

    def test_3_zombie_primary(self):
        """Patroni and the postmaster are paused: sessions go on at a primary that is none any more, until it is let go"""
        self.start()
        self.zombie(everything=False)

    def test_3_frozen_primary(self):
        """the whole primary is paused and let go later, as a machine that hangs"""
        self.start()
        self.zombie(everything=True)

    def test_3_patroni_alone_dies(self):
        """kill -9 of Patroni alone, without a watchdog: its PostgreSQL goes on as a second primary, first in the connection string"""
        self.start()
        old = self.cluster.primary()
        self.assertIs(old, self.cluster.members[0])
        gap = Gap(self.tutti)
        old.child.process.kill()
        gap.await_promotion(old)
        gap.await_accepted()
        gap.tell("Patroni killed")
        self.assertTrue(self.cluster.sql("SELECT 1 WHERE NOT pg_is_in_recovery()", member=old), "the old one is a primary still")
        self.tutti.let_brief_jobs_end()
        self.tutti.load.await_more(20)
        old.start()
        eventually("the old primary follows", lambda: old.role() in ("replica", "sync_standby"), said=self.cluster.said)
        self.cluster.await_synchronous()
        self.check(gap.promoted, gap.promoted)
        self.assertIsNot(self.cluster.primary(), old)

    def zombie(self, everything):
        old, gap = self.cluster.primary(), Gap(self.tutti)
        old.pause(everything)
        self.addCleanup(old.resume)
        gap.await_promotion(old)
        gap.await_accepted()
        gap.tell("paused")
        # Who leads holds the lock at the new primary, and what was accepted meanwhile is there, not at the old one.
        eventually("the lead is held at the new primary",
                   lambda: self.cluster.sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1", "tutti"))
        self.tutti.let_brief_jobs_end()
        before = time.time()
        self.tutti.load.await_more(20)
        old.resume()
        eventually("the old primary follows", lambda: old.role() in ("replica", "sync_standby"), said=self.cluster.said)
        self.cluster.await_synchronous()
        say(f"the old primary follows {time.time() - before:.1f} s after it was let go")
        self.check(gap.promoted, gap.promoted)
        self.assertNotEqual(self.cluster.primary(), old)

    def test_4_killed_backends(self):
        """every session is ended by pg_terminate_backend, ten times in a row"""
        self.start()
        begin, pauses = time.time(), []
        for _ in range(10):
            killed = time.time()
            self.cluster.sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'tutti'")
            done = time.time()
            eventually("submissions are accepted again", lambda done=done: self.tutti.load.after(done), 20)
            pauses.append(self.tutti.load.after(done).at - killed)
            self.tutti.load.await_more(5)
        say(f"sessions ended -> accepted: p50 {statistics.median(pauses):.2f} s, max {max(pauses):.2f} s")
        self.tutti.let_brief_jobs_end()
        self.check(begin, begin)
        self.assertLess(max(pauses), ACCEPTED_WITHIN)

    def test_5_no_connection_left(self):
        """strangers take every connection: sessions that are there go on; when they are lost nothing is accepted, and it is said why"""
        self.start(parameters={"max_connections": 40, "max_wal_senders": 4, "superuser_reserved_connections": 5})
        strangers = Strangers(self.home, self.cluster)
        self.assertTrue(strangers.full.wait(30), "strangers find room for ever")
        self.tutti.load.await_more(40, "submissions go on beside strangers", 20)
        say(f"{len(strangers.sessions)} strangers: the sessions that are there go on")
        gap = Gap(self.tutti)
        strangers.take_places_of("tutti")
        shut_out = time.time()
        self.tutti.let_brief_jobs_end()
        say(f"{len(strangers.sessions)} strangers: nobody else has a session")
        for scheduler in self.tutti.schedulers:
            self.expect_no_room(scheduler, shut_out)
        self.tutti.load.await_refusals(40)
        self.assertEqual(self.tutti.load.asked_after(shut_out), [], "accepted, and nobody had a session")
        self.assertEqual(strangers.sessions_of("tutti"), 0)
        leaving = time.time()
        strangers.leave()
        gap.promoted = time.time()
        gap.await_accepted()
        say(f"strangers gone -> accepted {gap.accepted - gap.promoted:.2f} s")
        self.check(shut_out, leaving)
        gap.expect_told()

    def expect_no_room(self, scheduler, since):
        """/readyz, the log and the answer to a submission."""
        def refused():
            told = [t[3] for t in self.tutti.watch.between(since, time.time()) if t[1:3] == (scheduler.name, 503)]
            told = [t for t in told if re.search(NO_ROOM, str(t))]
            return told and told[-1]
        told = eventually(f"/readyz of {scheduler.name} says that there is no connection", refused, 20,
                          said=lambda: str(self.tutti.watch.seen[-2:]))
        eventually(f"the log of {scheduler.name} says why", lambda: scheduler.lines(since, NO_ROOM), 20)
        status, body, headers = Asked(scheduler.port, scheduler.token)("POST", "/v1/jobs", json.dumps({"name": "refused", "run": "true"}))
        self.assertEqual(status, 503, body)
        self.assertIn("Retry-After", headers)
        say(f"{scheduler.name}: a submission is {status}, /readyz: {told.get('detail')}")

    def test_6_full_disk(self):
        """the disk of the database is full to the last byte, and has room again"""
        if os.getuid() != 0:
            self.skipTest("mounts a small file system: needs root")
        disk = SmallDisk(self.home, 280)
        self.start(members=1, schedulers=1, disk=disk.path, parameters={"max_wal_size": "48MB", "min_wal_size": "32MB", "wal_keep_size": 0})
        process = self.tutti.schedulers[0].child.pid
        begin = time.time()
        disk.fill()

        def refused():
            told = [t for t in self.tutti.watch.between(begin, time.time()) if t[2] == 503]
            return told and told[-1]
        told = eventually("/readyz says that nothing can be written", refused, 60)
        say(f"full: /readyz after {told[0] - begin:.1f} s: {told[3].get('detail')}")
        member = self.cluster.members[0]
        postmaster, deadline = member.postmaster(), time.monotonic() + 60
        while member.postmaster() == postmaster and alive(postmaster) and time.monotonic() < deadline:
            try:  # until the log has no room either
                self.cluster.sql("SELECT pg_logical_emit_message(false, 'fill', repeat('x', 4000000))", member=member)
            except OSError:
                break
        full = time.time()
        self.tutti.let_brief_jobs_end()
        eventually("nothing is accepted", lambda: (last := self.tutti.load.accepted[-1].at) and time.time() - last > 2, 30)
        disk.free()
        freed = time.time()
        eventually("submissions are accepted again", lambda: self.tutti.load.after(freed), said=self.cluster.said)
        say(f"room again -> accepted {self.tutti.load.after(freed).at - freed:.2f} s; PostgreSQL "
            + ("has ended meanwhile, and Patroni has started it" if member.postmaster() != postmaster else "has lived"))
        self.check(full, freed - 1)
        self.assertEqual(self.tutti.schedulers[0].child.pid, process, "the scheduler was started again")

    def test_7_slow_commits(self):
        """the synchronous standby is silent for 3 s and more clients come than are taken: refused, not kept in memory"""
        self.start(flags=["--max-connections-per-address", "200"])
        leader = self.tutti.await_leader()
        before = leader.resident()
        begin = time.time()
        silent = SilentStandby(self.home, self.cluster.standby())
        flood = Flood(leader.port, leader.token, clients=400)
        eventually("clients are refused", lambda: 503 in flood.statuses().values(), 10)
        most = before
        while time.time() - begin < 3:
            most = max(most, leader.resident())
            time.sleep(0.02)
        silent.stop()
        over = time.time()
        statuses = flood.finish()
        most = max(most, leader.resident())
        count = {status: list(statuses.values()).count(status) for status in set(statuses.values())}
        say(f"400 clients more: answers {count}, memory {before >> 20} -> {most >> 20} MiB")
        self.assertLess(most - before, 100 << 20)
        taken = {key for key, status in statuses.items() if status in (200, 201)}
        there = {name for [name] in self.cluster.sql("SELECT name FROM job_spec WHERE name LIKE 'k9-%'", "tutti")}
        self.assertTrue(taken <= there, f"accepted and lost: {taken - there}")
        slow = [t for t in self.tutti.watch.between(begin + 1, over) if t[1] == leader.name]
        say(f"/readyz meanwhile: {slow[-1][2]} {json.dumps(slow[-1][3])}")
        self.assertIn("slow_commits", json.dumps(slow[-1][3]), "/readyz does not tell of the latency")
        eventually("submissions are accepted again", lambda: self.tutti.load.after(over), 20)
        say(f"standby back -> accepted {self.tutti.load.after(over).at - over:.2f} s")
        self.tutti.let_brief_jobs_end()
        self.check(begin, begin)

    def test_7_standby_silent_for_long(self):
        """the synchronous standby is silent for longer than a commit may take, then the primary dies: what was accepted is there"""
        self.start(parameters={"wal_sender_timeout": 0})  # the standby is not struck off: that is the next case
        old, standby, gap = self.cluster.primary(), self.cluster.standby(), Gap(self.tutti)
        silent, gave_up = self.silence(old, standby)
        self.tutti.let_brief_jobs_end()
        gap.begin = time.time()
        old.kill_hard()
        # The standby is on the list, and nobody is left who could strike it off.
        self.assertEqual(self.cluster.may_succeed(), (old.name, [standby.name]))
        early = self.tutti.load.asked_after(silent.since) + [a for a in self.tutti.load.accepted if a.at > gave_up]
        self.assertEqual(early, [], "accepted, and only the primary had it")
        silent.stop()
        gap.await_promotion(old)
        gap.await_accepted()
        gap.tell("kill")
        self.check(gave_up, gap.promoted)

    def test_7_standby_struck_off(self):
        """the silent standby is struck off the list and the primary goes on alone, then dies: nobody takes over, it comes back with all"""
        self.start(parameters={"wal_sender_timeout": 0})
        old, standby = self.cluster.primary(), self.cluster.standby()
        silent, _ = self.silence(old, standby)
        self.cluster.set_at(old, "wal_sender_timeout", "1s")
        eventually("the standby is struck off", lambda: self.cluster.may_succeed() == (old.name, []), said=self.cluster.said)
        alone = time.time()
        self.cluster.set_at(old, "wal_sender_timeout", "0")
        self.tutti.load.await_more(40)
        say(f"struck off -> accepted {self.tutti.load.after(alone).at - alone:.2f} s")
        gap = Gap(self.tutti)
        old.kill_hard()
        killed = time.time()
        silent.stop()
        self.tutti.let_brief_jobs_end()
        eventually("the key of the old primary has run out", lambda: not self.cluster.etcd.value("leader"), said=self.cluster.said)
        declined = standby.has_said(DECLINED)
        eventually("the standby declines, again and again", lambda: standby.has_said(DECLINED) >= declined + 3, said=self.cluster.said)
        self.assertIsNone(self.cluster.primary(), "what was accepted is not there")
        self.assertEqual(self.tutti.load.asked_after(killed), [], "accepted without a primary")
        back = time.time()
        old.start()
        gap.await_promotion(standby)
        gap.await_accepted()
        say(f"the old primary is started -> primary {gap.promoted - back:.1f} s, then accepted {gap.accepted - gap.promoted:.2f} s")
        self.check(gap.begin, back)
        gap.expect_told()
        self.cluster.await_synchronous()

    def silence(self, old, standby, tries=5):
        """Stops the standby's receiver until jobs are there at the primary that it does not have: their commit was given up, the
        session in which it waited was told to end, and who reads at the primary finds them. Whether there was a submission in the
        commit that was given up is chance; if not, then once more. Their clients ask again meanwhile. Also when it was given up."""
        load = self.tutti.load
        holder = ("SELECT a.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
                  " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1")
        for _ in range(tries):
            [[leads]] = self.cluster.sql(holder, member=old)
            silent = SilentStandby(self.home, standby)
            eventually("a commit is given up", lambda since=silent.since: self.tutti.lines(since, GIVEN_UP), 30)
            gave_up = time.time()
            eventually("the next commit of a leader waits as well, in another session", lambda leads=leads: self.cluster.sql(
                f"{holder} AND a.wait_event = 'SyncRep' AND a.pid <> {leads}", member=old), 30, said=lambda: str(self.tutti.lines(gave_up - 1, "")))
            there = [{name for [name] in self.cluster.sql("SELECT name FROM job_spec WHERE name ~ '^k[0-9]+-'", "tutti", member=m)}
                     for m in (old, standby)]
            if only_there := there[0] - there[1] - {a.key for a in list(load.accepted)}:
                before = dict(load.tries)
                eventually("their clients ask again", lambda: all(load.tries[key] >= before[key] + 5 for key in only_there), 30)
                say(f"the primary alone has {len(only_there)} jobs, and nobody was told of them")
                return silent, gave_up
            silent.stop()
            load.await_more(20)
        raise Failure(f"no commit with a submission in it was given up, {tries} times")

    def test_8_cut_in_commit(self):
        """the connection is cut after COMMIT was sent and before its answer, or just before it was sent"""
        proxies = []

        def through_proxies(cluster):
            proxies.extend(Proxy(self.home, m.port) for m in cluster.members)
            return cluster.dsn([p.port for p in proxies])
        self.start(dsn=through_proxies)
        begin, pauses = time.time(), []
        for how in ("committed", "rolled back") * 5:
            proxy = proxies[self.cluster.members.index(self.cluster.primary())]
            done = len(proxy.cuts)
            proxy.cut(how)
            eventually(f"a commit is cut ({how})", lambda proxy=proxy, done=done: len(proxy.cuts) > done, 20)
            cut = time.time()
            eventually("submissions are accepted again", lambda cut=cut: self.tutti.load.after(cut), 20)
            pauses.append(self.tutti.load.after(cut).at - cut)
            self.tutti.load.await_more(5)
        say(f"cut -> accepted: p50 {statistics.median(pauses):.2f} s, max {max(pauses):.2f} s")
        self.tutti.let_brief_jobs_end()
        self.check(begin, begin)
        self.assertLess(max(pauses), ACCEPTED_WITHIN)


def figures(rounds):
    """Fail-over again and again on one cluster; the killed one joins again in between."""
    home = Home()
    try:
        cluster = PatroniCluster(home)
        tutti = Tutti(home, cluster)
        tutti.begin()
        rows = []
        for i in range(rounds):
            cluster.await_synchronous()
            tutti.load.await_more(50)
            old, gap = cluster.primary(), Gap(tutti)
            old.kill_hard()
            gap.await_promotion(old)
            gap.await_accepted()
            gap.tell(f"round {i + 1}: kill")
            rows.append(gap.figures())
            old.start()
        count = tutti.expect_each_once()
        tutti.expect_gang_untouched(log_until=time.time())
        for what, column in (("kill -> promoted", 0), ("promoted -> accepted", 1)):
            values = [row[column] for row in rows]
            print(f"  {what:<22} p50 {statistics.median(values):6.2f} s   max {max(values):6.2f} s   n = {rounds}")
        print(f"  {count} accepted jobs, each there once; the gang untouched")
    finally:
        home.end(keep=OPTIONS.keep)


def interrupted(*_):
    """All is ended as after Ctrl-C: unittest takes a SystemExit for the failure of one case and goes on."""
    raise KeyboardInterrupt


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="parts of the names of cases; default: all")
    parser.add_argument("--rounds", type=int, default=0, help="only measure so many fail-overs")
    parser.add_argument("--keep", action="store_true", help="leave directories and logs")
    parser.parse_args(namespace=OPTIONS)
    missing = [p for p in ("patroni", "patronictl", "etcd") if not shutil.which(p)]
    if not (BIN / "tutti-scheduler").exists() or missing:
        print(f"missing: {' '.join(missing) or BIN / 'tutti-scheduler'} (./dev test failover installs and builds)")
        sys.exit(77)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    if OPTIONS.rounds:
        return figures(OPTIONS.rounds)
    tests = unittest.TestSuite()
    for test in unittest.defaultTestLoader.loadTestsFromTestCase(FailoverTest):
        if not OPTIONS.cases or any(part in test.id() for part in OPTIONS.cases):
            tests.addTest(test)
    began = time.monotonic()
    try:
        result = unittest.TextTestRunner(verbosity=0).run(tests)
    except KeyboardInterrupt:  # then unittest leaves a case without its cleanups
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        if FailoverTest.current:
            FailoverTest.current.doCleanups()
        sys.exit(130)
    skipped = "".join(f"; {test.id().split('.')[-1]} skipped: {why}" for test, why in result.skipped)
    print(f"{result.testsRun} cases, {len(result.failures) + len(result.errors)} failed, {time.monotonic() - began:.0f} s{skipped}", flush=True)
    sys.exit(not result.wasSuccessful())


if __name__ == "__main__":
    main()
