"""Mail: to whom it goes, what it says and promises, and what the mail server's answers mean."""

import asyncio
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email import message_from_string
from email.message import EmailMessage
from email.policy import default
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult

from lifecycle import Actor, Effect, Engine, InvalidInput, ManualClock, Policy, Task
from lifecycle.handlers import email as handler_module
from lifecycle.handlers import mail_server
from lifecycle.handlers.email import Email, EmailFailed
from lifecycle.handlers.mail_text import DATES, TO_OWNERS, TO_STAFF
from lifecycle.outcomes import DATES as DATES_OF_TASKS
from lifecycle.states import DESTRUCTIVE
from lifecycle.task import Undeliverable
from tests.conftest import START

# The server warns of passwords without STARTTLS: here they travel inside TLS, or it is what is tested.
pytestmark = pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS")

ANN, BEN, CY = "ann@acme.test", "ben@acme.test", "cy@acme.test"
STAFF = "billing@tracker.test"
DAY = timedelta(days=1)
#: No two settings have the same words, so that a mail shows which ones it quotes.
POLICY = {name: f"{number} days" for number, name in enumerate(Policy().as_text(), start=101)}
SAID = {
    "promised": ("2026-01-31T09:30:59.999999+00:00", "31 January 2026, 09:30 UTC"),
    "access_ends_at": ("2026-01-24T00:00:00+00:00", "24 January 2026, 00:00 UTC"),
    "delete_content_at": ("2026-01-31T11:30:00+02:00", "31 January 2026, 09:30 UTC"),
    "purge_backups_by": ("2026-03-01T23:59:00+00:00", "1 March 2026, 23:59 UTC"),
    "confirm_until": ("2026-01-03T08:15:00+00:00", "3 January 2026, 08:15 UTC"),
}
#: What single effects bring besides.
APART: dict[str, dict[str, Any]] = {
    "verify_owner": {"confirmations": [{"owner": ANN, "token": "s3cr3t", "confirm_url": None}], "requester": None},
    "tell_owner_change": {"change": "add_owner", "changed_owner": CY},
}
MAILED = [*TO_OWNERS, *TO_STAFF]


class Inbox:
    """Takes mails, but answers to an address as ``answers`` has it."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.envelopes: list[tuple[str, list[str]]] = []
        self.answers: dict[str, str] = {}
        self.to_data = "250 OK"
        self.sessions: list[Any] = []
        self.delay = 0.0

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        answer = self.answers.get(address, "250 OK")
        if answer.startswith("250"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.to_data.startswith("250"):
            self.mails.append(message_from_string(envelope.content.decode(), policy=default))  # type: ignore[arg-type]
            self.envelopes.append((envelope.mail_from, envelope.rcpt_tos))
        if session not in self.sessions:
            self.sessions.append(session)
        return self.to_data

    @property
    def addressed(self) -> list[str]:
        return [address for _, addresses in self.envelopes for address in addresses]


class Server(Controller):
    """On a free port, which it knows once it listens."""

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        socket.create_connection(("127.0.0.1", self.port), 1.0).close()


Serve = Callable[..., Server]


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def serve(inbox: Inbox) -> Iterator[Serve]:
    """Starts mail servers that put what they get into the inbox."""
    running = []

    def start(**options: Any) -> Server:
        server = Server(inbox, hostname="127.0.0.1", port=0, ready_timeout=10, **options)
        server.start()
        running.append(server)
        return server

    yield start
    for server in running:
        server.stop(no_assert=True)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
def tls_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


Make = Callable[..., Email]


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes handlers, and closes them."""
    made = []

    def new(server: Server | None = None, **options: Any) -> Email:
        given = {"policy": POLICY, "product": "Tracker", "tls": "none", "staff": STAFF, "port": 25}
        if server is not None:
            given["port"] = server.port
        made.append(Email("127.0.0.1", "notices@tracker.test", **(given | options)))
        return made[-1]

    yield new
    for email in made:
        email.close()


@pytest.fixture
def mailer(serve: Serve, make: Make) -> Email:
    return make(serve())


