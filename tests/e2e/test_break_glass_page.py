"""Break-glass in the browser, on both of the guest's pages: the operator works, the owner watches and ends it.

With PORTAL_SCREENSHOTS=1 the pictures in docs/screenshots/ are taken anew.
"""

import base64
import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect

from protocol.tickets import Ticket
from protocol.tokens import sign
from tests.e2e.carrier import Carrier, carrying
from tests.e2e.test_boundary import AUTHENTICATOR
from tests.guest.conftest import Site
from tests.guest.fleet import ROUTE_SEED, Agent, Authority, caller, personalise, token
from tests.guest.glass import all_scopes, token_of
from tests.guest.operators import let_in, name_approvers
from tests.guest.shop import Shop
from tests.guest.test_gate import pin
from tests.portal.test_browser import browser, complaints, shoot  # noqa: F401 - fixtures
from tests.protocol.people import OWNER, RP_ID, Passkey, entry
from tests.protocol.ticketing import RAE, a_ticket

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]
OLGA = Passkey()
REASON = "The nightly import has failed since Tuesday; its log says «connection refused»."


@dataclass
class Stage:
    """A guest with an owner and approvers, behind a carrier, and what stands in its workspace."""

    shop: Shop
    agent: Agent
    carrier: Carrier
    browser: Browser
    complaints: list[str]

    @property
    def base(self) -> str:
        return f"http://acme.portal.localhost:{self.carrier.port}"

    @property
    def workspace(self) -> Path:
        return self.shop.site.folder / "workspace"

    def visitor(self, key: Passkey) -> Page:
        """A browser whose authenticator holds ``key``, made at the portal."""
        context: BrowserContext = self.browser.new_context(
            base_url=self.base,
            viewport=ViewportSize(width=1280, height=800),
            color_scheme="light",
        )
        context.set_default_timeout(20_000)
        page = context.new_page()
        bad = {"error", "warning"}
        page.on("console", lambda m: self.complaints.append(m.text) if m.type in bad else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: dialog.accept())
        session = context.new_cdp_session(page)
        session.send("WebAuthn.enable")
        made = session.send("WebAuthn.addVirtualAuthenticator", {"options": AUTHENTICATOR})
        der = key.private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
        credential = {
            "credentialId": base64.b64encode(key.key.public_key[:16]).decode(),
            "isResidentCredential": True,
            "rpId": RP_ID,
            "privateKey": base64.b64encode(der).decode(),
            "userHandle": base64.b64encode(b"somebody").decode(),
            "signCount": 1,
        }
        session.send(
            "WebAuthn.addCredential", {"authenticatorId": made["authenticatorId"], "credential": credential}
        )
        return page

    def under(self, ticket: Ticket) -> None:
        """From now on break-glass routes are asked under this ticket; all others as a member."""
        self.carrier.token = lambda method, path: (
            sign(token_of(ticket, method, path), ROUTE_SEED)
            if "break-glass" in path
            else sign(token(method, path, None), ROUTE_SEED)
        )

    def forgive(self, *words: str) -> None:
        """Take out what the test itself has provoked."""
        self.complaints[:] = [line for line in self.complaints if not any(each in line for each in words)]


@pytest.fixture
def stage(browser: Browser, complaints: list[str]) -> Iterator[Stage]:  # noqa: F811
    with TemporaryDirectory(prefix="glass-") as name:
        folder, authority = Path(name), Authority()
        control_plane = caller(folder, "control-plane", authority)
        with carrying(control_plane, lambda *_: "") as carrier:
            papers = personalise(folder, authority)
            document = json.loads(papers.read_bytes())
            document["origin"] = f"http://acme.portal.localhost:{carrier.port}"
            papers.write_text(json.dumps(document))
            shop = Shop(Site(folder, authority, control_plane, papers, folder / "data"))
            shop.folder.mkdir()
            with shop.launcher(), shop.agent() as agent:
                carrier.agent = agent
                pin(agent, shop.site, entry(OWNER.key, name="Recovery"), entry(OLGA.key, name="Olga"))
                name_approvers(agent, shop.site)
                stage = Stage(shop, agent, carrier, browser, complaints)
                for each in ("config", "logs/2026-11"):
                    (stage.workspace / each).mkdir(parents=True)
                (stage.workspace / "config" / "import.toml").write_text('[import]\nhost = "<b>db</b>"\n')
                (stage.workspace / "logs" / "2026-11" / "import.log").write_bytes(
                    b"connection refused\n" * 20_000
                )
                (stage.workspace / "logs" / "2026-11" / "core").write_bytes(b"\0\1\2")
                yield stage


