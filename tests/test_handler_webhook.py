"""Webhooks: signed as the standard says, to public addresses only, and never for longer than the timeout."""

import base64
import contextlib
import json
import logging
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
import trustme

from lifecycle.errors import InvalidInput
from lifecycle.handlers.webhook import LONGEST_QUOTE, LONGEST_RECEIPT, Webhook, WebhookFailed
from lifecycle.task import Task, Undeliverable

ANN = "ann@acme.test"
COMPANY = "Müller & Söhne"
NEW, OLD, OTHER = (f"whsec_{base64.b64encode(bytes([seed]) * 32).decode()}" for seed in (1, 2, 3))
SHORT = timedelta(seconds=0.5)
Answer = Callable[["Request"], None]


class Request(BaseHTTPRequestHandler):
    """One connection to the receiver; what it is asked is recorded before the test's answer is given."""

    protocol_version = "HTTP/1.1"
    server: "Receiver"

    def do_POST(self) -> None:
        self.body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(self)
        self.server.answer(self)

    def say(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


class Receiver(ThreadingHTTPServer):
    """A server on a free port of this host, in plain text or behind a certificate."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, certificate: trustme.LeafCert | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.requests: list[Request] = []
        self.connections = 0
        self.names: list[str | None] = []
        self.answer: Answer = lambda request: request.say(200, b"ok")
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            certificate.configure_cert(context)
            context.sni_callback = lambda _, name, __: self.names.append(name)
            self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def url(self, host: str = "127.0.0.1", scheme: str = "http") -> str:
        return f"{scheme}://{host}:{self.port}/hooks?token=abc"

    def get_request(self) -> Any:
        accepted = super().get_request()
        self.connections += 1
        return accepted

    def handle_error(self, *arguments: object) -> None:
        """A client that breaks off is what many of these tests are about."""


@pytest.fixture
def serve() -> Iterator[Callable[..., Receiver]]:
    """Starts receivers, and ends them after the test."""
    running: list[Receiver] = []

    def start(certificate: trustme.LeafCert | None = None) -> Receiver:
        receiver = Receiver(certificate)
        running.append(receiver)
        threading.Thread(target=receiver.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return receiver

    yield start
    for receiver in running:
        receiver.shutdown()
        receiver.server_close()


@pytest.fixture
def receiver(serve: Callable[..., Receiver]) -> Receiver:
    return serve()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path / "ca.pem"


def task(**changes: Any) -> Task:
    payload = {"company": COMPANY, "owners": [ANN], "promised": "2026-02-01"}
    values = {"id": 7, "account_id": "acme", "effect": "delete_content", "payload": payload}
    return Task(**({**values, "attempt": 2, "idempotency_key": "acme:2:delete_content"} | changes))


def webhook(receiver: Receiver, secrets: Any = NEW, **options: Any) -> Webhook:
    return Webhook(receiver.url(), secrets, **{"allow_http": True, "allow_private": True} | options)


def resolve(monkeypatch: pytest.MonkeyPatch, host: str, *addresses: str) -> list[str]:
    """Make ``host`` mean these addresses; returns the list of look-ups of names that will have been made."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(name: str, port: Any, *arguments: Any, **options: Any) -> Any:
        if name != host:
            return real(name, port, *arguments, **options)
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not an address")
        asked.append(name)
        return [entry for address in addresses for entry in real(address, port, type=socket.SOCK_STREAM)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


# --- What is sent ------------------------------------------------------------------------------------


def test_a_task_is_posted_as_json_with_its_key_as_the_id(receiver: Receiver) -> None:
    webhook(receiver)(task())
    (request,) = receiver.requests
    assert json.loads(request.body) == {
        "id": 7,
        "account_id": "acme",
        "effect": "delete_content",
        "payload": {"company": COMPANY, "owners": [ANN], "promised": "2026-02-01"},
        "attempt": 2,
        "idempotency_key": "acme:2:delete_content",
        "receipts": {},
    }
    assert request.path == "/hooks?token=abc"
    assert request.headers["webhook-id"] == "acme:2:delete_content"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Host"] == f"127.0.0.1:{receiver.port}"
    assert request.headers["Accept-Encoding"] == "identity"


def test_the_signature_is_one_that_the_standards_own_library_accepts(receiver: Receiver) -> None:
    webhook(receiver)(task())
    (request,) = receiver.requests
    verified = standardwebhooks.Webhook(NEW).verify(request.body, dict(request.headers))
    assert verified["idempotency_key"] == "acme:2:delete_content"
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 30
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(OTHER).verify(request.body, dict(request.headers))
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(NEW).verify(request.body + b" ", dict(request.headers))


def test_while_secrets_change_either_verifies(receiver: Receiver) -> None:
    webhook(receiver, [NEW, OLD])(task())
    (request,) = receiver.requests
    assert len(request.headers["webhook-signature"].split(" ")) == 2
    for secret in (NEW, OLD):
        assert standardwebhooks.Webhook(secret).verify(request.body, dict(request.headers))
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(OTHER).verify(request.body, dict(request.headers))


def test_a_secret_without_padding_is_the_same_secret(receiver: Receiver) -> None:
    webhook(receiver, NEW.rstrip("="))(task())
    (request,) = receiver.requests
    assert standardwebhooks.Webhook(NEW).verify(request.body, dict(request.headers))


def test_every_attempt_has_the_same_id(receiver: Receiver) -> None:
    hook = webhook(receiver)
    hook(task(attempt=1))
    hook(task(attempt=2))
    assert {request.headers["webhook-id"] for request in receiver.requests} == {"acme:2:delete_content"}


def test_tasks_that_follow_each_other_share_a_connection(receiver: Receiver) -> None:
    hook = webhook(receiver)
    for _ in range(3):
        hook(task())
    assert (len(receiver.requests), receiver.connections) == (3, 1)


def test_a_connection_that_the_receiver_ended_is_not_used_again(receiver: Receiver) -> None:
    def once(request: Request) -> None:
        request.say(200, b"ok")
        request.close_connection = True

    receiver.answer = once
    hook = webhook(receiver)
    for _ in range(3):
        hook(task())
        time.sleep(0.05)
    assert (len(receiver.requests), receiver.connections) == (3, 3)


def test_proxies_of_the_environment_are_not_used(
    receiver: Receiver, serve: Callable[..., Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert webhook(receiver)(task()) == "ok"
    assert (proxy.connections, receiver.connections) == (0, 1)


# --- What an answer means ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "receipt"),
    [
        (200, "  erased 12 objects\n", "erased 12 objects"),
        (201, '{"store": "crm", "outcome": "erased"}', '{"store": "crm", "outcome": "erased"}'),
        (202, "später", "später"),
        (200, "", None),
        (200, " \r\n\t ", None),
        (200, "x" * 40_000, "x" * LONGEST_RECEIPT),
        (200, "€" * 30_000, "€" * LONGEST_RECEIPT),
    ],
)
def test_an_answer_of_2xx_is_the_receipt(receiver: Receiver, status: int, body: str, receipt: str | None) -> None:
    receiver.answer = lambda request: request.say(status, body.encode())
    assert webhook(receiver)(task()) == receipt


def test_an_answer_without_content_confirms_without_a_receipt(receiver: Receiver) -> None:
    def no_content(request: Request) -> None:
        request.send_response(204)
        request.end_headers()

    receiver.answer = no_content
    assert webhook(receiver)(task()) is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 413, 422, 451, 499])
def test_what_the_receiver_will_never_take_is_parked(receiver: Receiver, status: int) -> None:
    receiver.answer = lambda request: request.say(status, b"no such account")
    with pytest.raises(Undeliverable, match=rf"{receiver.port} answered {status}\b.*no such account"):
        webhook(receiver)(task())


@pytest.mark.parametrize("status", [408, 425, 429, 500, 501, 502, 503, 504, 599, 300, 301, 302, 303, 307, 308])
def test_what_may_pass_is_tried_again(receiver: Receiver, status: int) -> None:
    receiver.answer = lambda request: request.say(status, b"not now")
    with pytest.raises(WebhookFailed, match=rf"{receiver.port} answered {status}\b.*not now"):
        webhook(receiver)(task())


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_and_the_error_says_so(
    receiver: Receiver, serve: Callable[..., Receiver], status: int
) -> None:
    inner = serve()
    receiver.answer = lambda request: request.say(status, Location=inner.url())
    with pytest.raises(WebhookFailed, match="Redirects are not followed; set the URL"):
        webhook(receiver)(task())
    assert inner.connections == 0


def test_an_error_quotes_one_short_line_of_printable_text(receiver: Receiver) -> None:
    receiver.answer = lambda request: request.say(400, b"\x1b[31mbad\x00\r\n\xff " + "\u202egnp.".encode() + b"y" * 900)
    with pytest.raises(Undeliverable) as caught:
        webhook(receiver)(task())
    said = str(caught.value).partition("It said: ")[2]
    assert said.startswith("[31mbad � gnp.yyy")
    assert len(said) == LONGEST_QUOTE
    assert said.isprintable()


@pytest.mark.parametrize("status", [200, 400, 500])
def test_an_answer_that_echoes_the_request_carries_no_addresses_into_the_outbox(
    receiver: Receiver, status: int
) -> None:
    receiver.answer = lambda request: request.say(status, b"I got " + request.body + f" from {ANN.upper()}".encode())
    try:
        said = webhook(receiver)(task()) or ""
    except (WebhookFailed, Undeliverable) as error:
        said = str(error)
        assert "ller" not in said
    assert "I got" in said
    assert ANN not in said.lower()


def test_a_receipt_is_kept_word_for_word_whatever_the_company_is_called(receiver: Receiver) -> None:
    receipt = '{"store": "crm", "outcome": "erased"}'
    receiver.answer = lambda request: request.say(200, receipt.encode())
    assert webhook(receiver)(task(payload={"company": "erased", "owners": [ANN]})) == receipt


# --- What takes too long, or never ends ------------------------------------------------------------------


def drip(request: Request, text: bytes) -> None:
    """Each byte on its own, well within any timeout that starts anew with every byte."""
    for byte in text:
        time.sleep(0.05)
        with contextlib.suppress(OSError):
            request.connection.sendall(bytes([byte]))


def drip_interim(request: Request) -> None:
    for _ in range(60):
        time.sleep(0.05)
        with contextlib.suppress(OSError):
            request.connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"
SLOW: dict[str, Answer] = {
    "no answer": lambda request: time.sleep(3),
    "a head that drips": lambda request: drip(request, HEAD),
    "endless interim answers": drip_interim,
    "a body that drips": lambda request: (request.connection.sendall(HEAD), drip(request, b"x" * 99))[1],
    "a body that stops": lambda request: (request.connection.sendall(HEAD + b"x"), time.sleep(3))[1],
}


@pytest.mark.parametrize("answer", SLOW.values(), ids=SLOW.keys())
def test_nothing_takes_longer_than_the_timeout(receiver: Receiver, answer: Answer) -> None:
    receiver.answer = answer
    begun = time.monotonic()
    with pytest.raises(WebhookFailed, match=r"no whole answer within 0\.5 s"):
        webhook(receiver, timeout=SHORT)(task())
    assert time.monotonic() - begun < 2


def test_a_receiver_that_does_not_read_is_not_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        hook = Webhook(
            f"http://127.0.0.1:{deaf.getsockname()[1]}/", NEW, timeout=SHORT, allow_http=True, allow_private=True
        )
        with pytest.raises(WebhookFailed, match="no whole answer"):
            hook(task(payload={"owners": [], "notes": "x" * 30_000_000}))


def test_after_the_timeout_nothing_is_begun(receiver: Receiver) -> None:
    with pytest.raises(WebhookFailed, match="no whole answer"):
        webhook(receiver, timeout=timedelta(microseconds=1))(task())
    assert receiver.connections == 0


def test_an_endless_answer_is_cut_off(receiver: Receiver) -> None:
    sent = 0
    ended = threading.Event()

    def endless(request: Request) -> None:
        nonlocal sent
        request.connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while sent < 500_000_000:
                request.connection.sendall(b"erased " * 10_000)
                sent += 70_000
        except OSError:
            ended.set()

    receiver.answer = endless
    receipt = webhook(receiver)(task())
    assert receipt == ("erased " * 10_000)[:LONGEST_RECEIPT]
    assert ended.wait(5)
    assert sent < 50_000_000


def test_after_a_timeout_the_next_task_is_delivered(receiver: Receiver) -> None:
    hook = webhook(receiver, timeout=SHORT)
    receiver.answer = SLOW["a body that drips"]
    with pytest.raises(WebhookFailed):
        hook(task())
    receiver.answer = lambda request: request.say(200, b"erased")
    assert hook(task()) == "erased"


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", HEAD + b"cut off"])
def test_what_is_not_a_whole_answer_is_tried_again(receiver: Receiver, answer: bytes) -> None:
    def broken(request: Request) -> None:
        request.connection.sendall(answer)
        request.close_connection = True

    receiver.answer = broken
    with pytest.raises(WebhookFailed, match="No answer from http://127"):
        webhook(receiver)(task())


def test_a_receiver_that_is_down_is_tried_again() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(WebhookFailed, match=f"No answer from http://127.0.0.1:{port}: .*refused"):
        Webhook(f"http://127.0.0.1:{port}/", NEW, allow_http=True, allow_private=True)(task())


def test_a_name_that_nobody_knows_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    hook = Webhook("https://hooks.test/", NEW)

    def unknown(*arguments: Any, **options: Any) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(WebhookFailed, match=r"No answer from https://hooks\.test: .*Temporary failure"):
        hook(task())


# --- Where it may go ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "127.8.8.8"),
        *("0.0.0.0", "0", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "192.0.0.9", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.255.255.250", "240.0.0.1"),
        *("255.255.255.255", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:a00:1]", "[::127.0.0.1]"),
        *("[64:ff9b::127.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2001::1]"),
        *("[2001:db8::1]", "[fe80::1]", "[fc00::1]", "[fd12::1]", "[fec0::1]", "[ff02::1]", "[ff0e::1]", "[4000::1]"),
    ],
)
def test_an_address_that_is_not_public_is_refused_at_once(host: str) -> None:
    with pytest.raises(InvalidInput, match="no public address; correct the URL, or set allow_private"):
        Webhook(f"http://{host}/", NEW, allow_http=True)
    assert Webhook(f"http://{host}/", NEW, allow_http=True, allow_private=True)


