"""The pages in a real browser: what people see, live, without a complaint from the browser.

With PORTAL_SCREENSHOTS=1 the pictures in docs/screenshots/ are taken anew.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connection
from playwright.sync_api import Browser, Page, expect, sync_playwright

from audit.context import Actor
from provisioning.models import GuestImage, Host, Operation, Runtime, Step
from provisioning.services import operation_request
from tenants.models import Tenant
from tests.portal.conftest import Kind, Phase, Place, State, World, make_operation
from tests.portal.routes import routes
from tests.provisioning.workers import drain

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PASSWORD = "correct horse battery"
PICTURES = Path(__file__).resolve().parents[2] / "docs" / "screenshots"
SIZES = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
    "--host-resolver-rules=MAP portal.localhost 127.0.0.1, EXCLUDE localhost",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Playwright's loop runs in this thread, which Django would take for async code."""
    patch = pytest.MonkeyPatch()
    patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=QUIET)
        yield chromium
        chromium.close()
    patch.undo()


@pytest.fixture
def base(browser: Browser, live_server: Any) -> str:
    """The portal's own name: its cookies are kept on secure contexts only, which ``*.localhost`` is."""
    return str(live_server.url).replace("//localhost", "//portal.localhost")


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What the browser said against our pages; there must be nothing."""
    said: list[str] = []
    yield said
    assert "\n".join(said) == ""


@pytest.fixture
def page(browser: Browser, base: str, complaints: list[str]) -> Iterator[Page]:
    context = browser.new_context(base_url=base, viewport=SIZES["desktop"], color_scheme="light")  # type: ignore[arg-type]
    context.set_default_timeout(15_000)
    opened = context.new_page()
    bad = {"error", "warning"}
    opened.on("console", lambda m: complaints.append(f"{m.text} {m.location}") if m.type in bad else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("response", lambda r: complaints.append(f"{r.status} {r.url}") if r.status >= 400 else None)
    yield opened
    context.close()


@pytest.fixture
def shoot(tmp_path: Path) -> Callable[[Page, str], None]:
    """Take a picture at both sizes; kept only when asked for. No page may be wider than the screen."""
    folder = PICTURES if os.environ.get("PORTAL_SCREENSHOTS") == "1" else tmp_path

    def take(page: Page, name: str) -> None:
        for size, viewport in SIZES.items():
            page.set_viewport_size(viewport)  # type: ignore[arg-type]
            wide = page.evaluate("document.documentElement.scrollWidth")
            page.screenshot(path=folder / f"{name}-{size}.png", full_page=True)
            assert wide <= viewport["width"], f"{name} is {wide} pixels wide on a {size}"
        page.set_viewport_size(SIZES["desktop"])  # type: ignore[arg-type]

    return take


def sign_in(page: Page, name: str) -> None:
    page.goto("/sign-in/")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def finish(operation: Operation) -> None:
    """As a worker would at the end."""
    Step.objects.filter(operation=operation).update(state="done")
    Operation.objects.filter(pk=operation.pk).update(
        state=State.SUCCEEDED, wait_reason="", waiting_since=None
    )


def mark(page: Page) -> None:
    """Leave a mark that a reload would lose."""
    page.evaluate("window.mark = 1")


def marked(page: Page) -> bool:
    return bool(page.evaluate("window.mark === 1"))


def test_an_owner_signs_in_and_restarts(world: World, page: Page, shoot: Callable[[Page, str], None]) -> None:
    """Sign in, press Restart, see the steps come one by one without a reload, and the buttons come back."""
    page.goto("/t/acme/")
    expect(page).to_have_title("Sign in")
    shoot(page, "sign-in")
    page.get_by_label("Name").fill("owner-of-acme")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/t/acme/")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    shoot(page, "tenant-ready")

    page.get_by_role("button", name="Restart").click()
    expect(page.locator("ol.steps li")).to_have_count(len(list(_steps(world))))
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    mark(page)
    operation = Operation.objects.get(kind="restart")
    for done in (1, 2, 3):
        Step.objects.filter(operation=operation, index__lt=done).update(state="done")
        expect(page.locator("ol.steps li.done")).to_have_count(done)
    finish(operation)
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(phase=Phase.READY)
    expect(page.get_by_role("button", name="Restart")).to_be_visible()
    expect(page.locator("ol.steps")).to_have_count(0)
    assert marked(page), "the page was reloaded"


def _steps(world: World) -> Any:
    return Operation.objects.get(kind="restart").steps.all()


def test_a_creation_is_watched_live_to_its_end(
    page: Page, operator: User, owner: User, simulated_host: Host, image: GuestImage, tenant: Tenant
) -> None:
    """The operator creates on libvirt's simulated host, by the real steps; the page follows to the end."""
    sign_in(page, "operator")
    page.goto("/admin/provisioning/runtime/add/")
    page.locator(".select2-selection").click()
    page.locator(".select2-results__option", has_text="Acme").click()
    page.get_by_role("button", name="Save", exact=True).click()
    page.wait_for_url("**/provisioning/operation/*/change/")
    expect(page.get_by_role("button", name="Cancel this operation")).to_be_visible()

    failures: list[BaseException] = []
    worker = threading.Thread(target=_work, args=(Operation.objects.get(), failures))
    worker.start()
    expect(page.get_by_role("button", name="Cancel this operation")).to_have_count(0, timeout=60_000)
    expect(page.locator("ol.steps li.done")).to_have_count(Operation.objects.get().steps.count())
    worker.join()
    assert failures == []
    page.goto("/t/acme/")
    expect(page.get_by_role("heading", name="Your machine").locator(".badge.ready")).to_be_visible()
    expect(page.get_by_text("Simulated: this is not a real machine.")).to_be_visible()


