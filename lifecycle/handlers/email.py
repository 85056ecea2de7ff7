"""Delivers notices as mail: one to every owner, and to staff what staff has to do."""

import json
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import localtime
from hashlib import sha256
from pathlib import Path
from typing import Literal

from lifecycle.errors import InvalidInput
from lifecycle.handlers.mail_server import EmailFailed, MailServer, Refusal
from lifecycle.handlers.mail_text import (
    LONGEST_NAME,
    TO_OWNERS,
    TO_STAFF,
    Mail,
    Templates,
    holds_controls,
    told,
    told_alone,
)
from lifecycle.inputs import email_key, is_email
from lifecycle.task import Task, Undeliverable

__all__ = ["Email", "EmailFailed"]

#: So many tasks are remembered, with who was served already.
REMEMBERED = 10_000


class Email:
    """Sends each notice to every owner, in a mail of their own, and what concerns staff to ``staff``.

    Dates come from the task and durations from ``policy`` (the settings and their words, such as
    ``"30 days"``), so that no mail promises anything else. ``sender`` is the bare address that mails
    come from and bounces go to, ``product`` the name that stands beside it. Replies go to ``support``,
    else to ``sender``: somebody must read them. Files in the folder ``templates`` replace those of the
    same name beside this module. ``ca_file`` is trusted instead of the system's authorities. ``timeout`` is
    for each answer of the server.

    A mail is sent at least once. Who was served is remembered in this process, so that a second
    attempt serves only the others; after a crash somebody may get the same mail again, with the same
    Message-ID. The receipt counts owners and names none.
    """

    def __init__(
        self,
        server: str,
        sender: str,
        *,
        policy: Mapping[str, str],
        product: str,
        port: int = 587,
        user: str | None = None,
        password: str | None = None,
        tls: Literal["starttls", "tls", "none"] = "starttls",
        templates: Path | None = None,
        staff: str | None = None,
        support: str | None = None,
        timeout: timedelta = timedelta(seconds=30),
        ca_file: Path | None = None,
    ) -> None:
        for name, address in (("sender", sender), ("staff", staff), ("support", support)):
            if address is not None and not (is_email(address) and address.isascii()):
                raise InvalidInput(f"{name} must be one bare e-mail address in ASCII, such as notices@example.com.")
        if not product.strip() or len(product) > LONGEST_NAME or holds_controls(product):
            raise InvalidInput(f"product must be the product's name, on one line of at most {LONGEST_NAME} characters.")
        self._sender, self._staff, self._support = sender, staff, support
        self._product = product.strip()
        self._folder = templates
        self.quote(policy)
        self._server = MailServer(server, port, tls, user, password, timeout, ca_file)
        self._served: OrderedDict[str, set[str]] = OrderedDict()

    def __call__(self, task: Task) -> str:
        """Send the task's mail to all whom it concerns; returns the counts and the Message-ID as JSON."""
        recipients = self._recipients(task)
        said, alone = told(task), told_alone(task)
        same = None if alone else self._templates.mail(task.effect, said)
        message_id = f"<{sha256(task.idempotency_key.encode()).hexdigest()[:32]}@{self._sender.partition('@')[2]}>"
        served = self._remembered(task.idempotency_key)
        refusals = []
        for address in recipients:
            if address in served:
                continue
            mail = same or self._templates.mail(task.effect, said | alone[address])
            refusal = self._post(mail, address, message_id)
            if refusal is None:
                served.add(address)
            else:
                refusals.append(refusal)
        delivered = sum(address in served for address in recipients)
        _judge(refusals, delivered)
        return json.dumps({"delivered": delivered, "refused": len(refusals), "message_id": message_id})

    def quote(self, policy: Mapping[str, str]) -> None:
        """From now on mails quote this policy."""
        given = {"product": self._product, "support": self._support, "policy": dict(policy)}
        self._templates = Templates(self._folder, given)

    def close(self) -> None:
        """Hang up. A task that is being worked on fails, and is tried again later."""
        self._server.close()

    def _recipients(self, task: Task) -> list[str]:
        if task.effect in TO_STAFF:
            if self._staff is None:
                raise Undeliverable(f"{task.effect} is for staff: give the e-mail handler a staff address, then retry.")
            return [self._staff]
        if task.effect not in TO_OWNERS:
            raise Undeliverable(f"{task.effect} is not a message: give it a handler that carries it out, then retry.")
        owners = task.payload.get("owners") or ()
        if not owners:
            raise Undeliverable("No owner is on file: there is nobody to write to.")
        return list({email_key(str(owner)): str(owner) for owner in owners}.values())

    def _remembered(self, key: str) -> set[str]:
        """Who was served under this key; the oldest keys are forgotten."""
        served = self._served.setdefault(key, set())
        self._served.move_to_end(key)
        if len(self._served) > REMEMBERED:
            self._served.popitem(last=False)
        return served

    def _post(self, mail: Mail, address: str, message_id: str) -> Refusal | None:
        """Send the mail to one address; returns None if it was taken, else how it was refused."""
        if not is_email(address):
            return Refusal(553)
        local, _, domain = address.rpartition("@")
        message = EmailMessage(policy=SMTP)
        message["From"] = Address(self._product, addr_spec=self._sender)
        message["To"] = Address(username=local, domain=domain)
        if self._support is not None:
            message["Reply-To"] = Address(self._product, addr_spec=self._support)
        message["Subject"] = mail.subject
        message["Date"] = localtime().astimezone(UTC)  # of posting: the real time, whatever the engine's clock says
        message["Message-ID"] = message_id
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(mail.text, cte="quoted-printable")
        message.add_alternative(mail.html, subtype="html", cte="quoted-printable")
        return self._server.send(message, self._sender, address)


def _judge(refusals: list[Refusal], delivered: int) -> None:
    """Return where the notice counts as delivered; raise where it is to be tried again, or can't be delivered.

    A parked notice counts as given, so it is parked at once only where the addresses are at fault.
    """
    codes = ", ".join(sorted({str(refusal.code) for refusal in refusals}))
    if not all(refusal.is_final for refusal in refusals):
        raise EmailFailed(f"The mail server put mails off, {len(refusals)} were not taken ({codes}).")
    if delivered:
        return
    if any(refusal.is_about_us for refusal in refusals):
        raise EmailFailed(f"The mail server takes no such mail from us ({codes}): look at user, sender and blocklists.")
    raise Undeliverable(f"Bounced: the mail server refused all {len(refusals)} addresses for good ({codes}).")