@pytest.mark.parametrize(
    "host",
    [
        "8.8.8.8",
        "100.63.255.255",
        "172.32.0.1",
        "134744072",
        "[2606:4700::1111]",
        "[::ffff:8.8.8.8]",
        "[64:ff9b::808:808]",
    ],
)
def test_a_public_address_may_be_written_as_such(host: str) -> None:
    assert Webhook(f"https://{host}/", NEW).receiver == f"https://{host}"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST"])
def test_a_name_of_this_host_is_not_connected_to(receiver: Receiver, host: str) -> None:
    hook = Webhook(receiver.url(host), NEW, allow_http=True)
    with pytest.raises(WebhookFailed, match="has no public address, and so nothing was sent"):
        hook(task())
    assert receiver.connections == 0


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1"])
def test_a_name_that_turns_private_is_not_connected_to(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    hook = Webhook(receiver.url("hooks.test"), NEW, allow_http=True)
    resolve(monkeypatch, "hooks.test", address, "10.0.0.1")
    with pytest.raises(WebhookFailed, match=r"hooks\.test has no public address"):
        hook(task())
    assert receiver.connections == 0


def test_the_address_that_was_looked_up_is_the_one_that_is_connected_to(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = Webhook(receiver.url("hooks.test"), NEW, allow_http=True, allow_private=True)
    asked = resolve(monkeypatch, "hooks.test", "127.0.0.1")
    assert hook(task()) == "ok"
    assert asked == ["hooks.test"]
    assert receiver.requests[0].headers["Host"] == f"hooks.test:{receiver.port}"


def test_an_address_of_ipv6_is_in_brackets_where_it_is_named(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve(monkeypatch, "fd00::1", "127.0.0.1")
    hook = Webhook(receiver.url("[fd00::1]"), NEW, allow_http=True, allow_private=True)
    assert hook(task()) == "ok"
    assert receiver.requests[0].headers["Host"] == f"[fd00::1]:{receiver.port}"


def test_of_several_addresses_the_first_that_answers_is_taken(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = Webhook(receiver.url("hooks.test"), NEW, allow_http=True, allow_private=True)
    resolve(monkeypatch, "hooks.test", "127.0.0.2", "127.0.0.1")  # nobody listens at the first
    assert hook(task()) == "ok"


def test_an_address_that_swallows_everything_leaves_the_next_one_time(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    hook = Webhook(receiver.url("hooks.test"), NEW, timeout=timedelta(seconds=2), allow_http=True, allow_private=True)
    resolve(monkeypatch, "hooks.test", "127.0.0.2", "127.0.0.1")
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.2", receiver.port), backlog=0))
        for _ in range(3):  # after these the system answers no more calls
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        begun = time.monotonic()
        assert hook(task()) == "ok"
        assert time.monotonic() - begun > 0.9


# --- TLS -----------------------------------------------------------------------------------------------


def test_the_certificate_is_checked_against_the_name_and_not_the_address(
    serve: Callable[..., Receiver], authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = serve(authority.issue_cert("hooks.test"))
    hook = Webhook(receiver.url("hooks.test", "https"), NEW, allow_private=True, ca_file=ca_file)
    other = Webhook(receiver.url("127.0.0.1", "https"), NEW, allow_private=True, ca_file=ca_file)
    resolve(monkeypatch, "hooks.test", "127.0.0.1")
    assert hook(task()) == "ok"
    assert receiver.names == ["hooks.test"]
    with pytest.raises(WebhookFailed, match="certificate verify failed"):
        other(task())
    assert len(receiver.requests) == 1


def test_a_certificate_for_an_address_serves_an_address(
    serve: Callable[..., Receiver], authority: trustme.CA, ca_file: Path
) -> None:
    receiver = serve(authority.issue_cert("127.0.0.1"))
    hook = Webhook(receiver.url(scheme="https"), NEW, allow_private=True, ca_file=str(ca_file))
    assert hook(task()) == "ok"
    assert hook(task()) == "ok"
    assert receiver.connections == 1


def test_a_certificate_of_an_unknown_authority_is_refused(
    serve: Callable[..., Receiver], authority: trustme.CA
) -> None:
    receiver = serve(authority.issue_cert("127.0.0.1"))
    with pytest.raises(WebhookFailed, match="certificate verify failed"):
        Webhook(receiver.url(scheme="https"), NEW, allow_private=True)(task())
    assert receiver.requests == []


def test_a_handshake_that_never_ends_is_cut_off() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        hook = Webhook(f"https://127.0.0.1:{deaf.getsockname()[1]}/", NEW, timeout=SHORT, allow_private=True)
        begun = time.monotonic()
        with pytest.raises(WebhookFailed, match="no whole answer"):
            hook(task())
        assert time.monotonic() - begun < 3


@pytest.mark.parametrize("content", [None, "not a certificate"])
def test_certificates_that_cannot_be_used_are_refused_at_once(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidInput, match=r"ca\.pem can't be used: .*PEM"):
        Webhook("https://hooks.test/", NEW, ca_file=path)


# --- What it is built from -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://hooks.test/", "must begin with https://"),
        ("ftp://hooks.test/", "must begin with https://"),
        ("file://hooks.test/etc/passwd", "must begin with https://"),
        ("https://user:password@hooks.test/", "credentials"),
        ("https://user@hooks.test/", "credentials"),
        ("https://8.8.8.8\\@hooks.test/", "credentials"),
        ("https:///path", "malformed"),
        ("https://", "malformed"),
        ("https://:443/", "malformed"),
        ("https://user:password@/", "malformed"),
        ("https:hooks.test", "malformed"),
        ("hooks.test/path", "malformed"),
        ("", "malformed"),
        ("https://hooks.test:99999/", "malformed"),
        ("https://hooks.test:0/", "malformed"),
        ("https://hooks.test:x/", "malformed"),
        ("https://hooks.test:/", "malformed"),
        ("https://[::1/", "malformed"),
        ("https://hooks.test\\internal/", "malformed"),
        ("https://hooks.test/a b", "malformed"),
        ("https://hooks\n.test/", "malformed"),
        ("https://hooks.test/\r\nHost: other", "malformed"),
        ("https://müller.test/", "malformed"),
        (f"https://{'a' * 64}.test/", "malformed"),
        ("https://a..test/", "malformed"),
        (None, "malformed"),
    ],
)
def test_a_url_that_is_not_meant_for_this_is_refused_at_once(url: Any, why: str) -> None:
    with pytest.raises(InvalidInput, match=why) as caught:
        Webhook(url, NEW)
    assert "password" not in str(caught.value)


@pytest.mark.parametrize(
    "secrets",
    [
        [],
        "",
        NEW.removeprefix("whsec_"),
        "whsec_",
        "whsec_" + "A" * 28,  # 21 bytes
        "whsec_" + "A" * 88,  # 66 bytes
        NEW[:20] + "!" + NEW[20:],
        NEW.replace("AQEB", "-_-_"),
        NEW + "\n",
        " " + NEW,
        "whsk_" + NEW.removeprefix("whsec_"),
        [NEW, "whsec_short"],
        [NEW, None],
    ],
)
def test_a_malformed_secret_is_refused_at_once_and_not_shown(secrets: Any) -> None:
    with pytest.raises(InvalidInput, match=r"needs a secret|Secret \d of \d of the webhook is malformed") as caught:
        Webhook("https://hooks.test/", secrets)
    shown = "".join(traceback.format_exception(caught.value))
    for secret in [secrets] if isinstance(secrets, str) else secrets:
        assert len(secret or "") < 12 or secret.strip().removeprefix("whsec_") not in shown


def test_a_webhook_needs_a_timeout() -> None:
    with pytest.raises(InvalidInput, match="timeout longer than zero"):
        Webhook("https://hooks.test/", NEW, timeout=timedelta(0))


# --- What is not shown ---------------------------------------------------------------------------------


def test_the_secret_and_the_token_in_the_url_are_shown_nowhere(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    hook = webhook(receiver, [NEW, OLD], timeout=SHORT)
    shown = [repr(hook), str(hook)]
    answers: list[Answer] = [
        lambda request: request.say(400, f"my secrets are {NEW} and {OLD}".encode()),
        lambda request: request.say(500, f"my secret is {OLD}".encode()),
        lambda request: request.say(302, Location=request.path),
        lambda request: request.connection.sendall(f"HTTP/9.9 {NEW}\r\n\r\n".encode()),
        SLOW["no answer"],
    ]
    for receiver.answer in answers:
        with pytest.raises((WebhookFailed, Undeliverable)) as caught:
            hook(task())
        shown.extend(traceback.format_exception(caught.value))
    receiver.answer = lambda request: request.say(200, f"erased; {NEW}".encode())
    shown.append(hook(task()) or "")
    text = "".join(shown) + caplog.text
    assert text.count("WebhookFailed") >= 4
    for hidden in (NEW, OLD, NEW.removeprefix("whsec_"), OLD.removeprefix("whsec_"), "token=abc", ANN):
        assert hidden not in text


# --- The end -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
def test_closing_breaks_off_what_is_under_way_and_refuses_what_comes(
    serve: Callable[..., Receiver], authority: trustme.CA, ca_file: Path, tls: bool
) -> None:
    arrived, done = threading.Event(), threading.Event()
    receiver = serve(authority.issue_cert("127.0.0.1") if tls else None)
    receiver.answer = lambda request: (arrived.set(), done.wait(20))[0]
    url = receiver.url(scheme="https" if tls else "http")
    hook = Webhook(url, NEW, allow_http=True, allow_private=True, ca_file=ca_file)

    def close() -> None:
        arrived.wait(10)
        time.sleep(0.1)  # until the answer is waited for
        hook.close()

    closing = threading.Thread(target=close)
    closing.start()
    begun = time.monotonic()
    with pytest.raises(WebhookFailed):
        hook(task())
    assert time.monotonic() - begun < 10
    closing.join(5)
    assert not closing.is_alive()
    done.set()
    with pytest.raises(WebhookFailed, match="shutting down"):
        hook(task())
    hook.close()
    assert len(receiver.requests) == 1


def test_what_was_never_used_can_be_closed() -> None:
    hook = Webhook("https://hooks.test/", NEW)
    hook.close()
    with pytest.raises(WebhookFailed, match="shutting down"):
        hook(task())