def _work(operation: Operation, failures: list[BaseException]) -> None:
    try:
        drain(operation)
    except BaseException as error:
        failures.append(error)
    finally:
        connection.close()


def test_the_tenants_page_in_its_states(world: World, page: Page, shoot: Callable[[Page, str], None]) -> None:
    """Creating, waiting, stopped, failed: told in words, on both sizes."""
    runtime = Runtime.objects.filter(pk=world.mine.runtime.pk)
    sign_in(page, "owner-of-acme")
    world.mine.operation.steps.all().delete()
    Operation.objects.filter(pk=world.mine.operation.pk).delete()
    runtime.update(phase=Phase.PROVISIONING, power="absent", first_ready_at=None)
    creation = make_operation(world.mine.runtime, Kind.CREATE, State.RUNNING, done=9)
    page.goto("/t/acme/")
    expect(page.locator("li.running")).to_contain_text("Power on")
    shoot(page, "tenant-creating")

    why = "Waiting for a start slot on shelf: place 2 in the queue."
    Operation.objects.filter(pk=creation.pk).update(wait_reason=why, waiting_since=creation.created_at)
    expect(page.get_by_text(why)).to_be_visible()
    expect(page.get_by_text("So far")).to_be_visible()
    shoot(page, "tenant-waiting")

    finish(creation)
    failed = make_operation(
        world.mine.runtime,
        Kind.RESTART,
        State.FAILED,
        done=9,
        error_message="The guest did not answer within 300 seconds.",
    )
    runtime.update(phase=Phase.FAILED, power="off", first_ready_at=failed.created_at)
    expect(page.get_by_text("Try again with a button above.")).to_be_visible()
    shoot(page, "tenant-failed")


def test_the_part_leaves_focus_and_clicks_alone(world: World, page: Page) -> None:
    """Focus survives a swap, a button that is held down is not replaced, and the click counts."""
    operation = make_operation(world.mine.runtime, Kind.RESTART, State.RUNNING, done=1)
    sign_in(page, "owner-of-acme")
    page.wait_for_url("**/t/acme/")
    finish(operation)
    stop = page.locator("#ask-stop")
    expect(stop).to_be_visible()
    stop.focus()
    _swap_now(world, page)
    expect(stop).to_be_focused()

    stop.hover()
    page.mouse.down()
    page.evaluate("document.querySelector('#ask-stop').dataset.held = '1'")
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(power="running")
    _fetch_now(page)
    assert page.locator("#ask-stop[data-held]").count() == 1, "the button was pulled from under the finger"
    page.mouse.up()
    expect(page.locator("ol.steps")).to_be_visible()
    assert Operation.objects.filter(kind="stop").count() == 1


def _fetch_now(page: Page) -> None:
    """What the timer does, without waiting for it."""
    with page.expect_response("**/live/**"):
        page.evaluate(
            "htmx.ajax('GET', document.querySelector('#runtime').getAttribute('hx-get'),"
            " {source: '#runtime', target: '#runtime', swap: 'outerHTML'})"
        )
    page.wait_for_timeout(200)


def _swap_now(world: World, page: Page) -> None:
    page.evaluate("document.querySelector('#runtime').dataset.old = '1'")
    Runtime.objects.filter(pk=world.mine.runtime.pk).update(power="paused")
    _fetch_now(page)
    expect(page.locator("#runtime[data-old]")).to_have_count(0)


