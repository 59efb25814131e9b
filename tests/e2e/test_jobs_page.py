"""Jobs on the guest's own page: Chromium with a passkey, nginx, an agent and a launcher's double."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import Page, Route, expect

from provisioning.models import GuestImage, Host, Runtime
from tenants.models import Tenant
from tests.e2e.test_boundary import BOOT_SECONDS, deliver, person, sign_in  # noqa: F401 - a fixture
from tests.guest.shop import wait_for
from tests.portal.test_browser import SIZES, browser, complaints  # noqa: F401 - fixtures
from tests.provisioning.workers import created

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A short one: the name of a socket has at most 107 bytes."""
    with TemporaryDirectory(prefix="jobs-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


@contextmanager
def launcher(host: Host, runtime: Runtime) -> Iterator[None]:
    """Where the simulated guest looks for one in vain."""
    data = Path(host.pool_path) / "data"
    (data / "jobs").mkdir()
    socket = data / str(runtime.pk) / "no-launcher"
    line = [sys.executable, "-m", "tests.guest.launcher_double", str(socket), f"{data}/jobs"]
    process = subprocess.Popen(line, cwd=ROOT)
    try:
        wait_for(socket.exists)
        yield
    finally:
        process.kill()
        process.wait()


def enter(page: Page, runtime: Runtime) -> None:
    """A keyring is set up, and its owner stands before the machine's own page, signed in."""
    sign_in(page)
    page.get_by_role("link", name="Members and keys").click()
    page.get_by_label("Name of this device").fill("Laptop")
    page.get_by_role("button", name="Register a passkey on this device").click()
    page.get_by_role("button", name="Set up the keyring").click()
    page.get_by_label("I have saved it").check()
    page.get_by_role("button", name="Sign and finish").click()
    expect(page.get_by_text("Version 1")).to_be_visible()
    deliver(runtime)
    page.goto("/t/acme/")
    page.get_by_role("button", name="Open").click()
    page.get_by_role("button", name="Sign in with a passkey").click()
    expect(page.get_by_text("No jobs yet.")).to_be_visible()


def run(page: Page, command: str) -> None:
    page.get_by_label("Command, run by sh -c").fill(command)
    page.get_by_role("button", name="Run", exact=True).click()


def forgive(complaints: list[str], words: str) -> None:  # noqa: F811
    """Take out the one complaint that the test itself has provoked."""
    (provoked,) = [line for line in complaints if words in line]
    complaints.remove(provoked)


def test_jobs_on_the_machines_page(
    person: Page,  # noqa: F811
    complaints: list[str],  # noqa: F811
    simulated_host: Host,
    tenant: Tenant,
    owner: User,
    image: GuestImage,
    tmp_path: Path,
) -> None:
    """Run, follow, cancel and forget; a job's markup is text; nothing breaks the page's policy."""
    page, runtime = person, created(tenant, BOOT_SECONDS)
    enter(page, runtime)
    # The simulated host has a keeper's stand-in, so the machine is told of a proxy.
    expect(page.locator("#way-out")).to_be_visible()
    expect(page.locator("#no-way-out")).to_be_hidden()
    run(page, "true")
    expect(page.get_by_text("a simulated machine runs no commands")).to_be_visible()
    forgive(complaints, "status of 503")

    with launcher(simulated_host, runtime):
        run(page, "for n in 1 2 3; do echo line $n; sleep 1; done; echo '<b onclick=alert(1)>ä</b>'; exit 3")
        log = page.get_by_role("log")
        expect(log).to_contain_text("line 1", timeout=15_000)
        expect(page.get_by_role("button", name="Cancel")).to_be_visible()
        expect(log).to_contain_text("line 3\n<b onclick=alert(1)>ä</b>")
        expect(page.get_by_role("cell", name="failed: exit code 3")).to_be_visible()
        expect(page.locator("#log-state")).to_have_text("failed: exit code 3")
        assert page.locator("#log b").count() == 0

        run(page, "yes x | head -c 6000000")
        expect(page.get_by_text("the rest of the output was dropped").last).to_be_visible()
        expect(page.get_by_text("Only the end is shown here")).to_be_visible()
        run(page, "sleep 60")
        row = page.get_by_role("row", name="sleep 60")
        expect(row.get_by_role("cell", name="running")).to_be_visible()
        expect(page.locator("#log-state")).to_have_text("running")
        page.screenshot(path=tmp_path / "jobs.png", full_page=True)
        page.set_viewport_size(SIZES["phone"])  # type: ignore[arg-type]
        page.screenshot(path=tmp_path / "jobs-phone.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.set_viewport_size(SIZES["desktop"])  # type: ignore[arg-type]
        row.get_by_role("button", name="Cancel").click()
        expect(row.get_by_role("cell", name="cancelled")).to_be_visible()
        row.get_by_role("button", name="Forget").click()
        expect(row).to_have_count(0)
        expect(log).to_be_hidden()
        page.get_by_role("row", name="line $n").get_by_role("button", name="Log").click()
        expect(log).to_contain_text("line 3")
        page.get_by_role("button", name="Close").click()
        expect(log).to_be_hidden()
        page.route("**/v1/outside", lambda route: route.fulfill(json={"proxy": "10.1.2.1:3128"}))
        page.reload()
        expect(page.get_by_role("row", name="line $n").get_by_role("button", name="Log")).to_be_visible()
        expect(page.locator("#way-out")).to_be_visible()
        expect(page.locator("#no-way-out")).to_be_hidden()

    # A look that was under way when they signed out is refused late: that changes nothing on the page.
    held: list[Route] = []

    def hold(route: Route) -> None:  # Playwright marks what it is given, which a built-in does not take
        held.append(route)

    page.route("**/v1/gateway", hold)
    with page.expect_request("**/v1/gateway"):
        page.evaluate("() => { lookAtGateway() }")
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_text("Signed out.")).to_be_visible()
    with page.expect_response("**/v1/gateway"):
        held[0].fulfill(status=401, json={"error": "session_required"})
    page.evaluate("() => new Promise((resolve) => setTimeout(resolve, 50))")
    expect(page.get_by_text("Signed out.")).to_be_visible()
    forgive(complaints, "status of 401")