def test_an_operators_work(stage: Stage, shoot: Callable[[Page, str], None]) -> None:  # noqa: F811
    """In with the passkey that asked; look, change, run; then done, and nothing stays on the page."""
    ticket = a_ticket(scopes=all_scopes()["scopes"], paths=[""], reason=REASON)
    operator = let_in(stage.agent, stage.shop.site, ticket)
    stage.under(operator.ticket)
    page = stage.visitor(RAE)
    page.goto("/break-glass")
    expect(page.get_by_role("heading", name="Begin break-glass access")).to_be_visible()
    shoot(page, "break-glass-door")
    page.get_by_role("button", name="Confirm with your passkey").click()
    expect(page.get_by_role("heading", name="Break-glass access of Rae")).to_be_visible()
    expect(page.get_by_text(REASON)).to_be_visible()
    expect(page.locator("#clock")).to_have_text(re.compile(r"^(30:00|29:\d\d) left$"))
    assert page.evaluate("document.cookie") == ""

    # Files: text as text, what is not text as a download, a long one in part; a change is written.
    page.get_by_role("button", name="config/").click()
    page.get_by_role("button", name="import.toml").click()
    text = page.locator("#viewer-text")
    expect(text).to_have_text('[import]\nhost = "<b>db</b>"')
    assert page.locator("#viewer-text b").count() == 0
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("New content of the file").fill('[import]\nhost = "db2"\n')
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("import.toml is saved.")).to_be_visible()
    assert (stage.workspace / "config" / "import.toml").read_text() == '[import]\nhost = "db2"\n'
    page.get_by_role("button", name="Up", exact=True).click()
    page.get_by_role("button", name="logs/").click()
    page.get_by_role("button", name="2026-11/").click()
    page.get_by_role("button", name="core").click()
    expect(page.get_by_text("This is not text")).to_be_visible()
    page.get_by_role("button", name="import.log").click()
    expect(page.get_by_text("Only the first 256 KiB are shown")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert Path(download.value.path()).stat().st_size == 380_000
    page.get_by_role("row", name="core").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("button", name="core")).to_have_count(0)

    # A command: the words as the machine gets them.
    page.get_by_label("Command").fill('sh -c \'echo "$1"; exit 3\' x "<i>two words</i>"')
    expect(page.locator("#words .pill")).to_have_text(
        ["sh", "-c", 'echo "$1"; exit 3', "x", "<i>two words</i>"]
    )
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("Exit code 3")).to_be_visible()
    expect(page.locator("#output")).to_have_text("<i>two words</i>")
    page.get_by_label("Command").fill("echo 'open")
    expect(page.get_by_text("A quotation mark is not closed.")).to_be_visible()

    # Logs and status.
    page.get_by_role("row", name="The gateway's own log").get_by_role("button", name="Read").click()
    expect(page.get_by_role("log", name="Log")).to_have_text("what the gateway said")
    page.get_by_role("button", name="Look now").click()
    expect(page.get_by_text("Memory available")).to_be_visible()
    page.evaluate("scrollTo(0, 0)")
    shoot(page, "break-glass-inside")
    page.reload()
    expect(page.get_by_role("heading", name="Break-glass access of Rae")).to_be_visible()

    page.get_by_role("button", name="I'm done: end the access").click()
    expect(page.get_by_role("heading", name="The access has ended")).to_be_visible()
    left = page.locator("main").inner_html()
    assert not [word for word in ("import.log", "what the gateway said", "two words") if word in left]
    page.reload()
    # The page itself is behind the ticket: without one there is none.
    assert page.evaluate("document.body.innerText").find('"ended"') > 0
    stage.forgive("403 (Forbidden)")


