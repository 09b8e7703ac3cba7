"""tutti.Client against a server that this test plays: retries, idempotency, errors, streams."""
import contextlib
import json
import os
import socket
import sys
import tempfile
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "api" / "python"))

import tutti  # noqa: E402


class FakeServer(ThreadingHTTPServer):
    """Answers by `script`: a function of the request that returns (status, headers, body), or None to hang up."""

    daemon_threads = True

    def __init__(self, script):
        self.script, self.requests = script, []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        request = {"method": self.command, "path": self.path, "headers": dict(self.headers),
                   "body": self.rfile.read(length)}
        self.server.requests.append(request)
        answer = self.server.script(request, len(self.server.requests))
        if answer is None:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, headers, body = answer
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with contextlib.suppress(OSError):  # it may have gone
            self.wfile.write(data)

    do_GET = do_POST = answer

    def log_message(self, *_):
        pass


class SeveralServersTest(unittest.TestCase):
    """Schedulers of one cluster: addresses with commas."""

    @staticmethod
    def refused():
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            return f"http://127.0.0.1:{nobody.getsockname()[1]}"

    def test_a_refused_connection_is_tried_elsewhere_at_once(self):
        server = FakeServer(lambda request, n: (200, {}, {"id": 7}))
        client = tutti.Client(f"{self.refused()}, {server.url}", "t", retries=0)
        self.assertEqual(client.submit({"name": "a"})["id"], 7)
        self.assertEqual(client.job(7)["id"], 7)
        self.assertEqual(len(server.requests), 2)

    def test_one_that_leads_not_is_left_for_the_next(self):
        standby = FakeServer(lambda request, n: (503, {"Retry-After": "1"}, {"code": "no_leader"}))
        leader = FakeServer(lambda request, n: (200, {}, {"id": 7}))
        client = tutti.Client(f"{standby.url},{leader.url}", "t", retries=0)
        client.requeue(7)  # nothing has happened at the standby, so it may be asked for elsewhere
        client.requeue(7)
        self.assertEqual(len(standby.requests), 1, "what answered last is asked first")
        self.assertEqual(len(leader.requests), 2)

    def test_when_nobody_leads_the_round_ends(self):
        servers = [FakeServer(lambda request, n: (503, {}, {"code": "no_leader"})) for _ in range(3)]
        client = tutti.Client(",".join(server.url for server in servers), "t", retries=0)
        with self.assertRaises(tutti.ServerError):
            client.job(7)
        self.assertEqual([len(server.requests) for server in servers], [1, 1, 1])

    def test_what_may_have_happened_is_not_done_elsewhere(self):
        lost = FakeServer(lambda request, n: None)
        other = FakeServer(lambda request, n: (200, {}, {"id": 7}))
        client = tutti.Client(f"{lost.url},{other.url}", "t", retries=3)
        with self.assertRaises(tutti.NotReachable):
            client.requeue(7)
        self.assertEqual(len(other.requests), 0)


