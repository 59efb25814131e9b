"""Secrets in a real browser: what is typed leaves the page sealed only, and the guest's vault opens it."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from nacl.public import PrivateKey
from playwright.sync_api import Page, Request, expect

from protocol.sealed import MAX_SECRET_BYTES, unseal
from provisioning.models import GuestImage, Host, Operation, Runtime
from tenants.models import ConnectorSecret, Tenant
from tenants.services.secret_states import secret_held, secret_open, secret_refused
from tests.portal.conftest import World
from tests.portal.test_browser import base, browser, complaints, page, shoot, sign_in  # noqa: F401 - fixtures
from tests.provisioning.secret_flows import done, opened
from tests.provisioning.workers import created

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
MARKER = "ghp_marker-7f3a9c51e2d84b06"
GUEST = PrivateKey(bytes(range(32)))


@pytest.fixture(autouse=True)
def asked_and_answered(page: Page) -> None:  # noqa: F811
    """Questions are answered with yes."""
    page.on("dialog", lambda dialog: dialog.accept())


def forms(value: str) -> set[str]:
    """What a value may look like on its way out."""
    raw = value.encode()
    return {
        value,
        raw.hex(),
        base64.b64encode(raw).decode().rstrip("="),
        base64.urlsafe_b64encode(raw).decode(),
    }


def save(page: Page, value: str = MARKER, name: str = "MY_TOKEN") -> None:  # noqa: F811
    page.get_by_label("Name").fill(name)
    page.get_by_label("Value").fill(value)
    page.get_by_role("button", name="Seal and save").click()


def sealed_to_us() -> bytes:
    """The newest secret, opened as the guest would."""
    return unseal(bytes(GUEST), secret_open(ConnectorSecret.objects.latest("pk")))


def test_the_value_leaves_the_page_sealed_only(
    simulated_host: Host,
    tenant: Tenant,
    owner: User,
    image: GuestImage,
    page: Page,  # noqa: F811
    tmp_path: Path,
) -> None:
    """Nothing that is sent, said on the console or left in the page holds it; the guest's vault opens it."""
    runtime = created(tenant)
    sent: list[str] = []
    said: list[str] = []

    def note(request: Request) -> None:
        sent.append(f"{request.url} {request.headers} {request.post_data or ''}")

    page.on("request", note)
    page.on("console", lambda message: said.append(message.text))
    sign_in(page, "owner")
    page.get_by_role("link", name="Secrets").click()
    save(page)
    expect(page.get_by_role("status")).to_contain_text("MY_TOKEN is saved as version 1.")
    expect(page.get_by_role("row", name="MY_TOKEN")).to_contain_text("Waiting")
    (put,) = [json.loads(line.partition("} ")[2]) for line in sent if '"encrypted_value"' in line]
    assert set(put) == {"encrypted_value", "key_id", "connector"}
    left = page.content() + page.evaluate(
        "JSON.stringify([...document.querySelectorAll('input,textarea')].map((field) => field.value))"
        "+ JSON.stringify({...localStorage}) + JSON.stringify({...sessionStorage}) + document.cookie"
    )
    for form in forms(MARKER):
        for place in (*sent, *said, left):
            assert form not in place
    done(runtime)
    assert opened(simulated_host, tmp_path, "MY_TOKEN") == MARKER.encode()
    expect(page.get_by_role("row", name="MY_TOKEN")).to_contain_text("On the machine")


def test_what_is_typed_arrives_as_it_is(world: World, page: Page) -> None:  # noqa: F811
    """Every character, several lines, the longest value; only line ends at the end are cut."""
    sign_in(page, "owner-of-acme")
    page.goto("/t/acme/secrets/")
    for value in (
        "žluťoučký 🐎 \\ \" ' <b>&amp;",
        "-----BEGIN-----\nabc\n-----END-----",
        "x" * MAX_SECRET_BYTES,
    ):
        save(page, value + "\n")
        expect(page.get_by_role("status")).to_contain_text("is saved as version")
        page.evaluate("document.getElementById('news').textContent = ''")
        assert sealed_to_us() == value.encode()


