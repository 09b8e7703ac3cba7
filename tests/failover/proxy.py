"""Stands before one PostgreSQL and knows enough of its protocol to cut a session in the middle of a commit: it hands on what the
client sends in whole groups (up to a Sync), and so knows the writer's transaction, the one that binds the statement `check_term`.

A transaction travels in one flush, COMMIT and all. `cut` takes the next one:
  "committed"    the server has carried it out, its answer never reaches the client;
  "rolled back"  all but its COMMIT reaches the server, then both sides are closed.
"""
import contextlib
import select
import socket
import struct
import threading

from cluster import free_port

WRITER = b"\0check_term\0"  # in a Bind: unnamed portal, then the statement
COMMIT = b"\0commit\0"


class Groups:
    """Messages of a client as they come, in groups that end with Sync (S), a simple query (Q) or the session (X)."""

    def __init__(self):
        self.buffer, self.group, self.started = b"", [], False

    def add(self, data):
        self.buffer += data
        while True:
            head = 1 if self.started else 0
            if len(self.buffer) < head + 4:
                return
            size = head + struct.unpack(">I", self.buffer[head:head + 4])[0]
            if len(self.buffer) < size:
                return
            message, self.buffer = self.buffer[:size], self.buffer[size:]
            if not self.started:
                code = struct.unpack(">I", message[4:8])[0]
                self.started = code >> 16 == 3  # else a question about TLS, another start follows
                yield [message]
                continue
            self.group.append(message)
            if message[:1] in b"SQXpH":
                group, self.group = self.group, []
                yield group


class Proxy:
    def __init__(self, home, server_port):
        self.server_port, self.port = server_port, free_port()
        self.wanted, self.cuts, self.lock = None, [], threading.Lock()
        self.stopping = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.listener.settimeout(0.2)
        threading.Thread(target=self.accept, daemon=True).start()
        home.keep(self)

    def cut(self, how):
        """The next transaction of the writer. What was cut is appended to `cuts`."""
        with self.lock:
            self.wanted = how

    def take(self):
        with self.lock:
            how, self.wanted = self.wanted, None
            return how

    def accept(self):
        while not self.stopping.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                client, _ = self.listener.accept()
                threading.Thread(target=self.session, args=(client,), daemon=True).start()

    def session(self, client):
        with contextlib.suppress(OSError), client:
            with socket.create_connection(("127.0.0.1", self.server_port), 5) as server:
                for s in (client, server):
                    s.settimeout(None)
                    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.forward(client, server)

    def forward(self, client, server):
        groups = Groups()
        while not self.stopping.is_set():
            ready, _, _ = select.select([client, server], [], [], 0.2)
            if server in ready:
                data = server.recv(1 << 16)
                if not data:
                    return
                client.sendall(data)
            if client in ready:
                data = client.recv(1 << 16)
                if not data:
                    return
                for group in groups.add(data):
                    if any(m[:1] == b"B" and WRITER in m for m in group) and (how := self.take()):
                        return self.cut_off(how, group, server)
                    server.sendall(b"".join(group))

    def cut_off(self, how, group, server):
        if how == "rolled back":
            at = next(i for i, m in enumerate(group) if m[:1] == b"B" and COMMIT in m)
            server.sendall(b"".join(group[:at]))
            self.cuts.append(how)
            return
        server.sendall(b"".join(group))
        answer = b""
        while b"COMMIT\0" not in answer:  # its CommandComplete
            data = server.recv(1 << 16)
            if not data or b"ROLLBACK\0" in data:
                return
            answer += data
        self.cuts.append(how)

    def stop(self):
        self.stopping.set()
        self.listener.close()
