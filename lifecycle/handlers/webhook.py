"""Delivers an effect as a signed HTTP request, as https://www.standardwebhooks.com describes it."""

import base64
import json
import logging
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from http.client import responses
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpcore2
import standardwebhooks

from lifecycle.errors import InvalidInput
from lifecycle.redaction import without
from lifecycle.task import Task, Undeliverable

#: More than this of an answer is not kept as the receipt.
LONGEST_RECEIPT = 10_000
#: More than this of an answer is not quoted in an error.
LONGEST_QUOTE = 500
#: More bytes than this of an answer are not read: four for each character of a receipt, and some for white space.
LONGEST_ANSWER = 64 * 1024
#: Client errors that pass by themselves: timeout, too early, too many requests.
TRANSIENT = frozenset({408, 425, 429})
#: Seconds for which a connection is kept for the next task; no server ends an idle one as early.
IDLE = 1.0
#: Bytes that are sent between two looks at the deadline.
PIECE = 16 * 1024
#: How a secret begins.
PREFIX = "whsec_"
HEADERS = {
    "User-Agent": "account-lifecycle",
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",  # nothing to unpack, so nothing that unpacks to more than memory holds
}
# Below this it quotes answers, whose heads may hold what nobody should read.
logging.getLogger("httpcore2").setLevel(logging.WARNING)


class WebhookFailed(Exception):
    """The receiver did not confirm; another attempt may succeed."""


class Webhook:
    """Posts the task as JSON to ``url``, signed with each of ``secrets``.

    The header ``webhook-id`` is the task's idempotency key, the same on every attempt. An answer of 2xx
    confirms, and its text is the receipt. A client error (4xx) parks the task: the receiver won't have it,
    however often it is sent. Anything else raises :class:`WebhookFailed`, and the outbox tries again:
    5xx, 408, 425, 429, redirects (none is followed), no connection, or no whole answer within ``timeout``.

    The request holds the company and its owners' addresses, since the receiver needs them: a URL that is set
    by mistake gives them away. Therefore only https is spoken, unless ``allow_http``, and only public
    addresses are connected to, unless ``allow_private``. An answer is kept in the outbox and should hold none
    of this; the owners' addresses are struck out of it, in case it echoes what was sent.

    Two secrets are for the time in which the receiver changes from one to the other. Certificates are
    checked against those of the operating system (or of ``SSL_CERT_FILE``), or those of ``ca_file`` alone.
    Proxies are not used, whatever the environment says: one would be handed the address unchecked.
    ``timeout`` bounds all of it, except that the system's resolver ends the look-up of a name in its own time.
    """

    def __init__(
        self,
        url: str,
        secrets: str | Sequence[str],
        *,
        timeout: timedelta = timedelta(seconds=30),
        allow_http: bool = False,
        allow_private: bool = False,
        ca_file: str | Path | None = None,
    ) -> None:
        parts = _parsed(url, ("https", "http") if allow_http else ("https",))
        host = parts.hostname or ""
        _refuse(host, allow_private)
        if timeout <= timedelta(0):
            raise InvalidInput("A webhook needs a timeout longer than zero.")
        self.timeout = timeout
        #: Where it goes, without path and query: these may be what keeps others out.
        self.receiver = f"{parts.scheme}://{parts.netloc}"
        given = [secrets] if isinstance(secrets, str) else list(secrets)
        self._signers = _signers(given)
        self._secrets = [form.rstrip("=") for secret in given for form in (secret, secret.removeprefix(PREFIX))]
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._url = httpcore2.URL(scheme=parts.scheme, host=host, port=parts.port, target=target)
        self._host = parts.netloc
        self._network = _Network(allow_private)
        trusted = _trusted(ca_file) if parts.scheme == "https" else None
        self._pool = httpcore2.ConnectionPool(trusted, keepalive_expiry=IDLE, network_backend=self._network)
        self._turn = threading.Lock()

    def __repr__(self) -> str:
        return f"Webhook({self.receiver!r})"

    def __call__(self, task: Task) -> str | None:
        """Send one task; returns the answer's text without surrounding white space."""
        with self._turn:
            status, answer = self._post(task)
        owners = task.payload.get("owners") or ()
        if 200 <= status < 300:
            return without((*self._secrets, *owners), answer).strip()[:LONGEST_RECEIPT] or None
        parks = 400 <= status < 500 and status not in TRANSIENT
        reason = f"{self.receiver} answered {status} {responses.get(status, '')}".rstrip() + "."
        if 300 <= status < 400:
            reason += " Redirects are not followed; set the URL of the receiver itself."
        said = self._quotable(task, answer)
        raise (Undeliverable if parks else WebhookFailed)(f"{reason} It said: {said}" if said else reason)

    def close(self) -> None:
        """Break off what is under way, which counts as failed and is tried again later; and take nothing more."""
        self._network.close()
        with self._turn:
            self._pool.close()

    def _post(self, task: Task) -> tuple[int, str]:
        """The answer's status and its beginning."""
        body = json.dumps(asdict(task))
        headers = [*(HEADERS | {"Host": self._host} | self._signed(task.idempotency_key, body)).items()]
        seconds = self.timeout.total_seconds()
        self._network.deadline = time.monotonic() + seconds
        try:
            with self._pool.stream("POST", self._url, headers=headers, content=body.encode()) as response:
                return response.status, _beginning(response)
        except (TimeoutError, httpcore2.TimeoutException):
            raise WebhookFailed(f"{self.receiver} gave no whole answer within {seconds:g} s.") from None
        except (OSError, httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            # Not chained: what the libraries quote of an answer is in the message, and cleaned.
            why = self._quotable(task, str(error)) or type(error).__name__
            raise WebhookFailed(f"No answer from {self.receiver}: {why}") from None

    def _signed(self, key: str, body: str) -> dict[str, str]:
        """The headers that prove where the body comes from, and when it was sent."""
        # The receiver compares with its own clock, and so an engine on a manual clock must not sign with that.
        now = datetime.now(UTC)  # noqa: TID251
        return {
            "webhook-id": key,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signer.sign(key, now, body) for signer in self._signers),
        }

    def _quotable(self, task: Task, text: str) -> str:
        """One line of the text for an error: printable, short, and without what was sent."""
        sent = (*(task.payload.get("owners") or ()), task.payload.get("company"))
        shown = (one if one.isprintable() else " " for one in without((*self._secrets, *sent), text))
        return " ".join("".join(shown).split())[:LONGEST_QUOTE]


