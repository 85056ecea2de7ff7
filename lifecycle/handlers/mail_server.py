"""The way to the mail server: one connection that is kept, and what the server's answers mean."""

import re
import smtplib
import socket
import ssl
import threading
from contextlib import suppress
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import NamedTuple

from lifecycle.characters import shown
from lifecycle.errors import InvalidInput

#: A new connection after so many mails: servers hang up on those who never do.
MAILS_PER_CONNECTION = 50


class EmailFailed(Exception):
    """The mail server can't be reached, or puts a mail off: the outbox tries again."""


class Refusal(NamedTuple):
    """How the server answered to a mail that it did not take."""

    code: int
    said: bytes = b""

    @property
    def is_final(self) -> bool:
        return 500 <= self.code < 600

    @property
    def is_about_us(self) -> bool:
        """Not the address is wrong: we are not signed in, may not relay, or are on a blocklist."""
        return self.code in (530, 534, 535, 538) or self.said.startswith(b"5.7.")


class MailServer:
    """The mail server, with one connection that is kept for the next mail."""

    def __init__(
        self,
        host: str,
        port: int,
        tls: str,
        user: str | None,
        password: str | None,
        timeout: timedelta,
        ca_file: Path | None,
    ) -> None:
        if not re.fullmatch(r"[\w.:-]+", host, re.ASCII) or not 0 < port < 65536 or timeout <= timedelta(0):
            raise InvalidInput("server must be a host's name, port between 1 and 65535, timeout longer than zero.")
        if tls not in ("starttls", "tls", "none"):
            raise InvalidInput(f'tls must be "starttls", "tls" or "none", not {shown(tls)}.')
        if (user is None) != (password is None):
            raise InvalidInput("user and password belong together: give both or neither.")
        if password is not None and tls == "none":
            raise InvalidInput('With tls = "none" everybody on the way could read the password; use "starttls".')
        if not f"{user}{password}".isascii():
            raise InvalidInput("user and password must be ASCII, which is all that mail servers agree on.")
        self._host, self._port, self._tls = host, port, tls
        self._login = None if user is None or password is None else (user, password)
        self._seconds = timeout.total_seconds()
        self._context = None if tls == "none" else _trusting(ca_file)
        self._smtp: smtplib.SMTP | None = None
        self._sent = 0
        self._lock = threading.Lock()
        self._closed = False

    def send(self, message: EmailMessage, sender: str, address: str) -> Refusal | None:
        """Hand over one mail for one address; returns None if it was taken, else how it was refused.

        Raises :class:`EmailFailed` for what says nothing about the address.
        """
        with self._lock:
            try:
                self._connected().send_message(message, sender, [address])
            except smtplib.SMTPRecipientsRefused as error:
                return Refusal(*error.recipients[address])
            except smtplib.SMTPDataError as error:
                return Refusal(error.smtp_code, _bytes(error.smtp_error))
            except smtplib.SMTPNotSupportedError:
                return Refusal(553, b"5.6.7")  # an address beyond ASCII, and a server that can't carry it
            except OSError as error:
                self._drop()
                raise EmailFailed(f"The mail server {self._host} did not take a mail: {_why(error)}.") from None
            self._sent += 1
            return None

    def close(self) -> None:
        """Hang up politely, or in the middle where a mail is under way."""
        self._closed = True
        if self._lock.acquire(blocking=False):
            try:
                self._quit()
            finally:
                self._lock.release()
        elif (smtp := self._smtp) is not None and smtp.sock is not None:
            with suppress(OSError):
                # Not the TLS socket's own method, which would pull the ground from under the thread that reads.
                socket.socket.shutdown(smtp.sock, socket.SHUT_RDWR)

    def _connected(self) -> smtplib.SMTP:
        """The connection, if the server still answers on it, else a new one."""
        if self._closed:
            raise EmailFailed("The process is shutting down.")
        if self._sent >= MAILS_PER_CONNECTION:
            self._quit()
        if self._smtp is not None:
            with suppress(OSError):
                if self._smtp.noop()[0] == 250:
                    return self._smtp
            self._drop()
        self._smtp, self._sent = self._connect(), 0
        return self._smtp

    def _connect(self) -> smtplib.SMTP:
        smtp: smtplib.SMTP | None = None
        try:
            if self._tls == "tls":
                smtp = smtplib.SMTP_SSL(self._host, self._port, timeout=self._seconds, context=self._context)
            else:
                smtp = smtplib.SMTP(self._host, self._port, timeout=self._seconds)
            if self._tls == "starttls":
                smtp.starttls(context=self._context)
            if self._login is not None:
                smtp.login(*self._login)
        except OSError as error:
            if smtp is not None:
                smtp.close()
            where = f"{self._host}:{self._port}"
            raise EmailFailed(f"The mail server {where} can't be used: {_why(error)}.") from None
        return smtp

    def _quit(self) -> None:
        if self._smtp is not None and self._smtp.sock is not None:
            self._smtp.sock.settimeout(1)
            with suppress(OSError):
                self._smtp.quit()
        self._drop()

    def _drop(self) -> None:
        if self._smtp is not None:
            self._smtp.close()
        self._smtp = None


def _trusting(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise InvalidInput(f"ca_file {ca_file} can't be used: {error.strerror}.") from error


def _why(error: OSError) -> str:
    """What went wrong. What the server itself said stays out: it may repeat an address."""
    match error:
        case smtplib.SMTPAuthenticationError():
            return f"it refused the user or the password ({error.smtp_code})"
        case smtplib.SMTPSenderRefused():
            return f"it refused the sender ({error.smtp_code})"
        case smtplib.SMTPResponseException():
            return f"it answered {error.smtp_code}"
        case ssl.SSLCertVerificationError():
            return f"its certificate can't be trusted ({error.verify_message}); ca_file can name who signed it"
        case _:
            return error.strerror or str(error)


def _bytes(said: bytes | str) -> bytes:
    return said if isinstance(said, bytes) else said.encode(errors="replace")
