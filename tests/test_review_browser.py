"""The review page in a real browser: clicked, reached by keyboard, printed; its timelines held against the engine."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect, sync_playwright

from lifecycle import Policy
from lifecycle.review.page import page as written
from lifecycle.review.tables import settings
from lifecycle.states import Entitlements, Event, State
from tests.conftest import SOAK
from tests.lives import POLICIES, UNTIL, Life, as_json, micros, scenarios
from tests.test_review import CANDIDATE, a_verification

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.xdist_group("browser"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
]
SCHEMES = ("light", "dark")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page about one policy, and about one beside a candidate, with a broken promise."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "plain.html").write_text(written(Policy()), encoding="utf-8")
    both = written(Policy(), candidate=CANDIDATE, verifications=[a_verification()])
    (folder / "both.html").write_text(both, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in ("plain", "both")}


class Visits:
    """Opens pages from disk, and notes whatever a console or the network would see."""

    def __init__(self, browser: Browser, files: dict[str, Path]) -> None:
        self.browser, self.files = browser, files
        self.noise: list[str] = []

    def __call__(self, name: str = "plain", width: int = 1440, **options: Any) -> Page:
        context = self.browser.new_context(viewport={"width": width, "height": 900}, locale="en-GB", **options)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: self.noise.append(message.text))
        page.on("pageerror", lambda error: self.noise.append(str(error)))
        page.on("request", lambda request: self._requested(request.url, name))
        page.goto(self.files[name].as_uri())
        return page

    def _requested(self, url: str, name: str) -> None:
        if url not in (self.files[name].as_uri(), "data:,"):
            self.noise.append(f"requested {url}")


@pytest.fixture
def visit(browser: Browser, files: dict[str, Path]) -> Iterator[Visits]:
    visits = Visits(browser, files)
    yield visits
    for context in browser.contexts:
        context.close()
    assert visits.noise == []


# --- Diagrams ------------------------------------------------------------------------------------


def test_a_click_on_a_state_shows_what_the_customer_has_there(visit: Visits) -> None:
    page = visit()
    assert page.locator("article:visible").count() == 0
    page.locator("#lifecycle-state-access_revoked").click()
    panel = page.locator("article:visible")
    expect(panel).to_have_id("state-access_revoked")
    expect(panel).to_contain_text("30 days after the cancellation")
    expect(page.locator("#lifecycle-state-access_revoked")).to_have_attribute("aria-pressed", "true")


def test_a_click_on_an_arrow_shows_its_move_with_guards_actors_and_clauses(visit: Visits) -> None:
    page = visit()
    arrow = page.locator("#picture-lifecycle .edge[data-detail=move-cancel] .hit").first
    x, y = arrow.evaluate(
        "line => { const p = line.getPointAtLength(line.getTotalLength() / 2).matrixTransform(line.getScreenCTM());"
        " return [p.x, p.y + scrollY]; }"
    )
    page.mouse.wheel(0, 0)
    page.evaluate("y => scrollTo(0, y - 400)", y)
    page.mouse.click(x, y - page.evaluate("scrollY"))
    panel = page.locator("article:visible")
    expect(panel).to_have_id("move-cancel")
    for words in ("owner on file", "support", "owner-only", "access-to-period-end", "billing stops"):
        expect(panel).to_contain_text(words)
    assert page.locator("#picture-lifecycle .edge.chosen").count() >= 2


def test_everything_in_a_picture_is_reached_and_chosen_by_keyboard(visit: Visits) -> None:
    page = visit()
    page.locator("#picture-lifecycle .scroll").focus()
    reached = []
    for _ in range(page.locator("#picture-lifecycle .node[tabindex]").count()):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.dataset.detail"))
    assert {f"state-{state}" for state in State} <= set(reached) and "move-delete_content" in reached
    page.keyboard.press("Enter")
    expect(page.locator("article:visible")).to_have_id(reached[-1])
    page.keyboard.press("Escape")
    assert page.locator("article:visible").count() == 0


def test_pictures_are_tabs_that_arrow_keys_change(visit: Visits) -> None:
    page = visit()
    page.locator("#tab-lifecycle").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#tab-way-out")).to_be_focused()
    expect(page.locator("#picture-way-out")).to_be_visible()
    expect(page.locator("#picture-lifecycle")).to_be_hidden()


def test_a_move_named_elsewhere_on_the_page_opens_its_panel(visit: Visits) -> None:
    page = visit()
    page.locator("#clause-delete-30 a[data-select]", has_text=str(Event.DELETE_CONTENT)).click()
    expect(page.locator("article:visible")).to_have_id("move-delete_content")
    expect(page.locator("#move-delete_content")).to_be_focused()


# --- Timelines -----------------------------------------------------------------------------------

COMPUTE = """
(asked) => {
  const [cases, policies, until, rights] = JSON.parse(asked);
  const { life } = reader(JSON.parse(document.getElementById("data").textContent).definition);
  const has = ({ grants }) => rights.map((name) => grants[name]);
  const seen = (e) => [e.at, e.event, e.step, e.source, e.dest, e.promised, e.owes, has(e)];
  return JSON.stringify(cases.map((one, n) => life(policies[n % policies.length], one, until).entries.map(seen)));
}
"""


def test_ten_thousand_lives_on_the_page_are_those_of_the_engine(visit: Visits) -> None:
    cases = list(scenarios(10_000 * SOAK, seed=6))
    asked = [
        [as_json(one) for one in cases],
        [settings(policy) for policy in POLICIES],
        micros(UNTIL),
        list(Entitlements.__slots__),
    ]
    computed = json.loads(visit().evaluate(COMPUTE, json.dumps(asked)))  # as text: large arguments are slow
    happened = set()
    for number, (case, found) in enumerate(zip(cases, computed, strict=True)):
        wanted = [list(entry) for entry in Life(case, POLICIES[number % len(POLICIES)]).entries]
        assert found == wanted, case
        happened |= {(entry[1], entry[2]) for entry in wanted}
    fired = {event for event, step in happened if step == "fire"}
    assert {"delete_content", "purge_backups", "reactivate", "cancel_inactive", "cancel_unpaid", "thaw"} <= fired


def days(page: Page) -> list[str]:
    return page.locator("#lives tbody th").all_inner_texts()


def test_the_form_leads_to_a_timeline_in_plain_words(visit: Visits) -> None:
    page = visit()
    assert days(page) == [
        "1 Jan 2027",
        "10 Jan 2027",
        "25 Jan 2027",
        "1 Feb 2027",
        "2 Feb 2027",
        "9 Feb 2027",
        "10 Mar 2027",
    ]
    text = page.locator("#lives").inner_text()
    assert "Promised: access until 1 Feb 2027, deletion on 9 Feb 2027, backups gone by 11 Mar 2027." in text
    page.get_by_role("button", name="Under a legal hold").click()
    assert page.locator("#lives").inner_text().count("Promised:") == 1  # they stay as they are
    page.get_by_role("button", name="Annual plan, cancelled").click()
    assert days(page)[-2:] == ["1 Jan 2028", "29 Jan 2028"]
    page.locator("[name=plan]").select_option("Trial")
    expect(page.locator("[name=paidUntil]")).to_be_hidden()
    page.locator("[name=at]").fill("2027-01-11")
    assert days(page)[1] == "11 Jan 2027" and "10 Feb 2027" in days(page)


def test_what_is_refused_says_why_and_a_comeback_changes_everything(visit: Visits) -> None:
    page = visit()
    page.get_by_role("button", name="Add something").click()
    page.locator("[name=event]").last.select_option("reactivate owner")
    page.locator("[name=at]").last.fill("2027-01-28")
    expect(page.locator("#lives")).to_contain_text("until something is asked of it")
    page.locator("[name=at]").last.fill("2027-02-10")
    expect(page.locator("#lives tr.refused")).to_contain_text("The account comes back (owner)")
    page.get_by_role("button", name="Remove").last.click()
    assert page.locator(".moment").count() == 1


def test_what_makes_no_sense_is_said_and_no_timeline_is_shown(visit: Visits) -> None:
    page = visit()
    page.locator("[name=paidUntil]").fill("2026-12-01")
    expect(page.locator("#problem")).to_contain_text("must end after")
    assert days(page) == []


def test_with_a_candidate_both_timelines_stand_side_by_side_and_differences_are_marked(visit: Visits) -> None:
    page = visit("both")
    assert page.locator("#lives > section").count() == 2
    marks = page.locator("#lives > section").last.locator("mark").all_inner_texts()
    assert "15 days later" in marks
    days_in_force, days_then = (
        page.locator("#lives > section").nth(place).locator("tr.differs th").all_inner_texts() for place in (0, 1)
    )
    assert days_in_force == ["2 Feb 2027", "9 Feb 2027", "10 Mar 2027"]
    assert days_then == ["17 Feb 2027", "24 Feb 2027", "25 Mar 2027"]


# --- How it looks --------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
def test_nothing_on_the_page_keeps_anybody_out(visit: Visits, scheme: str) -> None:
    page = visit("both", color_scheme=scheme)
    page.locator("#lifecycle-move-reactivate").focus()
    page.keyboard.press("Enter")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.locator("main").count() == page.locator("h1").count() == 1


def test_the_page_follows_the_reader_s_colours(visit: Visits) -> None:
    colours = []
    for scheme in SCHEMES:
        page = visit(color_scheme=scheme)
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        card = page.evaluate("getComputedStyle(document.querySelector('.node.state > :first-child')).fill")
        colours.append((ground, card))
    assert colours[0][0] != colours[1][0] and colours[0][1] != colours[1][1]


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_the_page_never_scrolls_sideways(visit: Visits, width: int) -> None:
    page = visit("both", width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_on_paper_everything_is_shown(visit: Visits) -> None:
    page = visit()
    page.locator("#lifecycle-state-trial").click()
    page.emulate_media(media="print")
    assert page.locator("article:visible").count() == page.locator("article").count()
    assert page.locator("figure:visible").count() == 3
    assert page.locator("form:visible, nav:visible").count() == 0
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")


def test_without_scripts_the_page_still_tells_everything_but_timelines(visit: Visits) -> None:
    page = visit(java_script_enabled=False)
    assert page.locator("article:visible").count() == page.locator("article").count()
    expect(page.locator("#timeline")).to_contain_text("needs JavaScript")
    assert page.locator("form:visible").count() == 0