# --- What the constructor is given ---------------------------------------------------------------


def _parsed(url: object, schemes: Sequence[str]) -> SplitResult:
    """The URL's parts. No message shows the URL, since it may hold a token."""
    try:
        # Checked first, because what parses a URL drops line breaks without a word.
        if not isinstance(url, str) or not url.isascii() or not url.isprintable() or " " in url:
            raise ValueError
        parts = urlsplit(url)
        if not re.fullmatch(r"[\w.:-]+", parts.hostname or "") or parts.port == 0 or parts.netloc.endswith(":"):
            raise ValueError
    except ValueError:
        raise InvalidInput("The webhook's URL is malformed: use ASCII such as https://example.com/path.") from None
    if "@" in parts.netloc:
        raise InvalidInput("The webhook's URL holds credentials; remove them: the signature says who sends.")
    if parts.scheme not in schemes:
        raise InvalidInput(f"The webhook's URL must begin with {' or '.join(f'{one}://' for one in schemes)}.")
    return parts


def _refuse(host: str, allow_private: bool) -> None:
    """Refuse an address that will never do, in whatever way it is written. A name is seen to with each connection."""
    try:
        public = all(map(_public, _addresses(host, socket.AI_NUMERICHOST)))
    except socket.gaierror:
        return
    except UnicodeError:
        raise InvalidInput(f"The webhook's host {host[:80]} is malformed: a part of it is too long or empty.") from None
    if not (public or allow_private):
        raise InvalidInput(f"The webhook's host {host} is no public address; correct the URL, or set allow_private.")


def _signers(secrets: Sequence[object]) -> list[standardwebhooks.Webhook]:
    if not secrets:
        raise InvalidInput("A webhook needs a secret to sign with.")
    return [_signer(secret, f"{number} of {len(secrets)}") for number, secret in enumerate(secrets, 1)]