def test_what_the_page_leaves_as_it_is(stage: Stage) -> None:
    """No line end or mark is lost unasked, a name shows all that it holds, and goes for no other file's."""
    folder = stage.workspace / "config"
    (folder / "windows.ini").write_bytes(b"a\r\nb\r\n")
    (folder / "marked.txt").write_bytes(b"\xef\xbb\xbftext")
    (folder / "a\u202etxt.exe").touch()
    Path(os.fsdecode(os.fsencode(folder) + b"/odd\xff")).touch()
    operator = let_in(stage.agent, stage.shop.site, a_ticket(scopes=all_scopes()["scopes"], paths=[""]))
    stage.under(operator.ticket)
    page, asked = stage.visitor(RAE), list[str]()
    page.on("dialog", lambda dialog: asked.append(dialog.message))
    page.goto("/break-glass")
    page.get_by_role("button", name="Confirm with your passkey").click()
    page.get_by_role("button", name="config/").click()
    page.get_by_role("button", name="windows.ini").click()
    expect(page.locator("#viewer-name")).to_have_text(re.compile("windows.ini"))
    expect(page.get_by_role("button", name="Edit")).to_be_hidden()
    page.get_by_role("button", name="marked.txt").click()
    page.get_by_role("button", name="Edit").click()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("marked.txt is saved.")).to_be_visible()
    assert (folder / "marked.txt").read_bytes() == b"\xef\xbb\xbftext"
    rows = page.locator("#files tbody tr")
    expect(rows.filter(has_text="odd").get_by_role("button", name="Delete")).to_have_count(0)
    rows.filter(has_text="exe").get_by_role("button", name="Delete").click()
    expect(rows.filter(has_text="exe")).to_have_count(0)
    assert "a\\u{202e}txt.exe" in asked[0]


