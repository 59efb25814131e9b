"""The launcher's gateway: what it refuses to start, how it is closed in, and who may read its configuration."""

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest

from guest.gateway import places
from guest.gateway.config import Headers, Model, Settings, render
from guest.image import recipe
from guest.launcher import gateway_unit
from guest.launcher.__main__ import answer
from guest.launcher.way_out import WayOut
from guest.launcher.wire import MAX_CONFIG_BYTES, Gateway, Refused, parse
from tests.guest.test_launcher import Recorder, environment_of

GOOD = {"verb": "gateway_start", "config": "{}", "memory_mib": 1664, "heap_mib": 832, "tasks": 512}
UNITS = recipe.OVERLAY / "etc/systemd/system"


OUT = WayOut("10.1.2.1", 3128)


def unit(out: WayOut | None = None) -> list[str]:
    return gateway_unit.command(Gateway('{"word": "no-secret-but-private"}', 1664, 832, 512), out)


def properties() -> dict[str, str]:
    pairs = [each.removeprefix("--property=") for each in unit() if each.startswith("--property=")]
    return {name: value for name, _, value in (each.partition("=") for each in pairs)}


def addresses(out: WayOut | None) -> list[str]:
    return [each.removeprefix("--property=") for each in unit(out) if "IPAddress" in each]


def test_it_reaches_loopback_and_the_proxy() -> None:
    """All else stays denied; with no proxy there is one address less."""
    closed = ["IPAddressDeny=any", "IPAddressAllow=localhost"]
    assert addresses(None) == closed
    assert addresses(OUT) == [*closed, "IPAddressAllow=10.1.2.1"]


def test_it_is_told_the_way_out() -> None:
    """By its environment, which its tools inherit; what it is told otherwise does not change."""
    told = environment_of(unit(OUT))
    assert told == environment_of(unit()) | OUT.environment
    assert told["NODE_USE_ENV_PROXY"] == "1"
    assert not [name for name in environment_of(unit()) if "proxy" in name.lower()]


def test_a_good_request_is_parsed() -> None:
    assert parse(json.dumps(GOOD).encode()) == ("gateway_start", Gateway("{}", 1664, 832, 512))
    for verb in ("gateway_status", "gateway_stop"):
        assert parse(json.dumps({"verb": verb}).encode()) == (verb, "")


@pytest.mark.parametrize(
    "document",
    [
        {"verb": "gateway_start"},
        {"verb": "gateway_stop", "id": "x"},
        {"verb": "gateway_restart"},
        GOOD | {"more": 1},
        GOOD | {"config": {}},
        GOOD | {"config": "[]"},
        GOOD | {"config": "{"},
        GOOD | {"config": "[" * 20_000},
        GOOD | {"config": '{"a": "\ud800"}'},
        GOOD | {"config": json.dumps({"a": "x" * MAX_CONFIG_BYTES})},
        GOOD | {"memory_mib": 10},
        GOOD | {"memory_mib": "1664"},
        GOOD | {"heap_mib": 2000},
        GOOD | {"heap_mib": True},
        GOOD | {"tasks": 5000},
    ],
)
def test_what_is_malformed_is_refused(document: Any) -> None:
    backend = Recorder()
    assert answer(backend, json.dumps(document).encode())["ok"] is False
    assert backend.asked == []


@pytest.mark.parametrize("verb", ["gateway_start", "gateway_status", "gateway_stop"])
def test_each_verb_reaches_the_backend(verb: str) -> None:
    backend = Recorder()
    document = GOOD if verb == "gateway_start" else {"verb": verb}
    assert answer(backend, json.dumps(document).encode())["ok"] is True
    assert len(backend.asked) == 1


def test_the_largest_configuration_fits_a_request() -> None:
    """All that an owner can set, at its longest."""
    model = Model("https://" + "a" * 500 + "/", "m" * 128, "openai-completions", "S" * 64)
    text = json.dumps(render(Settings("https://a.test", "tenant", Headers.fresh(), model)))
    assert len(text) < MAX_CONFIG_BYTES // 4


