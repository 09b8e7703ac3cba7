"""The REST API as methods. Answers are the API's JSON objects as dicts; their fields are in `GET /openapi.json`.

Which scheduler: arguments, else TUTTI_SERVER and TUTTI_TOKEN, else the context that `tutti login` or `tutti up`
has written. Requests that may be repeated are: a submission carries an Idempotency-Key, so that a retry cannot
submit twice.
"""
from __future__ import annotations

import http.client
import json
import os
import random
import socket
import ssl
import time
import urllib.parse
import uuid
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, NamedTuple, Optional, Tuple, Union

from .errors import NotReachable, ServerError, TuttiError, WaitTimeout

Json = Dict[str, Any]
JobRef = Union[int, str]  # an id, or a name: the newest job of that name

TERMINAL = frozenset({"succeeded", "failed", "cancelled"})
_RETRIED = frozenset({429, 502, 503, 504})
_ELSEWHERE = frozenset({421, 503})  # nothing has happened there; another scheduler may know who leads


class _Server(NamedTuple):
    url: urllib.parse.SplitResult
    unix_socket: str  # "" = none


def _parse_server(text: str) -> _Server:
    if text.startswith("http+unix://"):
        path = urllib.parse.unquote(text[len("http+unix://"):])
        if not path.startswith("/"):
            raise TuttiError(f"server {text}: expected http+unix:///path/of.sock")
        return _Server(urllib.parse.urlsplit("http://localhost"), path)
    url = urllib.parse.urlsplit(text.rstrip("/"))
    if url.scheme not in ("http", "https") or not url.hostname:
        raise TuttiError(f"server {text}: expected http://HOST:PORT or https://HOST")
    return _Server(url, "")


def _parse_servers(text: str) -> list[_Server]:
    """One address, or several with commas: schedulers of one cluster."""
    servers = [_parse_server(one.strip()) for one in text.split(",") if one.strip()]
    if not servers:
        raise TuttiError("the server's address is empty")
    return servers


def _read_json(path: str) -> Json:
    """{} if there is no such file."""
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise TuttiError(f"{path}: {error}") from error
    return found if isinstance(found, dict) else {}