def test_only_what_the_ticket_names(stage: Stage, shoot: Callable[[Page, str], None]) -> None:  # noqa: F811
    """Its paths stand at the top, nothing else is offered, and nothing can be changed."""
    paths = ["config/import.toml", "logs/2026-11"]
    ticket = a_ticket(scopes=["workspace:read"], paths=paths, kind="emergency", seconds=100, incident="")
    operator = let_in(stage.agent, stage.shop.site, ticket)
    stage.under(operator.ticket)
    page = stage.visitor(RAE)
    page.goto("/break-glass")
    page.get_by_role("button", name="Confirm with your passkey").click()
    expect(page.get_by_role("heading", name="Emergency access of Rae")).to_be_visible()
    expect(page.locator("#clock.soon")).to_be_visible()
    for heading in ("Logs", "Run a command", "Status of the machine"):
        expect(page.get_by_role("heading", name=heading)).to_be_hidden()
    shoot(page, "break-glass-paths")
    page.get_by_role("button", name="config/import.toml").click()
    expect(page.locator("#viewer-text")).to_contain_text("[import]")
    for name in ("Edit", "Upload", "New folder", "Delete"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    page.get_by_role("button", name="logs/2026-11").click()
    expect(page.get_by_role("button", name="import.log")).to_be_visible()
    page.get_by_role("button", name="Up", exact=True).click()
    expect(page.get_by_role("button", name="logs/2026-11")).to_be_visible()
    stage.forgive("409 (Conflict)")  # It asked whether the file is a folder.


def test_another_passkey_opens_nothing(stage: Stage) -> None:
    """A colleague's, and an owner's: the guest wants the one that asked."""
    operator = let_in(stage.agent, stage.shop.site, a_ticket())
    stage.under(operator.ticket)
    page = stage.visitor(OLGA)
    page.goto("/break-glass")
    page.get_by_role("button", name="Confirm with your passkey").click()
    expect(page.get_by_text("Another passkey asked for this ticket.")).to_be_visible()
    expect(page.get_by_role("heading", name="Begin break-glass access")).to_be_visible()
    stage.forgive("403 (Forbidden)")


def test_the_owner_watches_and_ends_it(stage: Stage, shoot: Callable[[Page, str], None]) -> None:  # noqa: F811
    """Red on the members' page while it lasts; one button; and the operator's page says so by itself."""
    ticket = a_ticket(scopes=all_scopes()["scopes"], paths=[""], reason=REASON)
    operator = let_in(stage.agent, stage.shop.site, ticket)
    stage.under(operator.ticket)
    theirs = stage.visitor(RAE)
    theirs.goto("/break-glass")
    theirs.get_by_role("button", name="Confirm with your passkey").click()
    theirs.get_by_role("button", name="config/").click()
    expect(theirs.get_by_role("button", name="import.toml")).to_be_visible()

    page = stage.visitor(OLGA)
    page.goto("/")
    page.get_by_role("button", name="Sign in with a passkey").click()
    box = page.get_by_role("alert").filter(has_text="Staff are let into this machine now")
    expect(box).to_be_visible()
    expect(box.get_by_text(REASON)).to_be_visible()
    expect(box.get_by_text("Approved by Ann, Ben.")).to_be_visible()
    expect(page.get_by_text("This machine opens to whom approvers let in;")).to_be_visible()
    expect(page.get_by_role("cell", name="The operator listed the folder").first).to_be_visible()
    expect(page.locator("#receipts").get_by_role("cell", name="config", exact=True)).to_be_visible()
    shoot(page, "break-glass-owner")
    theirs.get_by_label("Command").fill("sleep 50")
    theirs.get_by_label("At most").fill("55")
    theirs.get_by_role("button", name="Run").click()
    expect(page.get_by_role("cell", name="sleep 50")).to_be_visible()
    box.get_by_role("button", name="End this access now").click()
    expect(page.get_by_text("The access has ended. This ticket opens nothing again.")).to_be_visible()
    expect(box).to_be_hidden()
    expect(page.get_by_role("cell", name="by an owner")).to_be_visible()
    expect(theirs.get_by_role("heading", name="The access has ended")).to_be_visible()
    with page.expect_download():
        page.get_by_role("button", name="Save all receipts").click()
    stage.forgive("403 (Forbidden)", "502 (Bad Gateway)")


def test_what_the_page_must_not_lose_or_hide(stage: Stage) -> None:
    """What a form's field would change is not edited; what others wrote stays; no name looks like another."""
    config = stage.workspace / "config"
    (config / "crlf.ini").write_bytes(b"a=1\r\nb=2\r\n")
    (config / "mark.ini").write_bytes(b"\xef\xbb\xbfa=1\n")
    (config / "a\u202etxt.exe").write_bytes(b"turned")
    (config / "x\\xff").write_bytes(b"another")
    (config / os.fsdecode(b"x\xff")).write_bytes(b"not UTF-8")
    ticket = a_ticket(scopes=all_scopes()["scopes"], paths=[""], reason=REASON)
    stage.under(let_in(stage.agent, stage.shop.site, ticket).ticket)
    page = stage.visitor(RAE)
    asked: list[str] = []
    page.on("dialog", lambda dialog: asked.append(dialog.message))
    page.goto("/break-glass")
    page.get_by_role("button", name="Confirm with your passkey").click()
    page.get_by_role("button", name="config/").click()
    page.get_by_role("button", name="crlf.ini").click()
    expect(page.get_by_text("which this page cannot keep")).to_be_visible()
    expect(page.get_by_role("button", name="Edit")).to_be_hidden()
    page.get_by_role("button", name="mark.ini").click()
    expect(page.locator("#viewer-name")).to_have_text("mark.ini")
    page.get_by_role("button", name="Edit").click()
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("mark.ini is saved.")).to_be_visible()
    assert (config / "mark.ini").read_bytes() == b"\xef\xbb\xbfa=1\n"
    expect(page.get_by_role("row", name="the name is not UTF-8")).to_have_count(1)
    expect(page.get_by_role("row", name="the name is not UTF-8").get_by_role("button")).to_have_count(0)

    page.get_by_role("button", name="import.toml").click()
    expect(page.locator("#viewer-name")).to_have_text("import.toml")
    page.get_by_role("button", name="Edit").click()
    page.get_by_label("New content of the file").fill("mine\n")
    (config / "import.toml").write_text("theirs\n")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Somebody has changed this file since you opened it.")).to_be_visible()
    assert (config / "import.toml").read_text() == "theirs\n"

    turned = page.get_by_role("row", name="a\\u{202e}txt.exe")
    turned.get_by_role("button", name="Delete").click()
    expect(turned).to_have_count(0)
    assert asked == ["Delete a\\u{202e}txt.exe from the tenant's machine? This cannot be undone."]

    # Its session ends: the passkey is asked for, and nothing of what was read is left behind the door.
    page.get_by_role("button", name="import.toml").click()
    expect(page.locator("#viewer-text")).to_have_text("theirs")
    page.context.clear_cookies()
    page.get_by_role("button", name="crlf.ini").click()
    expect(page.get_by_role("heading", name="Begin break-glass access")).to_be_visible()
    left = page.locator("main").inner_html()
    assert not [word for word in ("theirs", "crlf.ini", "import.toml") if word in left]
    stage.forgive("403 (Forbidden)", "412 (Precondition Failed)")