def test_it_is_closed_in() -> None:
    """The rules of the issue, each by its name; V8 rules out MemoryDenyWriteExecute."""
    found = properties()
    wanted = {
        "NoNewPrivileges": "yes",
        "PrivateTmp": "yes",
        "ProtectSystem": "strict",
        "ProtectProc": "invisible",
        "CapabilityBoundingSet": "",
        "RestrictNamespaces": "yes",
        "IPAddressDeny": "any",
        "IPAddressAllow": "localhost",
        "MemoryMax": "1664M",
        "MemorySwapMax": "0",
        "TasksMax": "512",
        "Restart": "no",
        "OOMPolicy": "stop",
        "UMask": "0007",
        "RuntimeDirectoryMode": "0700",
    }
    assert {name: found.get(name) for name in wanted} == wanted
    assert set(found["ReadWritePaths"].split()) == {places.STATE, places.WORKSPACE}
    hidden = found["InaccessiblePaths"]
    assert all(path in hidden for path in ("/var/lib/portal/agent", "/var/lib/portal/jobs", "launcher.sock"))
    assert {"--uid=gateway", "--gid=gateway"} <= set(unit())
    filters = [each for each in unit() if each.startswith("--property=SystemCallFilter=")]
    assert [each.rpartition("=")[2] for each in filters] == ["@system-service", "~@privileged @resources"]


def test_neither_command_line_nor_environment_says_anything_private() -> None:
    assert "no-secret-but-private" not in " ".join(unit())
    names = {each.removeprefix("--setenv=").partition("=")[0] for each in unit() if "--setenv=" in each}
    assert not [
        name for name in names if any(word in name for word in ("KEY", "TOKEN", "SECRET", "PASSWORD"))
    ]


def test_the_configuration_is_for_the_gateway_only(tmp_path: Path) -> None:
    folder = tmp_path / "gateway"
    folder.mkdir(mode=0o777)
    path = folder / "openclaw.json"
    path.with_suffix(".new").symlink_to(tmp_path / "elsewhere")
    for text in ("{}", '{"second": 1}'):
        gateway_unit.write_config(text, path, group=os.getgid())
        assert path.read_text() == text
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("shown", "ended", "status"),
    [
        ("ActiveState=active\nMemoryCurrent=1234", None, ("running", None, 1234)),
        ("ActiveState=activating\nMemoryCurrent=[not set]", "oom-kill", ("running", None, None)),
        ("ActiveState=inactive\nMemoryCurrent=[not set]", None, ("off", None, None)),
        ("ActiveState=inactive\nMemoryCurrent=[not set]", "oom-kill", ("ended", "oom-kill", None)),
        ("ActiveState=failed\nMemoryCurrent=77", "exit-code", ("ended", "exit-code", None)),
        ("", None, ("off", None, None)),
    ],
)
def test_its_status(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shown: str, ended: str | None,
                    status: tuple[str, str | None, int | None]) -> None:  # fmt: skip
    note = tmp_path / "ended.json"
    if ended is not None:
        note.write_text(json.dumps({"result": ended}))
    monkeypatch.setattr(gateway_unit, "ENDED", note)
    done = subprocess.CompletedProcess([], 0, stdout=shown, stderr="")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: done)
    found = gateway_unit.status()
    assert (found["state"], found["result"], found["memory_bytes"]) == status


def test_a_second_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway_unit, "status", lambda: {"state": "running"})
    with pytest.raises(Refused, match="stop it first"):
        gateway_unit.start(Gateway("{}", 1664, 832, 512))


def test_paths_that_stand_twice_agree() -> None:
    """Shell scripts and units repeat what ``places`` says; so do users and groups."""
    programs = recipe.OVERLAY / "usr/lib/portal"
    assert f'"{places.SECRET_SOCKET}"' in (programs / "gateway-secret").read_text()
    assert (
        f"RuntimeDirectory={Path(places.SECRET_SOCKET).parent.name}\n"
        in (UNITS / "portal-agent.service").read_text()
    )
    assert (
        f"RuntimeDirectory={places.CONFIG_FOLDER.removeprefix('/run/')}\n"
        in (UNITS / "portal-launcher.service").read_text()
    )
    assert f"RuntimeDirectory={Path(places.CODE).parent.name}" in " ".join(unit())
    start = (programs / "gateway-start").read_text()
    assert f"tree={places.TREE}\n" in start
    assert f"state={places.STATE}\n" in start
    assert str(gateway_unit.ENDED) in (programs / "gateway-ended").read_text()
    network = (programs / "network").read_text()
    assert f"\ngateway={places.USER}\ntenant={recipe.USERS['tenant'][0]}\n" in network
    # One range of numbers stands for both.
    assert recipe.USERS["tenant"][0] == places.USER + 1
    assert recipe.USERS["gateway"][0] == places.USER == places.GROUP
    assert recipe.WORKSPACE_GROUP[1] == places.FILES_GROUP
    assert f"/{recipe.GATEWAY_HOME}" == places.TREE