def task(effect: str = "confirm_cancellation", *, without: str = "", key: str = "", **payload: Any) -> Task:
    """A task with every date, unless ``without`` names one."""
    said = {name: iso for name, (iso, _) in SAID.items() if name != without}
    return Task(
        id=7,
        account_id="acme",
        effect=effect,
        payload={"company": "Acme Ltd", "owners": [ANN], **said, **APART.get(effect, {})} | payload,
        attempt=1,
        idempotency_key=key or f"acme:2:{effect}",
    )


class Reader(HTMLParser):
    """The words of a page, without its title, and what it is made of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.said = ""
        self.tags: list[str] = []
        self.open: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "title" not in self.open:
            self.said += data


def text_of(mail: EmailMessage) -> str:
    return mail.get_body(("plain",)).get_content().replace("\r\n", "\n")  # type: ignore[union-attr]


def html_of(mail: EmailMessage) -> str:
    return mail.get_body(("html",)).get_content()  # type: ignore[union-attr]


def words(text: str) -> str:
    """The text on one line, and without the marks of lists."""
    return " ".join(re.sub(r"^- ", "", text, flags=re.MULTILINE).split())


# --- What a mail says ------------------------------------------------------------------------------


def test_every_effect_is_mailed_or_refused_and_every_date_is_known() -> None:
    assert {*TO_OWNERS, *TO_STAFF, *DESTRUCTIVE} == set(Effect)
    assert DATES == DATES_OF_TASKS


#: The settings that each mail quotes, and the dates that it says though they may be missing.
QUOTED = {
    "remind_trial_end": ("expired_trial_cancellation_after", "company_notice"),
    "remind_company_cancellation": (
        "expired_trial_cancellation_after",
        "unpaid_cancellation_after",
        "inactive_cancellation_after",
        "deletion_after",
    ),
    "remind_access_end": (),
    "remind_deletion": ("deletion_notice",),
    "confirm_cancellation": ("deletion_notice", "refund_unused", "refund_new_period"),
    "contact_owners": (),
    "verify_owner": ("deletion_after", "purge_after"),
    "tell_owner_change": ("new_owner_wait",),
    "stop_billing": (),
    "resume_billing": (),
    "review_refund": ("refund_unused", "refund_new_period"),
}


@pytest.mark.parametrize("effect", MAILED)
def test_both_parts_say_each_date_and_only_numbers_of_the_policy(effect: str, mailer: Email, inbox: Inbox) -> None:
    mailer(task(effect))
    (mail,) = inbox.mails
    dates = [*(TO_OWNERS | TO_STAFF)[effect]] or [name for name in DATES[1:] if effect == "contact_owners"]
    for part in (words(text_of(mail)), words(Reader(html_of(mail)).said)):
        for name in dates:
            assert SAID[name][1] in part
        assert set(re.findall(r"\d+ days", part)) == {POLICY[name] for name in QUOTED[effect]}
        assert "Acme Ltd" in part
        assert "Tracker" in part
        for leftover in ("None", "{{", "{%", "Undefined", "&amp;"):
            assert leftover not in part


@pytest.mark.parametrize("effect", MAILED)
def test_the_two_parts_say_the_same_word_for_word(effect: str, serve: Serve, make: Make, inbox: Inbox) -> None:
    make(serve(), support="help@tracker.test")(task(effect))
    (mail,) = inbox.mails
    assert words(text_of(mail)) == words(Reader(html_of(mail)).said)


@pytest.mark.parametrize("effect", MAILED)
def test_a_mail_can_be_read_without_images_in_the_dark_and_on_a_small_screen(
    effect: str, mailer: Email, inbox: Inbox
) -> None:
    mailer(task(effect))
    page = Reader(html_of(inbox.mails[0]))
    assert ("lang", "en") in page.attributes
    assert ("content", "light dark") in page.attributes
    assert not {"img", "script", "link", "style", "form", "iframe"} & set(page.tags)
    assert not re.search(r"background|[^-]color: #|https?:", html_of(inbox.mails[0]))
    assert max(map(len, text_of(inbox.mails[0]).splitlines())) <= 72


def test_a_deletion_that_was_put_off_names_only_the_new_date(mailer: Email, inbox: Inbox) -> None:
    mailer(task("remind_deletion", delete_content_at="2026-01-20T08:00:00+00:00"))
    for part in (text_of(inbox.mails[0]), Reader(html_of(inbox.mails[0])).said):
        assert "31 January 2026, 09:30 UTC" in part
        assert "later than we told you" in words(part)
        assert "20 January" not in part


def test_a_sweep_that_came_seconds_late_puts_nothing_off(mailer: Email, inbox: Inbox) -> None:
    mailer(task("remind_deletion"))  # its promise is a minute after the date that was stamped
    assert "later" not in text_of(inbox.mails[0])
    assert "later" not in html_of(inbox.mails[0])


def test_a_purge_date_that_passed_during_a_hold_is_not_promised_again(mailer: Email, inbox: Inbox) -> None:
    mailer(task("remind_deletion", purge_backups_by="2026-01-05T00:00:00+00:00"))
    for part in (text_of(inbox.mails[0]), Reader(html_of(inbox.mails[0])).said):
        assert "right after that" in part
        assert "5 January" not in part


def test_owners_of_an_account_that_is_not_cancelled_are_told_no_dates(mailer: Email, inbox: Inbox) -> None:
    mailer(task("contact_owners", **dict.fromkeys(DATES)))
    assert "cancelled" not in text_of(inbox.mails[0])
    assert "2026" not in text_of(inbox.mails[0])


@pytest.mark.parametrize(("effect", "name"), [(e, n) for e, names in (TO_OWNERS | TO_STAFF).items() for n in names])
def test_without_its_date_a_mail_is_not_sent(effect: str, name: str, mailer: Email, inbox: Inbox) -> None:
    with pytest.raises(Undeliverable, match=name):
        mailer(task(effect, without=name))
    with pytest.raises(Undeliverable, match=name):
        mailer(task(effect, **{name: None}))
    assert inbox.mails == []


@pytest.mark.parametrize("said", ["tomorrow", "", "2026-01-31T09:30:00", 7])
def test_a_date_that_is_none_is_not_sent(said: Any, mailer: Email, inbox: Inbox) -> None:
    with pytest.raises(Undeliverable, match="access_ends_at"):
        mailer(task(access_ends_at=said))
    assert inbox.mails == []


def test_a_whole_life_is_mailed_with_the_dates_that_the_account_has(
    serve: Serve, make: Make, inbox: Inbox, sqlite_url: str
) -> None:
    clock = ManualClock(START)
    mailer = make(serve(), policy=Policy().as_text())
    erase = dict.fromkeys(DESTRUCTIVE, lambda task: "gone")
    engine = Engine(sqlite_url, clock=clock, handlers={Effect(effect): mailer for effect in MAILED} | erase)
    engine.migrate()
    engine.open_account("acme", company="Acme Ltd", owners=[ANN])
    engine.run_until(START + 70 * DAY)
    account = engine.get("acme")
    engine.contact_owners("acme", actor=Actor.support("sue"), reason="who owns it?")
    engine.run_until(START + 200 * DAY)
    engine.close()
    subjects = [mail["Subject"].split(" (")[0] for mail in inbox.mails]
    assert subjects == [
        "Your Tracker trial ends on 31 January 2026",
        "Your Tracker account is due to be cancelled",
        "Stop billing: account acme",
        "Your Tracker account is cancelled",
        "A question about the Tracker account of Acme Ltd",
        "Your Tracker content will be deleted on 1 April 2026",
    ]
    stamped = [account.access_ends_at, account.delete_content_at, account.purge_backups_by]
    for mail in (inbox.mails[3], inbox.mails[4]):
        said = re.findall(r"\d+ \w+ \d{4}, \d\d:\d\d UTC", text_of(mail))
        assert said == [f"{at.day} {at:%B %Y, %H:%M} UTC" for at in stamped if at]


# --- To whom -----------------------------------------------------------------------------------------


def test_every_owner_gets_a_mail_of_their_own(mailer: Email, inbox: Inbox) -> None:
    receipt = json.loads(mailer(task(owners=[ANN, BEN, CY, "ANN@acme.test"])))
    assert (receipt["delivered"], receipt["refused"]) == (3, 0)
    assert [addresses for _, addresses in inbox.envelopes] == [["ANN@acme.test"], [BEN], [CY]]
    for mail, address in zip(inbox.mails, inbox.addressed, strict=True):
        assert mail["To"] == address
        assert all(other not in mail.as_string() for other in {ANN, BEN, CY} - {address})
        assert mail["Message-ID"] == receipt["message_id"]


def test_orders_to_staff_reach_staff_and_no_owner(mailer: Email, inbox: Inbox) -> None:
    for effect in TO_STAFF:
        mailer(task(effect))
    assert inbox.addressed == [STAFF] * 3
    assert all(ANN not in mail.as_string() for mail in inbox.mails)
    assert all("acme:2:" in text_of(mail) for mail in inbox.mails)


def test_what_nobody_can_be_told_is_undeliverable(mailer: Email, serve: Serve, make: Make, inbox: Inbox) -> None:
    for effect in (*DESTRUCTIVE, "sing"):
        with pytest.raises(Undeliverable, match="not a message"):
            mailer(task(effect))
    with pytest.raises(Undeliverable, match="staff address"):
        make(serve(), staff=None)(task("stop_billing"))
    with pytest.raises(Undeliverable, match="No owner"):
        mailer(task(owners=[]))
    for company in ("", " ", None):
        with pytest.raises(Undeliverable, match="name is missing"):
            mailer(task(company=company))
    assert inbox.mails == []


def test_headers_say_from_whom_and_that_a_machine_wrote_it(serve: Serve, make: Make, inbox: Inbox) -> None:
    make(serve(), product="Tracker, Inc.", support="help@tracker.test")(task())
    (mail,) = inbox.mails
    assert (mail["From"].addresses[0].display_name, mail["From"].addresses[0].addr_spec) == (
        "Tracker, Inc.",
        "notices@tracker.test",
    )
    assert mail["Reply-To"].addresses[0].addr_spec == "help@tracker.test"
    assert "help@tracker.test" in text_of(mail)
    assert mail["Auto-Submitted"] == "auto-generated"
    assert abs(mail["Date"].datetime - datetime.now(UTC)) < timedelta(minutes=1)
    assert mail.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    assert inbox.envelopes[0][0] == "notices@tracker.test"


def test_the_message_id_is_the_task_and_nobody(serve: Serve, make: Make, inbox: Inbox) -> None:
    port = serve()
    for key in ("acme:2:x", "acme:2:x", "acme:3:x"):
        make(port)(task(key=key))
    first, again, other = (mail["Message-ID"] for mail in inbox.mails)
    assert first == again != other
    assert re.fullmatch(r"<[0-9a-f]{32}@tracker\.test>", first)


# --- What comes from outside ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "company", ["Acme\r\nBcc: eve@evil.test", "Acme\n\nHello", "Acme\x00", "Acme\u2028X", "\u202eemcA"]
)
def test_a_company_can_add_no_header_and_no_line(company: str, mailer: Email, inbox: Inbox) -> None:
    with pytest.raises(Undeliverable, match="control characters") as raised:
        mailer(task(company=company))
    assert "Acme" not in str(raised.value)
    assert inbox.mails == []


@pytest.mark.parametrize(
    "trick",
    [
        "Ann <ann@acme.test>",
        "ann@acme.test, eve@evil.test",
        "ann@acme.test\r\nBcc: eve@evil.test",
        "ann@acme.test\nDATA",
        '"ann"@acme.test',
        '"eve@evil.test" <ann@acme.test>',
        "ann@acme.test>",
        "<eve@evil.test>ann@acme.test",
        "group:ann@acme.test;",
        "ann(eve@evil.test)@acme.test",
        "ann@acme.test@evil.test",
        "ann\u200b@acme.test",
        "ann@[127.0.0.1]",
        "ann",
        "@acme.test",
        "",
        f"{'a' * 250}@acme.test",
    ],
)
def test_an_address_that_is_more_than_one_gets_nothing(trick: str, mailer: Email, inbox: Inbox) -> None:
    assert json.loads(mailer(task(owners=[trick, BEN])))["refused"] == 1
    assert inbox.addressed == [BEN]
    with pytest.raises(Undeliverable, match="553"):
        mailer(task(owners=[trick], key="alone"))


def test_a_company_is_text_in_html_too(mailer: Email, inbox: Inbox) -> None:
    company = "<script>alert('x')</script> & \"Sons\" <b>"
    for effect in MAILED:
        mailer(task(effect, company=company))
    for mail in inbox.mails:
        page = Reader(html_of(mail))
        assert "script" not in page.tags
        assert "b" not in page.tags
        assert company in words(page.said)
        assert company in words(text_of(mail))
        assert company in mail["Subject"]


@pytest.mark.parametrize("company", ["Win at https://evil.test", "WWW.evil.test"])
def test_a_company_can_advertise_no_link_in_our_name(company: str, mailer: Email, inbox: Inbox) -> None:
    mailer(task(company=company))
    for said in (inbox.mails[0]["Subject"], text_of(inbox.mails[0]), html_of(inbox.mails[0])):
        assert "evil" not in said
        assert "acme" in said


def test_a_template_in_a_name_is_no_template(mailer: Email, inbox: Inbox) -> None:
    mailer(task(company="{{ policy }} {% if x %}"))
    assert "{{ policy }} {% if x %}" in words(text_of(inbox.mails[0]))


def test_a_long_name_is_cut(mailer: Email, inbox: Inbox) -> None:
    mailer(task(company="A" * 1000))
    assert "A" * 99 + "…" in text_of(inbox.mails[0])
    assert "A" * 100 not in text_of(inbox.mails[0])


@pytest.mark.parametrize("company", ["Ünïcode Größe GmbH", "株式会社　山田商店", "🦊 Фокс и сыновья " * 4, "שלום"])
def test_names_in_any_script_arrive_as_they_are(company: str, serve: Serve, make: Make, inbox: Inbox) -> None:
    make(serve(), product="Größer")(task(company=company))
    (mail,) = inbox.mails
    assert company.strip() in mail["Subject"]
    assert mail["From"].addresses[0].display_name == "Größer"
    assert words(company) in words(text_of(mail))
    assert words(company) in words(Reader(html_of(mail)).said)


def test_an_address_in_another_script_needs_a_server_that_can_carry_it(serve: Serve, make: Make, inbox: Inbox) -> None:
    owners = ["änn@größe.test", BEN]
    assert json.loads(make(serve())(task(owners=owners)))["delivered"] == 2
    assert inbox.addressed == owners
    assert inbox.mails[0]["To"].addresses[0].addr_spec == owners[0]
    inbox.envelopes.clear()
    assert json.loads(make(serve(enable_SMTPUTF8=False))(task(owners=owners)))["refused"] == 1
    assert inbox.addressed == [BEN]


# --- What the server answers ----------------------------------------------------------------------------


def test_one_address_that_is_gone_does_not_undo_the_others(mailer: Email, inbox: Inbox) -> None:
    inbox.answers[BEN] = f"550 5.1.1 no such user {BEN}"
    receipt = mailer(task(owners=[ANN, BEN, CY]))
    assert json.loads(receipt).keys() == {"delivered", "refused", "message_id"}
    assert (json.loads(receipt)["delivered"], json.loads(receipt)["refused"]) == (2, 1)
    assert "acme" not in receipt
    assert inbox.addressed == [ANN, CY]


@pytest.mark.parametrize("answer", ["550 5.1.1 no such user", "550 gone", "552 5.2.2 full"])
def test_when_all_are_gone_a_person_must_look(answer: str, mailer: Email, inbox: Inbox) -> None:
    inbox.answers = {ANN: f"{answer} {ANN}", BEN: f"{answer} {BEN}"}
    with pytest.raises(Undeliverable, match="Bounced: the mail server refused all 2 addresses") as raised:
        mailer(task(owners=[ANN, BEN]))
    assert "@" not in str(raised.value)


def test_a_mail_that_is_refused_as_a_whole_bounces(mailer: Email, inbox: Inbox) -> None:
    inbox.to_data = f"554 no thanks {ANN}"
    with pytest.raises(Undeliverable, match="554"):
        mailer(task())


@pytest.mark.parametrize("answer", ["550 5.7.1 relaying denied", "554 5.7.1 blocked", "530 sign in first"])
def test_a_server_that_refuses_us_says_nothing_about_the_owners(answer: str, mailer: Email, inbox: Inbox) -> None:
    inbox.answers[ANN] = answer
    with pytest.raises(EmailFailed, match="from us"):
        mailer(task())
    inbox.answers[ANN] = "250 OK"
    assert json.loads(mailer(task()))["delivered"] == 1


def test_who_was_put_off_is_tried_again_and_nobody_else(mailer: Email, inbox: Inbox) -> None:
    inbox.answers = {BEN: f"451 4.7.1 greylisted {BEN}", CY: "550 5.1.1 no such user"}
    with pytest.raises(EmailFailed, match=r"put mails off, 2 were not taken \(451, 550\)") as raised:
        mailer(task(owners=[ANN, BEN, CY]))
    assert "@" not in str(raised.value)
    assert inbox.addressed == [ANN]
    del inbox.answers[BEN]
    receipt = json.loads(mailer(task(owners=[ANN, BEN, CY])))
    assert (receipt["delivered"], receipt["refused"]) == (2, 1)
    assert inbox.addressed == [ANN, BEN]


def test_the_same_task_twice_is_one_mail_and_one_receipt(mailer: Email, inbox: Inbox) -> None:
    assert mailer(task()) == mailer(task())
    assert len(inbox.mails) == 1


def test_memory_of_who_was_served_is_bounded(mailer: Email, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handler_module, "REMEMBERED", 2)
    for key in ("a", "b", "a", "c", "a", "b"):
        mailer(task(key=key))
    assert len(inbox.mails) == 4  # b was forgotten, a was not


# --- The connection ---------------------------------------------------------------------------------------


def test_one_connection_serves_many_tasks(mailer: Email, inbox: Inbox) -> None:
    for number in range(5):
        mailer(task(key=str(number), owners=[ANN, BEN]))
    assert len(inbox.mails) == 10
    assert len(inbox.sessions) == 1


def test_a_connection_is_renewed_now_and_then(mailer: Email, inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail_server, "MAILS_PER_CONNECTION", 2)
    for number in range(5):
        mailer(task(key=str(number)))
    assert len(inbox.sessions) == 3


def test_a_server_that_hung_up_meanwhile_is_called_again(serve: Serve, make: Make, inbox: Inbox) -> None:
    mailer = make(serve(timeout=0.5))
    mailer(task(key="1"))
    time.sleep(1)
    mailer(task(key="2"))
    assert len(inbox.sessions) == 2


def test_a_server_that_says_it_closes_is_called_again_for_the_next_owner(mailer: Email, inbox: Inbox) -> None:
    inbox.answers[ANN] = "421 4.3.2 closing"
    with pytest.raises(EmailFailed, match="421"):
        mailer(task(owners=[ANN, BEN]))
    assert inbox.addressed == [BEN]


def test_no_server_is_a_reason_to_try_again(make: Make) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(EmailFailed, match="Connection refused"):
        make(port=port)(task())


def test_what_a_server_says_at_the_door_is_not_repeated(make: Make) -> None:
    def turn_away() -> None:
        connection, _ = door.accept()
        connection.sendall(b"554 no mail for ann@acme.test\r\n")
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=turn_away, daemon=True).start()
        with pytest.raises(EmailFailed, match=r"can't be used: it answered 554\.$"):
            make(port=door.getsockname()[1])(task())


def test_a_server_that_refuses_the_sender_is_a_reason_to_try_again(serve: Serve, make: Make, inbox: Inbox) -> None:
    with pytest.raises(EmailFailed, match=r"refused the sender \(530\)"):
        make(serve(auth_required=True, auth_require_tls=False, authenticator=_known))(task())
    assert inbox.mails == []


def test_a_server_that_does_not_answer_is_given_up_after_the_timeout(serve: Serve, make: Make, inbox: Inbox) -> None:
    inbox.delay = 3
    mailer = make(serve(), timeout=timedelta(seconds=0.2))
    began = time.monotonic()
    with pytest.raises(EmailFailed, match="timed out"):
        mailer(task())
    assert time.monotonic() - began < 2


def test_closing_cuts_off_what_is_under_way_and_refuses_what_comes(mailer: Email, inbox: Inbox) -> None:
    mailer(task(key="before"))
    inbox.delay = 10
    threading.Timer(0.3, mailer.close).start()
    began = time.monotonic()
    with pytest.raises(EmailFailed, match="did not take"):
        mailer(task())
    assert time.monotonic() - began < 5
    mailer.close()
    with pytest.raises(EmailFailed, match="shutting down"):
        mailer(task())


# --- Trust ------------------------------------------------------------------------------------------------


def _known(server: SMTP, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    return AuthResult(success=(data.login, data.password) == (b"notices", b"s3cret-canary"), handled=False)


def test_a_password_travels_only_over_starttls(
    serve: Serve, make: Make, inbox: Inbox, tls_context: ssl.SSLContext, ca_file: Path
) -> None:
    options: dict[str, Any] = {"tls": "starttls", "ca_file": ca_file, "user": "notices", "password": "s3cret-canary"}
    server = serve(tls_context=tls_context, require_starttls=True, auth_required=True, authenticator=_known)
    assert json.loads(make(server, **options)(task()))["delivered"] == 1
    assert inbox.sessions[0].ssl is not None
    plain = serve(auth_required=True, auth_require_tls=False, authenticator=_known)
    with pytest.raises(EmailFailed, match="STARTTLS"):
        make(plain, **options)(task())
    assert len(inbox.mails) == 1


def test_a_wrong_password_is_tried_again_and_never_shown(
    serve: Serve, make: Make, inbox: Inbox, tls_context: ssl.SSLContext, ca_file: Path
) -> None:
    server = serve(tls_context=tls_context, require_starttls=True, auth_required=True, authenticator=_known)
    mailer = make(server, tls="starttls", ca_file=ca_file, user="notices", password="wrong-canary")
    with pytest.raises(EmailFailed, match=r"refused the user or the password \(535\)") as raised:
        mailer(task())
    assert raised.value.__suppress_context__
    assert "canary" not in f"{raised.value!r} {mailer!r} {mailer._server!r}"
    assert inbox.mails == []


def test_tls_from_the_first_byte(
    serve: Serve, make: Make, inbox: Inbox, tls_context: ssl.SSLContext, ca_file: Path
) -> None:
    server = serve(ssl_context=tls_context, auth_required=True, auth_require_tls=False, authenticator=_known)
    options: dict[str, Any] = {"user": "notices", "password": "s3cret-canary", "ca_file": ca_file}
    assert json.loads(make(server, tls="tls", **options)(task()))["delivered"] == 1
    with pytest.raises(EmailFailed):
        make(server, timeout=timedelta(seconds=0.5))(task())
    assert len(inbox.mails) == 1


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_a_server_that_nobody_vouches_for_gets_no_mail(
    tls: str, serve: Serve, make: Make, inbox: Inbox, tls_context: ssl.SSLContext
) -> None:
    server = serve(**({"tls_context": tls_context} if tls == "starttls" else {"ssl_context": tls_context}))
    with pytest.raises(EmailFailed, match="certificate can't be trusted"):
        make(server, tls=tls)(task())
    assert inbox.mails == []


def test_a_certificate_for_another_host_is_not_trusted(
    serve: Serve, make: Make, inbox: Inbox, authority: trustme.CA, ca_file: Path
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("elsewhere.test").configure_cert(context)
    with pytest.raises(EmailFailed, match="certificate can't be trusted"):
        make(serve(tls_context=context), tls="starttls", ca_file=ca_file)(task())
    assert inbox.mails == []


# --- Templates of the customer's own -------------------------------------------------------------------------


def test_a_template_of_the_same_name_replaces_ours_and_the_rest_stays(
    serve: Serve, make: Make, inbox: Inbox, tmp_path: Path
) -> None:
    (tmp_path / "remind_trial_end.txt").write_text(
        "Subject: Ihr Test endet am {{ promised.strftime('%d.%m.%Y') }}\n\n"
        "{% include '_hallo.txt' %}\n\n\nIhr Test endet am {{ promised.strftime('%d.%m.%Y um %H:%M') }} (UTC).\n"
    )
    (tmp_path / "_hallo.txt").write_text("Hallo {{ company }},")
    mailer = make(serve(), templates=tmp_path)
    mailer(task("remind_trial_end"))
    mailer(task("confirm_cancellation"))
    german, english = inbox.mails
    assert german["Subject"] == "Ihr Test endet am 31.01.2026"
    assert text_of(german) == "Hallo Acme Ltd,\n\nIhr Test endet am 31.01.2026 um 09:30 (UTC).\n"
    assert SAID["promised"][1] in html_of(german)
    assert english["Subject"] == "Your Tracker account is cancelled (Acme Ltd)"


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (
            "remind_deletion.txt",
            "Subject: Gone\n\nSoon, {{ purge_backups_by }}",
            r"remind_deletion\.txt must say promised",
        ),
        ("remind_deletion.html", "<p>In {{ policy.deletion_notice }}</p>", r"remind_deletion\.html must say promised"),
        ("confirm_cancellation.txt", "{{ access_ends_at }}", "first line must be such as 'Subject: "),
        ("confirm_cancellation.txt", "Subject: \n{{ access_ends_at }}", "first line"),
        ("stop_billing.html", "{{ owners }}", "'owners' is undefined"),
        ("stop_billing.html", "{{ policy.deletion_afer }}", "deletion_afer"),
        ("resume_billing.html", "{% if %}", "resume_billing"),
        ("resume_billing.html", "{{ support }}", "None"),
        ("remind_trail_end.txt", "Subject: x", r"remind_trail_end\.txt replaces none"),
    ],
)
def test_a_template_with_a_mistake_is_refused_before_the_first_mail(
    name: str, content: str, complaint: str, make: Make, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InvalidInput, match=complaint):
        make(templates=tmp_path)


def test_a_template_that_fails_on_a_single_account_is_undeliverable_and_silent(
    serve: Serve, make: Make, inbox: Inbox, tmp_path: Path
) -> None:
    (tmp_path / "resume_billing.html").write_text("{% if company != 'Sample Ltd' %}{{ policy[company] }}{% endif %}")
    with pytest.raises(Undeliverable, match=r"resume_billing can't be filled \(UndefinedError\)") as raised:
        make(serve(), templates=tmp_path)(task("resume_billing"))
    assert "Acme" not in str(raised.value)
    assert inbox.mails == []


def test_a_policy_that_lacks_a_setting_is_refused(make: Make) -> None:
    with pytest.raises(InvalidInput, match="refund_unused"):
        make(policy={name: text for name, text in POLICY.items() if name != "refund_unused"})


# --- Arguments ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"sender": "Tracker <notices@tracker.test>"}, "sender must be one bare"),
        ({"sender": "nötices@tracker.test"}, "sender must be one bare"),
        ({"staff": "a@b.test, c@d.test"}, "staff must be one bare"),
        ({"support": "help@tracker.test\nBcc: x@y.test"}, "support must be one bare"),
        ({"product": ""}, "product must be"),
        ({"product": "Tracker\nBcc: x@y.test"}, "product must be"),
        ({"server": ""}, "server must be"),
        ({"server": "mail.test\r\nx"}, "server must be"),
        ({"port": 0}, "port between"),
        ({"timeout": timedelta(0)}, "timeout longer"),
        ({"tls": "ssl"}, "tls must be"),
        ({"user": "notices", "tls": "starttls"}, "belong together"),
        ({"password": "canary", "tls": "starttls"}, "belong together"),
        ({"user": "notices", "password": "canary"}, "could read the password"),
        ({"user": "notices", "password": "cänary", "tls": "tls"}, "must be ASCII"),
        ({"ca_file": Path("/nowhere/ca.pem"), "tls": "tls"}, "ca_file /nowhere/ca.pem can't be used"),
        ({"templates": Path("/nowhere")}, "folder of templates /nowhere is not there"),
    ],
)
def test_arguments_that_can_not_work_are_refused(options: dict[str, Any], complaint: str) -> None:
    given = {"server": "mail.test", "sender": "notices@tracker.test", "policy": POLICY, "product": "T", "tls": "none"}
    with pytest.raises(InvalidInput, match=complaint) as raised:
        Email(**(given | options))
    assert "nary" not in str(raised.value)