class ClientTest(unittest.TestCase):
    def serve(self, script):
        server = FakeServer(script)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server

    def client(self, server, **more):
        return tutti.Client(server.url, "secret", **more)

    def test_a_submission_is_repeated_under_one_key(self):
        server = self.serve(lambda r, n: None if n == 1 else (503, {"Retry-After": "0"}, {}) if n == 2
                            else (201, {}, {"id": 4}))
        self.assertEqual(self.client(server).submit({"name": "a", "run": "true"})["id"], 4)
        keys = {r["headers"]["Idempotency-Key"] for r in server.requests}
        self.assertEqual((len(server.requests), len(keys)), (3, 1))
        self.assertEqual(server.requests[0]["headers"]["Authorization"], "Bearer secret")

    def test_what_may_have_been_done_is_not_done_again(self):
        server = self.serve(lambda r, n: None)
        with self.assertRaises(tutti.NotReachable):
            self.client(server).requeue(4)
        self.assertEqual(len(server.requests), 1)

    def test_an_error_has_its_field_and_the_way_out(self):
        server = self.serve(lambda r, n: (422, {}, {"code": "invalid_argument", "detail": "gpus must be a number",
                                                    "hint": "like 8", "errors": [{"field": "resources.gpus"}]}))
        with self.assertRaises(tutti.ServerError) as caught:
            self.client(server).submit({})
        error = caught.exception
        self.assertEqual((error.status, error.code, error.field), (422, "invalid_argument", "resources.gpus"))
        self.assertIn("like 8", str(error))
        self.assertEqual(len(server.requests), 1)

    def test_nobody_there_is_said_after_the_retries(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            client = tutti.Client(f"http://127.0.0.1:{taken.getsockname()[1]}", "t", retries=1)
            with self.assertRaisesRegex(tutti.NotReachable, "does not answer"):
                client.nodes()

    def test_pages_are_joined(self):
        def script(request, _):
            second = "page_token=p2" in request["path"]
            return 200, {}, {"jobs": [{"id": 2 if second else 1}], "next_page_token": None if second else "p2"}
        server = self.serve(script)
        self.assertEqual([j["id"] for j in self.client(server).jobs(state="running")], [1, 2])
        self.assertIn("state=running", server.requests[1]["path"])

    def test_wait_follows_the_events_and_survives_their_end(self):
        def script(request, n):
            if request["path"].endswith("/events"):
                done = n > 3
                event = {"kind": "state", "to": "succeeded" if done else "running"}
                return 200, {"Content-Type": "text/event-stream"}, f"id: {n}\ndata: {json.dumps(event)}\n\n".encode()
            return 200, {}, {"id": 7, "state": "succeeded" if n > 4 else "running"}
        server = self.serve(script)
        self.assertEqual(self.client(server).wait("my job")["state"], "succeeded")
        self.assertEqual(server.requests[0]["path"], "/v1/jobs/my%20job")
        self.assertEqual(server.requests[1]["path"], "/v1/jobs/7/events")

    def test_wait_has_an_end(self):
        hold = threading.Event()
        self.addCleanup(hold.set)

        def script(request, _):
            if request["path"].endswith("/events"):
                hold.wait(20)
            return 200, {}, {"id": 7, "state": "running"}
        before = time.monotonic()
        with self.assertRaises(tutti.WaitTimeout):
            self.client(self.serve(script), timeout=0.5).wait(7, timeout=1)
        self.assertLess(time.monotonic() - before, 10)

    def test_lines_of_a_log_are_whole(self):
        server = self.serve(lambda r, n: (200, {}, "one\ntwo \u00e9\nthree".encode()))
        self.assertEqual(list(self.client(server).logs(7, rank="all", follow=True)), ["one", "two \u00e9", "three"])
        self.assertIn("/v1/jobs/7/attempts/latest/logs?rank=all&follow=1", server.requests[0]["path"])

    def test_the_context_file_is_for_its_own_server(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        path = Path(folder.name) / "config.json"
        server = self.serve(lambda r, n: (200, {}, {"nodes": []}))
        path.write_text(json.dumps({"server": server.url, "token": "from-the-file"}))
        old = {name: os.environ.pop(name, None) for name in ("TUTTI_SERVER", "TUTTI_TOKEN", "TUTTI_CONTEXT")}
        self.addCleanup(lambda: os.environ.update({k: v for k, v in old.items() if v is not None}))
        os.environ["TUTTI_CONTEXT"] = str(path)
        self.addCleanup(os.environ.pop, "TUTTI_CONTEXT", None)
        tutti.Client().nodes()
        self.assertEqual(server.requests[0]["headers"]["Authorization"], "Bearer from-the-file")
        other = self.serve(lambda r, n: (200, {}, {"nodes": []}))
        tutti.Client(other.url).nodes()
        self.assertNotIn("Authorization", other.requests[0]["headers"])

    def test_the_context_in_use_of_tutti_login(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        server = self.serve(lambda r, n: (200, {}, {"nodes": []}))
        token = Path(folder.name) / "token"
        token.write_text("from-a-file\n")
        Path(folder.name, "config.yaml").write_text(json.dumps({"current": "lab", "contexts": {
            "lab": {"server": server.url, "token": "of-lab"}, "b": {"server": server.url, "token_file": str(token)}}}))
        names = ("TUTTI_SERVER", "TUTTI_TOKEN", "TUTTI_CONTEXT", "TUTTI_CONFIG")
        old = {name: os.environ.pop(name, None) for name in names}
        self.addCleanup(lambda: os.environ.update({k: v for k, v in old.items() if v is not None}))
        for name in names:
            self.addCleanup(os.environ.pop, name, None)
        os.environ["TUTTI_CONFIG"] = str(Path(folder.name) / "config.yaml")
        tutti.Client().nodes()
        os.environ["TUTTI_CONTEXT"] = "b"
        tutti.Client().nodes()
        os.environ["TUTTI_CONTEXT"] = "gone"
        with self.assertRaisesRegex(tutti.TuttiError, "no context 'gone'"):
            tutti.Client()
        self.assertEqual([r["headers"]["Authorization"] for r in server.requests],
                         ["Bearer of-lab", "Bearer from-a-file"])

    def test_a_server_that_is_none_is_named(self):
        with self.assertRaisesRegex(tutti.TuttiError, "expected http"):
            tutti.Client("localhost:80")


if __name__ == "__main__":
    unittest.main()