def test_nothing_is_hammered(world: World, page: Page) -> None:
    """Idle, the page asks at most once in ten seconds, and gets nothing back; at work, every two."""
    asked: list[tuple[float, int]] = []
    page.on("response", lambda r: asked.append((time.monotonic(), r.status)) if "/live/" in r.url else None)
    sign_in(page, "owner-of-acme")
    page.wait_for_url("**/t/acme/")
    page.wait_for_timeout(10_800)
    assert [status for _, status in asked] == [204]
    asked.clear()
    operation = make_operation(world.mine.runtime, Kind.RESTART, State.RUNNING, done=1)
    Step.objects.filter(operation=operation).update(started_at=None)
    page.reload()
    page.wait_for_timeout(6_500)
    assert 2 <= len(asked) <= 3


def test_an_ended_session_leads_to_sign_in_and_back(world: World, page: Page) -> None:
    """The page in view goes to the sign-in page by itself; after signing in it is back where it was."""
    make_operation(world.mine.runtime, Kind.RESTART, State.RUNNING, done=1)
    sign_in(page, "owner-of-acme")
    page.wait_for_url("**/t/acme/")
    Session.objects.all().delete()
    page.wait_for_url("**/sign-in/?next=/t/acme/")
    expect(page.locator("form")).to_have_count(1)
    page.get_by_label("Name").fill("owner-of-acme")
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url("**/t/acme/")


def test_the_staffs_pages(
    world: World,
    make_place: Callable[..., Place],
    page: Page,
    shoot: Callable[[Page, str], None],
) -> None:
    """Front page, lists, an operation that goes on live, a reason that is asked for, cancelling."""
    third = make_place("birch", Phase.FAILED)
    make_operation(third.runtime, Kind.START, State.FAILED, done=4, error_message="The image is damaged.")
    operation = operation_request(
        actor=Actor.of(world.people["operator"]), runtime_id=world.mine.runtime.pk, kind=Kind.RESTART
    )
    Operation.objects.filter(pk=operation.pk).update(state=State.RUNNING, started_at=operation.created_at)
    Step.objects.filter(operation=operation, index__lt=4).update(
        state="done", started_at=operation.created_at, finished_at=operation.created_at
    )
    Step.objects.filter(operation=operation, index=4).update(state="running", started_at=operation.created_at)

    sign_in(page, "operator")
    expect(page.get_by_role("heading", name="Your tenants")).to_be_visible()
    shoot(page, "home")
    page.get_by_role("link", name="Staff").click()
    expect(page.get_by_text("1 of 3 runtimes ready")).to_be_visible()
    shoot(page, "admin-index")
    page.goto("/admin/provisioning/runtime/")
    shoot(page, "admin-runtimes")

    page.goto(f"/admin/provisioning/operation/{operation.pk}/change/")
    expect(page.locator("ol.steps li.done")).to_have_count(4)
    shoot(page, "admin-operation")
    mark(page)
    Step.objects.filter(operation=operation, index=4).update(state="done")
    expect(page.locator("ol.steps li.done")).to_have_count(5)
    assert marked(page), "the page was reloaded"
    page.get_by_role("button", name="Cancel this operation").click()
    expect(page.get_by_text("Cancelling: the step that runs is finished first.")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel this operation")).to_have_count(0)
    Operation.objects.filter(pk=operation.pk).update(state=State.CANCELLED)
    expect(page.locator("[hx-get]")).to_have_count(0)

    page.goto("/admin/provisioning/runtime/")
    page.locator("tr", has_text="Birch").locator("input.action-select").check()
    page.locator("select[name=action]").select_option("request_delete")
    page.get_by_role("button", name="Go").click()
    expect(page.get_by_text("Nobody can bring the data back.")).to_be_visible()
    page.get_by_label("Reason").fill("too short")
    page.evaluate("document.querySelector('[name=reason]').removeAttribute('minlength')")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("at least 10 characters")).to_be_visible()
    shoot(page, "admin-reason")
    page.get_by_label("Reason").fill("The customer has left the pilot.")
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("link", name="delete requested")).to_be_visible()
    assert Operation.objects.get(kind="delete").reason == "The customer has left the pilot."


def test_every_page_is_quiet(world: World, page: Page) -> None:
    """No violation of the policy and no error in the console, on any page that a superuser can open."""
    AccessAttempt.objects.create(username="x", failures_since_start=3)
    sign_in(page, "root")
    page.wait_for_url("**/")
    for url in pages_of(world):
        response = page.goto(url)
        assert response is not None
        assert response.status == 200, url
        page.wait_for_load_state("networkidle")


def pages_of(world: World) -> Iterator[str]:
    """Every URL that shows a page; found by asking, so that a new one is not forgotten."""
    client = world.client("superuser")
    for route in routes():
        if route.path.startswith("/api/") or "logout" in route.path:
            continue
        response = client.get(route.url(world.mine))
        if response.status_code == 200 and b"<html" in response.content:
            yield route.url(world.mine)