def _context() -> Json:
    """What `tutti login` keeps: {"server", "token" or "token_file", "ca"}. The file is YAML by name, and JSON, which
    is YAML, as tutti writes it."""
    name = os.environ.get("TUTTI_CONTEXT", "")
    if "/" in name:
        return _read_json(name)
    folder = os.path.join(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "tutti")
    path = os.environ.get("TUTTI_CONFIG") or os.path.join(folder, "config.yaml")
    profile = _read_json(path)
    name = name or str(profile.get("current") or "")
    if not name:
        return _read_json(os.path.join(folder, "config.json"))  # of earlier versions
    context = (profile.get("contexts") or {}).get(name)
    if not isinstance(context, dict):
        raise TuttiError(f"there is no context {name!r} in {path}")
    if not context.get("token") and context.get("token_file"):
        with open(str(context["token_file"]), encoding="utf-8") as file:
            context["token"] = file.readline().strip()
    return context


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: Optional[float]) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Client:
    """A scheduler, seen by one user. Holds no connection: each call opens its own."""

    def __init__(self, server: Optional[str] = None, token: Optional[str] = None, *, user: Optional[str] = None,
                 timeout: float = 30.0, retries: int = 5) -> None:
        """`server`: one address, or those of several schedulers with commas. `timeout`: seconds for each answer.
        `retries`: after a lost connection, 429, 502, 503 or 504."""
        context: Json = {} if server or os.environ.get("TUTTI_SERVER") else _context()
        address = server or os.environ.get("TUTTI_SERVER") or context.get("server")
        if not address:
            raise TuttiError("no server: pass one, set TUTTI_SERVER, or run `tutti up` or `tutti login`")
        self._servers = _parse_servers(str(address))
        self._server = self._servers[0]  # the one that answered last
        # A token in the context file is for its own server only.
        self._token = token or os.environ.get("TUTTI_TOKEN") or str(context.get("token") or "")
        self._ca = os.environ.get("TUTTI_CA") or os.environ.get("TUTTI_CACERT") or context.get("ca")
        self._user = user
        self._timeout = timeout
        self._retries = retries

    # ---- jobs

    def submit(self, spec: Mapping[str, Any], *, idempotency_key: Optional[str] = None) -> Json:
        """The job as it was at its submission. The same key and spec again give the same job again."""
        return self._json("POST", "/v1/jobs", body=dict(spec),
                          headers={"Idempotency-Key": idempotency_key or uuid.uuid4().hex})

    def simulate(self, spec: Mapping[str, Any]) -> Json:
        """What would become of it, without submitting it: would it start now, when, and what is in the way."""
        return self._json("POST", "/v1/jobs:simulate", body=dict(spec))

    def job(self, job: JobRef) -> Json:
        return self._json("GET", self._path(job))

    def jobs(self, *, state: Optional[str] = None, user: Optional[str] = None, project: Optional[str] = None,
             **filters: str) -> Iterator[Json]:
        """All that match, the newest first, page by page."""
        query = {k: v for k, v in {"state": state, "user": user, "project": project, **filters}.items() if v}
        while True:
            page = self._json("GET", "/v1/jobs", query=query)
            yield from page["jobs"]
            token = page.get("next_page_token")
            if not token:
                return
            query["page_token"] = token

    def cancel(self, job: JobRef) -> Json:
        return self._act(job, "cancel")

    def signal(self, job: JobRef, name: str) -> Json:
        """Sends its running ranks a signal ("USR1"); nothing ends by it."""
        return self._act(job, "signal", {"signal": name})

    def hold(self, job: JobRef, reason: str = "") -> Json:
        return self._act(job, "hold", {"reason": reason} if reason else None)

    def release(self, job: JobRef) -> Json:
        return self._act(job, "release")

    def requeue(self, job: JobRef) -> Json:
        return self._act(job, "requeue")

    def explain(self, job: JobRef) -> Json:
        """Why it does not run, with every reason that binds."""
        return self._json("GET", self._path(job, "/explain"))

    def attempts(self, job: JobRef) -> list[Json]:
        return list(self._json("GET", self._path(job, "/attempts"))["attempts"])

    def checkpoints(self, job: JobRef) -> list[Json]:
        return list(self._json("GET", self._path(job, "/checkpoints"))["checkpoints"])

    def wait(self, job: JobRef, *, timeout: Optional[float] = None) -> Json:
        """The job once it is over. Follows its events, and their stream again after a lost connection.
        Raises WaitTimeout after `timeout` seconds; the job goes on then."""
        until = None if timeout is None else time.monotonic() + timeout
        found = self.job(job)
        while found["state"] not in TERMINAL:
            try:
                for event in self.events(found["id"], deadline=until):
                    if event.get("kind") == "state" and event.get("to") in TERMINAL:
                        break
            except WaitTimeout:
                raise WaitTimeout(f"job {found['id']} is {found['state']} after {timeout} s") from None
            except NotReachable:
                pass  # the request below retries, and says so if it is in vain
            found = self.job(found["id"])
        return found

    def events(self, job: JobRef, *, after: int = 0, deadline: Optional[float] = None) -> Iterator[Json]:
        """What has happened to a job, then what happens, until the stream ends. `deadline`: on time.monotonic()."""
        headers = {"Accept": "text/event-stream"}
        with self._open("GET", self._path(job, "/events"), {"after": str(after)} if after else {}, None, headers,
                        deadline) as response:
            data: list[str] = []
            for raw in response.lines():
                if raw.startswith("data:"):
                    data.append(raw[5:].strip())
                elif not raw and data:
                    yield json.loads("\n".join(data))
                    data = []

    def logs(self, job: JobRef, *, rank: Union[int, str] = 0, attempt: Union[int, str] = "latest",
             follow: bool = False) -> Iterator[str]:
        """Its lines. `rank`: "all" for up to 64 ranks, each line with "[rank] " in front. `follow`: until it ends."""
        query = {"rank": str(rank), "follow": "1" if follow else "0"}
        with self._open("GET", self._path(job, f"/attempts/{attempt}/logs"), query, None, {}, None) as response:
            yield from response.lines()

    def evidence(self, job: JobRef, path: Union[str, Path], *, attempt: Union[int, str] = "latest") -> Path:
        """Everything that is known of how an attempt went, as one .tar.gz."""
        target = Path(path)
        with self._open("GET", self._path(job, f"/attempts/{attempt}/evidence"), {}, None, {}, None) as response:
            with open(target, "wb") as file:
                while chunk := response.read(1 << 16):
                    file.write(chunk)
        return target

    # ---- the cluster

    def nodes(self) -> list[Json]:
        return list(self._json("GET", "/v1/nodes")["nodes"])

    def gpus(self) -> list[Json]:
        return list(self._json("GET", "/v1/gpus")["gpus"])

    def queue(self) -> Json:
        """Who waits, in order, and why."""
        return self._json("GET", "/v1/queue")

    def cluster(self) -> Json:
        return self._json("GET", "/v1/cluster")

    def report_node(self, node: str, reason: str) -> Json:
        """Tells the operators, and the planner, that a node is bad."""
        return self._json("POST", f"/v1/nodes/{urllib.parse.quote(node, safe='')}:report", body={"reason": reason})

    # ---- how it is said

    @staticmethod
    def _path(job: JobRef, rest: str = "") -> str:
        return "/v1/jobs/" + urllib.parse.quote(str(job), safe="") + rest

    def _act(self, job: JobRef, verb: str, body: Optional[Json] = None) -> Json:
        return self._json("POST", self._path(job, ":" + verb), body=body)

    def _json(self, method: str, path: str, *, query: Optional[Mapping[str, str]] = None, body: Optional[Json] = None,
              headers: Optional[Mapping[str, str]] = None) -> Json:
        text = None if body is None else json.dumps(body).encode()
        with self._open(method, path, query or {}, text, dict(headers or {}), None) as response:
            answer = json.loads(response.read() or b"{}")
        return answer if isinstance(answer, dict) else {"items": answer}

    def _open(self, method: str, path: str, query: Mapping[str, str], body: Optional[bytes],
              headers: Dict[str, str], deadline: Optional[float]) -> _Answer:
        target = path + ("?" + urllib.parse.urlencode(query) if query else "")
        headers = {"Accept": "application/json", **headers}
        if body is not None:
            headers["Content-Type"] = "application/json"
        if self._token:
            headers["Authorization"] = "Bearer " + self._token
        if self._user:
            headers["Tutti-User"] = self._user
        # What is not known to have been done may be done twice: only a key makes that harmless.
        repeatable = method == "GET" or "Idempotency-Key" in headers or path.endswith((":simulate", ":cancel", ":hold"))
        trouble: Exception = NotReachable("never tried")
        attempt = 0
        others = len(self._servers) - 1  # not asked in this round
        while True:
            elsewhere = False
            try:
                return self._once(method, target, body, headers, deadline)
            except ServerError as error:
                elsewhere = error.status in _ELSEWHERE
                if not (elsewhere and others) and (error.status not in _RETRIED or not repeatable):
                    raise
                trouble = error
            except ssl.SSLCertVerificationError as error:
                raise NotReachable(f"{self._name()}: {error.verify_message}; TUTTI_CACERT names a file of CAs to trust") from error
            except (OSError, http.client.HTTPException) as error:
                _check(deadline)
                trouble = error
                elsewhere = isinstance(error, ConnectionRefusedError)
                if not repeatable and not elsewhere:
                    break
            if len(self._servers) > 1 and (elsewhere or repeatable):
                self._server = self._servers[(self._servers.index(self._server) + 1) % len(self._servers)]
                if others:
                    others -= 1
                    continue  # once round, before anything is waited for
            others = len(self._servers) - 1
            attempt += 1
            if attempt > self._retries:
                break
            self._pause(attempt, deadline, trouble)
        if isinstance(trouble, ServerError):
            raise trouble
        raise NotReachable(f"{self._name()} does not answer: {trouble}") from trouble

    def _pause(self, attempt: int, deadline: Optional[float], trouble: Exception) -> None:
        """Full jitter, doubling to 4 s: many clients must not come back in the same moment."""
        _check(deadline)
        longest = min(4.0, 0.1 * 2 ** attempt)
        after = getattr(trouble, "retry_after", None)
        time.sleep(min(30.0, after) if after else random.uniform(0.05, longest))

    def _name(self) -> str:
        return self._server.unix_socket or self._server.url.geturl()

    def _connection(self, timeout: Optional[float]) -> http.client.HTTPConnection:
        server, url = self._server, self._server.url
        if server.unix_socket:
            return _UnixConnection(server.unix_socket, timeout)
        host = url.hostname or ""
        if url.scheme == "https":
            trust = ssl.create_default_context(cafile=self._ca or None)
            return http.client.HTTPSConnection(host, url.port, timeout=timeout, context=trust)
        return http.client.HTTPConnection(host, url.port, timeout=timeout)

    def _once(self, method: str, target: str, body: Optional[bytes], headers: Mapping[str, str],
              deadline: Optional[float]) -> _Answer:
        connection = self._connection(self._timeout)
        try:
            connection.request(method, self._server.url.path + target, body, dict(headers))
            sock = connection.sock  # the connection forgets it where the answer is its last
            response = connection.getresponse()
            if response.status >= 400:
                raise _server_error(response)
        except BaseException:
            connection.close()
            raise
        return _Answer(connection, sock, response, deadline)


