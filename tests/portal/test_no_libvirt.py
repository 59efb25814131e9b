"""A web request never calls libvirt: it could not, having neither the library loaded nor an address or key."""

import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import provisioning.driver
from tests.portal.conftest import Kind, State, World, make_operation
from tests.portal.routes import routes

ROOT = Path(__file__).resolve().parents[2]
WEB = """
import sys
import django
django.setup()
from django.contrib import admin
from django.test import Client
from django.urls import get_resolver
from portal.wsgi import application
assert get_resolver().url_patterns and admin.site._registry
assert Client(SERVER_NAME="portal.localhost").get("/sign-in/").status_code == 200
import provisioning.services, provisioning.admin, portal.api
held = sorted(m for m in sys.modules if m == "libvirt" or m.startswith(("libvirtmod", "provisioning.driver")))
held += sorted(set(sys.modules) & {"provisioning.machine", "provisioning.steps", "provisioning.tasks"})
print("held:", *held)
"""


def web_environment(**more: str) -> dict[str, str]:
    """What the web process is given: nothing that opens anything."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {
        **kept,
        "DJANGO_SETTINGS_MODULE": "portal.settings",
        "PORTAL_ROLE": "web",
        "DATABASE_URL": "sqlite://:memory:",
        **more,
    }


def run_as_web(code: str, **more: str) -> "subprocess.CompletedProcess[str]":
    """Run ``code`` in a process that has what web has, and ``more``."""
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=web_environment(**more),
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_web_process_does_not_load_libvirt() -> None:
    """Settings, URLs, admin, services and a page: neither libvirt nor the driver comes along."""
    done = run_as_web(WEB)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "held:"


def test_the_web_process_holds_no_wrapping_key() -> None:
    """Nothing in its settings opens a wrapped key."""
    code = "from django.conf import settings; print(repr(settings.WRAPPING_KEY), repr(settings.LIBVIRT_URI))"
    done = run_as_web(code)
    assert done.stdout.strip() == "b'' ''"


@pytest.mark.django_db
def test_no_request_reaches_a_hypervisor(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every route, read and posted to as the mightiest person, with every way to libvirt mined."""
    import libvirt

    calls: list[str] = []

    def mine(name: str) -> Any:
        def explode(*args: object, **kwargs: object) -> None:
            calls.append(name)
            raise AssertionError(f"a web request called {name}")

        return explode

    for name in ("open", "openAuth", "openReadOnly"):
        monkeypatch.setattr(libvirt, name, mine(f"libvirt.{name}"))
    monkeypatch.setattr(provisioning.driver, "connect", mine("driver.connect"))
    operation = make_operation(world.other.runtime, Kind.RESTART, State.RUNNING, done=2)
    client = world.client("superuser")
    for route in routes():
        for method in ("get", "post"):
            getattr(client, method)(route.url(world.mine))
        if route.name in {"sign-out", "admin:logout"}:
            client = world.client("superuser")
    chosen = {"_selected_action": [str(world.mine.runtime.pk)], "reason": "because of a test"}
    for kind in Kind.values:
        client.post("/admin/provisioning/runtime/", {**chosen, "action": f"request_{kind}"})
        client.post("/t/acme/operations/", {"kind": kind})
        client.post(
            f"/api/v1/runtimes/{world.mine.runtime.pk}/operations/",
            {"kind": kind, "reason": "because of a test"},
            content_type="application/json",
        )
    client.post(f"/admin/provisioning/operation/{operation.pk}/cancel/")
    assert calls == []


def test_web_refuses_to_start_with_what_opens_things() -> None:
    """See test_settings.py for the rest; here with real bytes, which must not be repeated."""
    secret = base64.b64encode(os.urandom(32)).decode()
    done = run_as_web("import portal.settings", PORTAL_WRAPPING_KEY=secret)
    assert done.returncode != 0
    assert "PORTAL_WRAPPING_KEY" in done.stderr
    assert secret not in done.stderr
