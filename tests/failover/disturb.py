"""What goes wrong with a database besides its end: strangers take all connections, its disk is full, its standby is silent, and
more clients come than the scheduler takes."""
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import threading
import time

from cluster import Failure, children, eventually, send, state_of


class Strangers:
    """Sessions of another program, as many as the primary takes from somebody who is no superuser."""

    def __init__(self, home, cluster):
        cluster.sql("CREATE ROLE stranger LOGIN")
        self.cluster, self.port = cluster, cluster.primary().port
        self.sessions, self.wanted, self.full = [], threading.Event(), threading.Event()
        self.wanted.set()
        self.thread = threading.Thread(target=self.come, daemon=True)
        self.thread.start()
        home.keep(self)

    def come(self):
        pause = threading.Event()
        while self.wanted.is_set():
            session = self.connect()
            if session:
                self.sessions.append(session)
            else:
                self.full.set()
                pause.wait(0.002)  # they come again as soon as a place is free

    def connect(self):
        body = struct.pack(">I", 3 << 16) + b"user\0stranger\0database\0postgres\0\0"
        with contextlib.suppress(OSError):
            s = socket.create_connection(("127.0.0.1", self.port), 5)
            s.sendall(struct.pack(">I", len(body) + 4) + body)
            answer = b""
            while not answer.endswith(b"Z\0\0\0\5I"):
                data = s.recv(4096)
                answer += data
                if not data or answer[:1] == b"E":
                    s.close()
                    return None
            return s
        return None

    def take_places_of(self, role, tries=5):
        """All of that role's: its sessions are ended, and it is kept out until strangers have what they had. Then it may come again,
        and finds the server full. Some other session may end just then and leave it a place: then once more."""
        for _ in range(tries):
            self.cluster.sql(f"ALTER ROLE {role} CONNECTION LIMIT 0")
            eventually(f"strangers have the places of {role}", lambda: self.have_all_places(role), 30, every=0.05)
            self.cluster.sql(f"ALTER ROLE {role} CONNECTION LIMIT -1")
            if not self.sessions_of(role):
                return
        raise Failure(f"{role} has found a place {tries} times")

    def sessions_of(self, role):
        return int(self.cluster.number(f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{role}'", "postgres"))

    def have_all_places(self, role):
        """Ends those who have come in before the door was closed. The session that asks is a superuser's, in a reserved place."""
        self.cluster.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'")
        [[theirs, all_told, open_to_all]] = self.cluster.sql(
            f"SELECT count(*) FILTER (WHERE usename = '{role}'), count(*),"
            " current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
            " FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")
        return int(theirs) == 0 and int(all_told) >= int(open_to_all)

    def leave(self):
        self.wanted.clear()
        self.thread.join(20)
        for s in self.sessions:
            s.close()
        self.sessions = []

    stop = leave


class SmallDisk:
    """A file system of its own, in memory. Needs root."""

    def __init__(self, home, megabytes):
        self.path = home.folder("disk")
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0777", "tmpfs", self.path], check=True)
        self.ballast = os.path.join(self.path, "ballast")
        home.keep(self)

    def fill(self):
        """To the last byte."""
        with open(self.ballast, "ab", buffering=0) as f:
            for size in (1 << 20, 4096):
                with contextlib.suppress(OSError):
                    while f.write(bytes(size)) == size:
                        pass

    def free(self):
        with contextlib.suppress(FileNotFoundError):
            os.remove(self.ballast)

    def stop(self):
        subprocess.run(["umount", "-l", self.path], check=True)


def receiver_of(standby):
    """Process id of what takes the primary's log there."""
    def ask():
        for pid in children(standby.postmaster()):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline") as f:
                if "walreceiver" in f.read():
                    return pid
        return None
    return eventually("the standby receives", ask)


class SilentStandby:
    """Its receiver is stopped: every commit of the primary waits for it. What is sent to the scheduler after `since` is in a commit
    that no standby has confirmed until it is let go."""

    def __init__(self, home, standby):
        self.pid = receiver_of(standby)
        send(self.pid, signal.SIGSTOP)
        home.keep(self)
        eventually("the receiver is stopped", lambda: state_of(self.pid) == "T", 10)
        self.since = time.time()

    def stop(self):
        send(self.pid, signal.SIGCONT)


class Flood:
    """Many clients at once from an address of their own (127.0.0.2), each with one submission of some size and a key."""

    def __init__(self, port, token, clients, bytes_each=20_000):
        self.answers, self.lock, self.port, self.token = {}, threading.Lock(), port, token
        self.refused_with_retry_after = 0
        self.spec = {"run": "true", "resources": {"gpus": 0}, "begin_time": "2099-01-01T00:00:00Z", "env": {"PADDING": "x" * bytes_each}}
        self.threads = [threading.Thread(target=self.client, args=(f"k9-{i}",), daemon=True) for i in range(clients)]
        for thread in self.threads:
            thread.start()

    def client(self, key):
        body = json.dumps({**self.spec, "name": key}).encode()
        head = (f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.token}\r\nContent-Type: application/json\r\n"
                f"Idempotency-Key: {key}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n").encode()
        answer = b""
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 60, source_address=("127.0.0.2", 0)) as s:
            with contextlib.suppress(OSError):  # who is refused early is answered before the body is read
                s.sendall(head + body)
            while data := s.recv(1 << 16):
                answer += data
        with self.lock:
            self.answers[key] = answer

    def statuses(self):
        with self.lock:
            return {k: int(a.split(b" ", 2)[1]) if a else 0 for k, a in self.answers.items()}

    def finish(self):
        """Status by key; each 503 says when to come again."""
        for thread in self.threads:
            thread.join(90)
        statuses = self.statuses()
        for key, answer in self.answers.items():
            if statuses[key] == 503 and b"\r\nretry-after:" not in answer.lower():
                raise Failure(f"503 without Retry-After: {answer[:300]!r}")
        return statuses