class _Answer:
    """A response that is read as it comes."""

    def __init__(self, connection: http.client.HTTPConnection, sock: socket.socket,
                 response: http.client.HTTPResponse, deadline: Optional[float]) -> None:
        self._connection, self._sock, self._response, self._deadline = connection, sock, response, deadline

    def __enter__(self) -> _Answer:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()
        self._connection.close()

    def read(self, size: Optional[int] = None) -> bytes:
        return self._response.read() if size is None else self._response.read(size)

    def lines(self) -> Iterator[str]:
        """Waits as long as the other side does: streams are silent while nothing happens."""
        rest = b""
        while chunk := self._some():
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield line.decode("utf-8", "replace").rstrip("\r")
        if rest:
            yield rest.decode("utf-8", "replace")

    def _some(self) -> bytes:
        while True:
            try:
                if self._deadline is not None:
                    self._sock.settimeout(max(0.01, self._deadline - time.monotonic()))
                return self._response.read1(1 << 16)
            except TimeoutError:
                _check(self._deadline)
                raise NotReachable("the stream has gone silent") from None
            except (OSError, http.client.HTTPException) as error:
                raise NotReachable(f"the stream broke off: {error}") from error


def _check(deadline: Optional[float]) -> None:
    if deadline is not None and time.monotonic() >= deadline:
        raise WaitTimeout("the time is over")


def _server_error(response: http.client.HTTPResponse) -> ServerError:
    text = response.read(1 << 20)
    try:
        problem = json.loads(text)
    except ValueError:
        problem = {"detail": text.decode("utf-8", "replace")[:500]}
    error = ServerError(response.status, problem if isinstance(problem, dict) else {})
    after = response.getheader("Retry-After") or ""
    if after.isdigit():
        error.retry_after = float(after)  # type: ignore[attr-defined]
    return error