def _signer(secret: object, which: str) -> standardwebhooks.Webhook:
    try:
        if not isinstance(secret, str) or not secret.startswith(PREFIX):
            raise ValueError
        encoded = secret.removeprefix(PREFIX)
        # Strictly, since the library would skip what it can't read, and sign with another key than is meant.
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
        if not 24 <= len(key) <= 64:
            raise ValueError
    except ValueError:
        form = f"{PREFIX} and then 24 to 64 random bytes in base64"
        raise InvalidInput(f"Secret {which} of the webhook is malformed: use {form}.") from None
    return standardwebhooks.Webhook(key)


def _trusted(ca_file: str | Path | None) -> ssl.SSLContext:
    if ca_file is None:
        return httpcore2.default_ssl_context()
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        why = f"can't be used: {error.strerror}; name a file in PEM format."
        raise InvalidInput(f"The certificates in {ca_file} {why}") from error


# --- What comes back -----------------------------------------------------------------------------


def _beginning(response: httpcore2.Response) -> str:
    """As much of the answer as anybody will read. A longer one is broken off, and with it the connection."""
    content = bytearray()
    for piece in response.iter_stream():
        content += piece
        if len(content) >= LONGEST_ANSWER:
            break
    return content[:LONGEST_ANSWER].decode(errors="replace")


# --- The network ---------------------------------------------------------------------------------

#: IPv6 addresses that carry an IPv4 address in their last 32 bits, which is the one that matters.
_CARRIERS = tuple(map(ip_network, ("::ffff:0:0/96", "64:ff9b::/96")))
#: All other IPv6 addresses that are given out.
_GIVEN_OUT = ip_network("2000::/3")
#: What not every version of Python knows to be no public address.
_NOT_PUBLIC = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2002::/16", "3fff::/20")))


def _public(text: str) -> bool:
    """Whether the address lies on the internet, and not in this host, its networks or nowhere."""
    address: IPv4Address | IPv6Address = ip_address(text)
    if any(address in carrier for carrier in _CARRIERS):
        address = IPv4Address(int(address) & 0xFFFFFFFF)
    if address.version == 6 and address not in _GIVEN_OUT:
        return False
    return address.is_global and not address.is_multicast and not any(address in network for network in _NOT_PUBLIC)


def _addresses(host: str, flags: int = 0) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=flags)
    return [str(entry[4][0]) for entry in found]


class _Network(httpcore2.NetworkBackend):
    """Connects to public addresses only, and does nothing after the deadline.

    The very address that was checked is connected to: looked up again, a name might mean another. The
    certificate must still be the name's.
    """

    def __init__(self, allow_private: bool) -> None:
        self.deadline = 0.0
        self._allow_private = allow_private
        self._closed = False
        self._stream: httpcore2.NetworkStream | None = None
        self._backend = httpcore2.SyncBackend()

    def left(self) -> float:
        """Seconds until the deadline; raises when there are none."""
        if self._closed:
            raise WebhookFailed("The process is shutting down.")
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        self.left()
        addresses = [address for address in _addresses(host) if self._allow_private or _public(address)]
        if not addresses:
            raise WebhookFailed(f"{host} has no public address, and so nothing was sent; correct the URL or the DNS.")
        while True:
            address = addresses.pop(0)
            try:
                # An address that swallows everything leaves the others their share of the time.
                wait = self.left() / (1 + len(addresses))
                stream = self._backend.connect_tcp(address, port, wait, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if not addresses:
                    raise
            else:
                self._stream = _Stream(stream, self)
                return self._stream

    def close(self) -> None:
        """Wake whoever waits for the network; every further step raises."""
        self._closed = True
        if self._stream is not None:
            # The plain socket's shutdown: that of TLS would take its state away from the thread that reads.
            with suppress(OSError):
                socket.socket.shutdown(self._stream.get_extra_info("socket"), socket.SHUT_RDWR)


class _Stream(httpcore2.NetworkStream):
    """A connection on which no step outlasts the deadline of the whole, however slowly the other side drips."""

    def __init__(self, stream: httpcore2.NetworkStream, network: _Network) -> None:
        self._stream = stream
        self._network = network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._network.left())

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), PIECE):
            self._stream.write(buffer[start : start + PIECE], self._network.left())

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        # In place, so that whoever closes the network reaches it here.
        self._stream = self._stream.start_tls(ssl_context, server_hostname, self._network.left())
        return self

    def close(self) -> None:
        self._stream.close()

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
