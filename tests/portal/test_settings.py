"""The settings refuse an unsafe environment, name the variable and keep its value to themselves."""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from audit.log_keys import DEVELOPMENT_SEED
from protocol.notes import vkey_of

ROOT = Path(__file__).resolve().parents[2]
STRONG = "".join(chr(33 + i % 90) for i in range(64)).replace("$", "x")
KEY = base64.b64encode(bytes(range(32))).decode()
CONTEXT_KEY = base64.b64encode(bytes(range(128, 160))).decode()
DEVELOPMENT_CONTEXT_KEY = base64.b64encode(b"development only: who has asked.").decode()
LOG_SEED = bytes(range(100, 132))
LOG_VKEY = str(vkey_of("portal.example/log/fleet", LOG_SEED))
LOG_KEY = base64.b64encode(LOG_SEED).decode()
DEVELOPMENT_VKEY = str(vkey_of("portal.example/log/fleet", DEVELOPMENT_SEED))
PRODUCTION = {
    "PORTAL_PRODUCTION": "1",
    "SECRET_KEY": STRONG,
    "PORTAL_WRAPPING_KEY": KEY,
    "PORTAL_ROUTE_KEY": base64.b64encode(bytes(range(64, 96))).decode(),
    "PORTAL_CONTEXT_KEY": CONTEXT_KEY,
    "PORTAL_LOG_VKEY": LOG_VKEY,
}
PRODUCTION_WEB = {
    "PORTAL_PRODUCTION": "1",
    "SECRET_KEY": STRONG,
    "PORTAL_ROLE": "web",
    "PORTAL_ROUTE_KEY": PRODUCTION["PORTAL_ROUTE_KEY"],
    "PORTAL_CONTEXT_KEY": CONTEXT_KEY,
    "PORTAL_LOG_VKEY": LOG_VKEY,
}
PRODUCTION_SEQUENCER = {
    "PORTAL_PRODUCTION": "1",
    "SECRET_KEY": STRONG,
    "PORTAL_ROLE": "sequencer",
    "PORTAL_LOG_KEY": LOG_KEY,
    "PORTAL_LOG_VKEY": LOG_VKEY,
}


