"""Metrics for a monitor: read anew for every request, and loud where a promise or a brake is concerned."""

import socket
from collections.abc import Iterator
from datetime import timedelta
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from lifecycle import Actor, Engine, ManualClock, Safety
from lifecycle.cli import app
from lifecycle.metrics import exposed, serve
from tests.conftest import START

DAY = timedelta(days=1)
ANN = "ann@acme.test"


@pytest.fixture
def engine(url: str, clock: ManualClock) -> Iterator[Engine]:
    safety = Safety(accounts_per_hour=1, share_per_hour=0, accounts_per_day=1, share_per_day=0)
    engine = Engine(url, clock=clock, safety=safety)
    engine.migrate()
    for id in ("acme", "bolt"):
        engine.open_account(id, company=id, owners=[ANN], plan="free")
        engine.fire(id, "cancel", actor=Actor.owner(ANN))
    engine.run_until(START + 29 * DAY)
    clock.set(START + 30 * DAY)
    engine.sweep()
    engine.store.beat("daemon-1", START, START + 30 * DAY - timedelta(seconds=7), engine.policy.version, None)
    yield engine
    engine.close()


def values(text: str) -> dict[tuple[str, ...], float]:
    return {
        (sample.name.removeprefix("lifecycle_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_metrics_say_what_waits_for_the_brake(engine: Engine) -> None:
    found = values(exposed(engine))
    assert found["accounts", "access_revoked"] == 2
    assert found["destruction_waiting", "delete_content"] == 1
    assert (found["brake_free",], found["brake_tripped",], found["destruction_barred",]) == (0, 1, 0)
    assert found["daemon_seen_seconds", "daemon-1"] == 7
    assert found["at_risk_accounts", "purge_broken"] == 0, "what is in order is counted, too"


def test_the_metrics_are_served_and_read_anew_for_every_request(engine: Engine) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serve(engine, "127.0.0.1", port)

    def fetched() -> dict[tuple[str, ...], float]:
        with urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            return values(answer.read().decode())

    assert fetched()["accounts", "active"] == 0
    engine.open_account("core", company="Core", owners=[ANN], plan="free")
    assert fetched()["accounts", "active"] == 1


def test_the_command_line_prints_them(engine: Engine, url: str) -> None:
    printed = CliRunner().invoke(app, ["metrics", "--database", url])
    assert printed.exit_code == 0, printed.output
    assert values(printed.stdout)["accounts", "access_revoked"] == 2


@pytest.mark.parametrize("wrong", ["9200", "localhost:", ":9200", "localhost:70000", "localhost:http"])
def test_a_malformed_address_for_metrics_is_refused(engine: Engine, url: str, wrong: str) -> None:
    refused = CliRunner().invoke(app, ["daemon", "--metrics", wrong, "--database", url])
    assert refused.exit_code == 2 and "HOST:PORT" in refused.stderr