def test_a_refusal_keeps_what_was_typed(
    world: World,
    page: Page,  # noqa: F811
    complaints: list[str],  # noqa: F811
) -> None:
    """Too long, or not taken by the portal: in words, with the fields as they were."""
    sign_in(page, "owner-of-acme")
    page.goto("/t/acme/secrets/")
    save(page, "x" * (MAX_SECRET_BYTES + 1))
    expect(page.get_by_role("alert")).to_contain_text(f"Give a value of 1 to {MAX_SECRET_BYTES} bytes.")
    Runtime.objects.filter(tenant=world.mine.tenant).update(sealing_public_key="11" * 32)
    save(page)
    expect(page.get_by_role("alert")).to_contain_text("The machine has another key now.")
    assert page.get_by_label("Value").input_value() == MARKER
    expect(page.locator("#sealing-key")).not_to_have_text(world.mine.secret.sealing_key)
    save(page)
    expect(page.get_by_role("status")).to_contain_text("is saved as version 1")
    assert page.get_by_label("Value").input_value() == ""
    assert {line[:3] for line in complaints} <= {"409", "Fai"}
    complaints.clear()


def test_without_our_script_the_form_sends_nothing(world: World, page: Page) -> None:  # noqa: F811
    """No field has a name, so a browser that submits it anyway submits nothing."""
    page.route("**/secrets.js", lambda route: route.fulfill(body="", content_type="text/javascript"))
    sign_in(page, "owner-of-acme")
    page.goto("/t/acme/secrets/")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(f"{request.url} {request.post_data or ''}"))
    expect(page.get_by_role("button", name="Seal and save")).to_be_disabled()
    page.evaluate("document.querySelector('#save button').disabled = false")
    with page.expect_navigation():
        save(page)
    assert sent
    assert all(form not in line for form in forms(MARKER) for line in sent)


def test_revoke_and_rotate(world: World, page: Page) -> None:  # noqa: F811
    """After a question; what follows is the machine's word."""
    secret_held(world.mine.secret)
    sign_in(page, "owner-of-acme")
    page.goto("/t/acme/secrets/")
    page.get_by_role("row", name="GITHUB_TOKEN").get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("status")).to_contain_text("GITHUB_TOKEN is being revoked.")
    expect(page.get_by_role("row", name="GITHUB_TOKEN")).to_contain_text("Being revoked")
    expect(page.get_by_role("button", name="Revoke")).to_have_count(0)
    page.get_by_role("button", name="Rotate").click()
    expect(page.get_by_role("status")).to_contain_text("makes a new key")
    assert Operation.objects.filter(kind="reseal", requested_by=world.people["owner"]).count() == 1
    expect(page.get_by_text("Rotate the sealing key", exact=True)).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_at_both_sizes(
    world: World,
    page: Page,  # noqa: F811
    shoot: Callable[[Page, str], None],  # noqa: F811
    scheme: Any,
) -> None:
    """Several secrets in every state; and for those who only look."""
    secret_held(world.mine.secret)
    page.emulate_media(color_scheme=scheme)
    sign_in(page, "owner-of-acme")
    page.goto("/t/acme/secrets/")
    for name in ("DEPLOY_KEY", "REFUSED_TOKEN", "A" * 64):
        save(page, name=name)
        expect(page.get_by_role("status")).to_contain_text(f"{name} is saved")
    secret_refused(ConnectorSecret.objects.get(name="REFUSED_TOKEN"), "unknown_key")
    save(page, name="GITHUB_TOKEN")
    expect(page.get_by_text("Version 1 is on the machine.")).to_be_visible()
    expect(page.get_by_text("a key that the machine no longer has")).to_be_visible()
    shoot(page, f"secrets-{scheme}" if scheme == "dark" else "secrets")
    for name in ("member", "operator"):
        page.context.clear_cookies()
        sign_in(page, name)
        page.goto("/t/acme/secrets/")
        expect(page.get_by_role("button", name="Seal and save")).to_have_count(0)
        expect(page.get_by_role("button", name="Rotate")).to_have_count(1 if name == "operator" else 0)
        expect(page.get_by_role("button", name="Revoke")).to_have_count(4 if name == "operator" else 0)
        if scheme == "light":
            shoot(page, f"secrets-{name}")