def start(environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    """Read the settings in a process that has ``environment`` and nothing else of ours."""
    return subprocess.run(
        [sys.executable, "-c", "import portal.settings; print('started')"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "environment",
    [
        {},
        PRODUCTION,
        PRODUCTION_WEB,
        {"PORTAL_ROLE": "web"},
        {"PORTAL_ROLE": "beat"},
        {"PORTAL_WRAPPING_KEY": KEY},
        PRODUCTION_SEQUENCER,
        {"PORTAL_ROLE": "sequencer"},
    ],
    ids=[
        "nothing",
        "production",
        "production web",
        "web",
        "beat",
        "development key",
        "production sequencer",
        "sequencer",
    ],
)
def test_a_sound_environment_starts(environment: dict[str, str]) -> None:
    """So that the refusals below mean something."""
    done = start(environment)
    assert done.stdout.strip() == "started", done.stderr


REFUSED = [
    ({"PORTAL_ROLE": "web", "PORTAL_WRAPPING_KEY": KEY}, "PORTAL_WRAPPING_KEY"),
    ({"PORTAL_ROLE": "web", "LIBVIRT_URI": "qemu+ssh://root@secret-host/system"}, "LIBVIRT_URI"),
    ({"PORTAL_ROLE": "beat", "PORTAL_WRAPPING_KEY": KEY}, "PORTAL_WRAPPING_KEY"),
    ({"PORTAL_ROLE": "beat", "LIBVIRT_URI": "qemu+ssh://root@secret-host/system"}, "LIBVIRT_URI"),
    ({**PRODUCTION_WEB, "PORTAL_ROUTE_KEY": ""}, "PORTAL_ROUTE_KEY"),
    ({"PORTAL_ROUTE_KEY": "YWI="}, "PORTAL_ROUTE_KEY"),
    ({"PORTAL_ROUTE_KEY": "not*base64"}, "PORTAL_ROUTE_KEY"),
    *(
        ({**PRODUCTION_WEB, "PORTAL_ROLE": role, "PORTAL_CONTEXT_KEY": weak}, "PORTAL_CONTEXT_KEY")
        for role in ("web", "beat")
        for weak in ("", base64.b64encode(b"ab" * 16).decode(), DEVELOPMENT_CONTEXT_KEY)
    ),
    ({**PRODUCTION, "PORTAL_CONTEXT_KEY": ""}, "PORTAL_CONTEXT_KEY"),
    ({**PRODUCTION, "PORTAL_ROLE": "worker", "PORTAL_CONTEXT_KEY": ""}, "PORTAL_CONTEXT_KEY"),
    ({"PORTAL_CONTEXT_KEY": "YWI="}, "PORTAL_CONTEXT_KEY"),
    ({"PORTAL_CONTEXT_KEY": "not*base64"}, "PORTAL_CONTEXT_KEY"),
    ({**PRODUCTION_SEQUENCER, "PORTAL_CONTEXT_KEY": CONTEXT_KEY}, "PORTAL_CONTEXT_KEY"),
    ({"PORTAL_GATEWAY_IDLE_SECONDS": "0"}, "PORTAL_GATEWAY_IDLE_SECONDS"),
    ({"PORTAL_GATEWAY_IDLE_SECONDS": "604801"}, "PORTAL_GATEWAY_IDLE_SECONDS"),
    ({"PORTAL_ROLE": "tomcat"}, "PORTAL_ROLE"),
    ({"PORTAL_WRAPPING_KEY": "not*base64*at*all"}, "PORTAL_WRAPPING_KEY"),
    ({"PORTAL_WRAPPING_KEY": base64.b64encode(b"sixteen bytes ok").decode()}, "PORTAL_WRAPPING_KEY"),
    ({**PRODUCTION, "SECRET_KEY": ""}, "SECRET_KEY"),
    ({**PRODUCTION, "SECRET_KEY": "too-short-a-secret"}, "SECRET_KEY"),
    ({**PRODUCTION, "SECRET_KEY": "ab" * 40}, "SECRET_KEY"),
    ({**PRODUCTION, "SECRET_KEY": "development-only-" + "0" * 40}, "SECRET_KEY"),
    ({**PRODUCTION, "PORTAL_WRAPPING_KEY": ""}, "PORTAL_WRAPPING_KEY"),
    ({**PRODUCTION, "PORTAL_WRAPPING_KEY": base64.b64encode(b"ab" * 16).decode()}, "PORTAL_WRAPPING_KEY"),
    ({**PRODUCTION, "DEBUG": "1"}, "DEBUG"),
    ({**PRODUCTION_WEB, "DEBUG": "true"}, "DEBUG"),
    ({**PRODUCTION, "PORTAL_ALLOW_FAULTS": "1"}, "PORTAL_ALLOW_FAULTS"),
    *(
        ({"PORTAL_ROLE": role, "PORTAL_LOG_KEY": LOG_KEY, "PORTAL_LOG_VKEY": LOG_VKEY}, "PORTAL_LOG_KEY")
        for role in ("web", "worker", "beat", "manage")
    ),
    ({**PRODUCTION_SEQUENCER, "PORTAL_LOG_KEY": ""}, "PORTAL_LOG_KEY"),
    ({**PRODUCTION_SEQUENCER, "PORTAL_LOG_KEY": KEY}, "PORTAL_LOG_KEY"),
    ({**PRODUCTION_SEQUENCER, "PORTAL_LOG_KEY": "not*base64"}, "PORTAL_LOG_KEY"),
    ({**PRODUCTION_SEQUENCER, "PORTAL_WRAPPING_KEY": KEY}, "PORTAL_WRAPPING_KEY"),
    ({**PRODUCTION, "PORTAL_LOG_VKEY": ""}, "PORTAL_LOG_VKEY"),
    ({**PRODUCTION_WEB, "PORTAL_LOG_VKEY": "nonsense"}, "PORTAL_LOG_VKEY"),
    ({**PRODUCTION_WEB, "PORTAL_LOG_VKEY": DEVELOPMENT_VKEY}, "PORTAL_LOG_VKEY"),
    ({"PORTAL_SEQUENCE_SECONDS": "0"}, "PORTAL_SEQUENCE_SECONDS"),
]


@pytest.mark.parametrize(
    ("environment", "named"), REFUSED, ids=lambda value: value if isinstance(value, str) else None
)
def test_an_unsafe_environment_is_refused(environment: dict[str, str], named: str) -> None:
    """It does not start; the last line names what to change; no value of a secret is repeated."""
    done = start(environment)
    assert done.returncode != 0
    assert done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("django.core.exceptions.ImproperlyConfigured: ")
    assert named in last
    for name in ("SECRET_KEY", "PORTAL_WRAPPING_KEY", "LIBVIRT_URI", "PORTAL_LOG_KEY", "PORTAL_CONTEXT_KEY"):
        value = environment.get(name, "")
        assert not value or value not in done.stderr


def test_production_cookies_and_transport() -> None:
    """Behind TLS: HSTS, a redirect to https, and the same cookies."""
    code = (
        "from portal import settings as s; "
        "print(s.SECURE_SSL_REDIRECT, s.SECURE_HSTS_SECONDS > 0, s.SESSION_COOKIE_SECURE, s.DEBUG)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **PRODUCTION_WEB},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == "True True True False"


ASKED_DIRECTLY = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "portal.settings"
import django
django.setup()
from django.test import Client
from portal import metrics_views
metrics_views.render = lambda: b""
for path in ("/metrics", "/sign-in/", "/metrics/more"):
    for host in ("127.0.0.1:8000", "portal.example"):
        print("answer", Client().get(path, headers={"Host": host}).status_code)
"""


def test_production_numbers_are_read_without_tls() -> None:
    """On the machine itself, past nginx, where there is none; everything else leads to https."""
    given = {**PRODUCTION_WEB, "PORTAL_BASE_URL": "https://portal.example"}
    done = subprocess.run(
        [sys.executable, "-c", ASKED_DIRECTLY],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **given},
        capture_output=True,
        text=True,
        timeout=60,
    )
    answers = [line[7:] for line in done.stdout.splitlines() if line.startswith("answer ")]
    assert answers == ["200", "200", *["301"] * 4], done.stderr


@pytest.mark.parametrize(("given", "stands"), [({}, "True"), ({"PORTAL_PILOT": "false"}, "False")])
def test_the_pilots_guardrail_stands_until_it_is_taken_down(given: dict[str, str], stands: str) -> None:
    """Nothing but a plain word takes it down."""
    code = "import portal.settings; print(portal.settings.PORTAL_PILOT)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **given},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == stands, done.stderr


@pytest.mark.parametrize("word", ["", "maybe", "no thanks"])
def test_a_word_that_is_not_plain_stops_the_process(word: str) -> None:
    done = start({"PORTAL_PILOT": word})
    assert "started" not in done.stdout
    assert "PORTAL_PILOT" in done.stderr
