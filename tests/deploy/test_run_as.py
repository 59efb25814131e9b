"""`deploy/run-as` starts a role with its own environment and no more rights than it needs."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from deploy.portalctl import environments, libvirtd, run_as
from deploy.portalctl.places import CHECKOUT, Places
from deploy.portalctl.users import ALONE, Split
from tests.deploy.conftest import needs_root

RUN_AS = str(CHECKOUT / "deploy" / "run-as")


def start(places: Places, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], "PORTAL_STATE_DIR": str(places.state), "STRAY": "caller's"}
    return subprocess.run([RUN_AS, *arguments], env=environ, capture_output=True, text=True, check=False)


@needs_root
def test_the_command_sees_its_role_and_nothing_of_the_caller(places: Places) -> None:
    environments.write_all(places, ALONE, uri="qemu:///system")
    done = start(places, "web", "--", "env")
    seen = environments.parse(done.stdout)
    assert seen["PORTAL_ROLE"] == "web"
    assert not {"STRAY", "PORTAL_WRAPPING_KEY", "LIBVIRT_URI"} & seen.keys()


@needs_root
def test_the_user_is_dropped_for_good(places: Places) -> None:
    environments.write_all(places, ALONE, uri="qemu:///system")
    users = dict.fromkeys(environments.ROLES, "nobody")
    (places.env / "users.json").write_text(json.dumps(users))
    script = "id -un; umask; grep -E '^(CapEff|CapPrm|NoNewPrivs)' /proc/self/status"
    said = start(places, "web", "--", "sh", "-c", script).stdout.split()
    assert said[:2] == ["nobody", "0007"]
    assert said[2:] == ["CapPrm:", "0" * 16, "CapEff:", "0" * 16, "NoNewPrivs:", "1"]


@needs_root
def test_the_egress_keeper_keeps_one_right(places: Places) -> None:
    environments.write_all(places, ALONE, uri="qemu:///system")
    (places.env / "users.json").write_text(json.dumps(dict.fromkeys(environments.ROLES, "nobody")))
    script = "id -un; grep -E '^(CapEff|CapAmb|NoNewPrivs)' /proc/self/status"
    said = start(places, "egress", "--", "sh", "-c", script).stdout.split()
    net_admin = f"{1 << 12:016x}"
    assert said == ["nobody", "CapEff:", net_admin, "CapAmb:", net_admin, "NoNewPrivs:", "1"]


@needs_root
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["web", "--"], "no command"), (["root", "--", "id"], "no role 'root'"), ([], "no role")],
)
def test_a_wrong_call_says_what_is_wrong(places: Places, arguments: list[str], complaint: str) -> None:
    environments.write_all(places, ALONE, uri="qemu:///system")
    done = start(places, *arguments)
    assert done.returncode == 1
    assert complaint in done.stderr


@needs_root
def test_before_make_up_it_says_so(places: Places) -> None:
    done = start(places, "web", "--", "id")
    assert done.returncode == 1
    assert "make up" in done.stderr


def test_without_a_user_the_command_stays_as_it_is() -> None:
    assert run_as.dropped(["id"], None) == ["id"]


def test_beat_runs_as_the_user_that_can_do_least() -> None:
    split = Split("portal-web", "portal-worker", "portal-proxy", "portal-egress", "portal-sequencer")
    users = {role: split.of(role) for role in environments.ROLES}
    assert users == {
        "web": "portal-web",
        "worker": "portal-worker",
        "beat": "portal-web",
        "proxy": "portal-proxy",
        "egress": "portal-egress",
        "sequencer": "portal-sequencer",
        "manage": None,
    }


def test_the_procfile_starts_every_role_through_run_as() -> None:
    lines = (CHECKOUT / "Procfile").read_text().splitlines()
    commands = dict(line.split(": ", 1) for line in lines)
    assert set(commands) == {"proxy", "web", "worker", "urgent", "beat", "egress", "keeper", "sequencer"}
    for name, command in commands.items():
        role = {"keeper": "worker", "urgent": "worker"}.get(name, name)
        program = "nginx" if name == "proxy" else ".venv/bin/"
        assert command.startswith(f"deploy/run-as {role} -- {program}"), name


def test_libvirt_speaks_english_whoever_starts_it(monkeypatch: pytest.MonkeyPatch, places: Places) -> None:
    """Its warnings of a machine are read; it would translate them into its environment's language."""
    language = ["LC_ALL=C.UTF-8", "LANGUAGE=C"]
    for unit in ("libvirtd", "virtqemud"):
        drop_in = Path(CHECKOUT, "deploy", "systemd", f"{unit}.service.d", "portal.conf").read_text()
        assert f"[Service]\nEnvironment={' '.join(language)}\n" in drop_in
    asked: list[list[str]] = []
    monkeypatch.setattr(libvirtd, "answers", lambda argv: asked.append(argv))
    libvirtd._daemon(places, "libvirtd", [], optional=True)
    assert asked[0][:4] == ["env", *language, "libvirtd"]


def test_systemd_units_keep_web_from_libvirt_and_every_unit_from_new_rights() -> None:
    folder = Path(CHECKOUT, "deploy", "systemd")
    units = {path.stem: path.read_text() for path in folder.glob("*.service")}
    walls = units.pop("portal-walls")  # ends before anything runs, and needs just the one right
    assert "NoNewPrivileges=yes" in walls
    assert "CapabilityBoundingSet=CAP_NET_ADMIN\n" in walls
    assert "portal-walls.nft" in walls
    egress = units.pop("portal-egress")
    for setting in ("CapabilityBoundingSet=CAP_NET_ADMIN\n", "NoNewPrivileges=yes", "ProtectSystem=strict"):
        assert setting in egress
    assert "AF_INET6" not in egress
    assert "SupplementaryGroups" not in egress
    assert set(units) == {"portal-web", "portal-worker", "portal-urgent", "portal-beat", "portal-sequencer"}
    for name, text in units.items():
        for setting in (
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "CapabilityBoundingSet=\n",
            "MemoryMax=",
        ):
            assert setting in text, (name, setting)
        assert ("libvirt" in text.partition("SupplementaryGroups=")[2].splitlines()[0]) == (
            name in {"portal-worker", "portal-urgent"}
        )
