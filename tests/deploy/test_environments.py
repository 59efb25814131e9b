"""Each role's environment: the line between web and worker is drawn here."""

import base64
import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.portalctl import environments
from deploy.portalctl.environments import ROLES
from deploy.portalctl.places import Places
from deploy.portalctl.terminal import Stop
from deploy.portalctl.users import ALONE
from protocol.notes import VerifierKey, vkey_of

OPENS_SOMETHING = {"LIBVIRT_URI", "PORTAL_WRAPPING_KEY"}
DJANGO = set(ROLES) - {"proxy", "egress"}


@pytest.fixture
def written(places: Places) -> Places:
    environments.write_all(places, ALONE, uri="qemu:///system")
    return places


def told(places: Places, role: str) -> dict[str, str]:
    return environments.parse((places.env / f"{role}.env").read_text())


@pytest.mark.parametrize("role", ["web", "beat", "sequencer", "proxy", "egress"])
def test_web_and_beat_hold_nothing_that_opens_anything(written: Places, role: str) -> None:
    assert not OPENS_SOMETHING & told(written, role).keys()


@pytest.mark.parametrize("role", ["worker", "manage"])
def test_worker_and_manage_hold_libvirt_and_the_wrapping_key(written: Places, role: str) -> None:
    assert told(written, role).keys() >= OPENS_SOMETHING


def test_no_value_of_workers_keys_appears_anywhere_in_webs_file(written: Places) -> None:
    web = (written.env / "web.env").read_text()
    worker = told(written, "worker")
    assert worker["PORTAL_WRAPPING_KEY"] not in web
    assert worker["SECRET_KEY"] not in web


def test_each_role_signs_with_a_key_of_its_own(written: Places) -> None:
    assert len({told(written, role)["SECRET_KEY"] for role in DJANGO}) == len(DJANGO)


def test_only_the_sequencer_can_sign_the_log_and_all_can_check_it(written: Places) -> None:
    """And it holds no key of anybody else's."""
    assert {role for role in ROLES if "PORTAL_LOG_KEY" in told(written, role)} == {"sequencer"}
    assert {role for role in ROLES if "PORTAL_LOG_VKEY" in told(written, role)} == DJANGO
    assert "PORTAL_ROUTE_KEY" not in told(written, "sequencer")
    vkey = VerifierKey.parse(told(written, "web")["PORTAL_LOG_VKEY"])
    seed = base64.b64decode(told(written, "sequencer")["PORTAL_LOG_KEY"])
    assert vkey == vkey_of(f"portal.localhost/log/{environments.fleet_id(written.state)}", seed)
    for role in set(ROLES) - {"sequencer"}:
        assert told(written, "sequencer")["PORTAL_LOG_KEY"] not in (written.env / f"{role}.env").read_text()


def test_those_who_send_and_carry_out_tasks_share_one_key_for_it(written: Places) -> None:
    holders = {role for role in ROLES if "PORTAL_CONTEXT_KEY" in told(written, role)}
    assert holders == {"web", "worker", "beat", "manage"}
    keys = {told(written, role)["PORTAL_CONTEXT_KEY"] for role in holders}
    assert len(keys) == 1
    assert len(base64.b64decode(keys.pop())) == 32


def test_an_installation_from_before_gets_the_key_at_its_next_start(written: Places) -> None:
    path = written.env / "secrets.json"
    kept = json.loads(path.read_text())
    del kept["PORTAL_CONTEXT_KEY"]
    path.write_text(json.dumps(kept))
    environments.write_all(written, ALONE, uri="qemu:///system")
    assert told(written, "web")["PORTAL_CONTEXT_KEY"] == told(written, "worker")["PORTAL_CONTEXT_KEY"]
    assert told(written, "web")["SECRET_KEY"] == kept["WEB_SECRET_KEY"]


def test_the_sequencers_memory_is_its_own_alone(written: Places) -> None:
    assert stat.S_IMODE((written.state / "sequencer").stat().st_mode) == 0o700


def test_the_proxy_is_told_nothing(written: Places) -> None:
    """Its client certificate is a file; a request's token comes from web, each time anew."""
    assert told(written, "proxy").keys() == {"PORTAL_ROLE", "PORTAL_STATE_DIR"}


def test_the_egress_keeper_is_told_its_folders_and_no_secret(written: Places) -> None:
    assert told(written, "egress").keys() == {
        "PORTAL_ROLE",
        "PORTAL_STATE_DIR",
        "PORTAL_FLEET_ID",
        "PORTAL_EGRESS_DIR",
        "PORTAL_EGRESS_RUN",
    }


def test_workers_know_the_keepers_folder_only_where_there_is_a_keeper(places: Places) -> None:
    environments.write_all(places, ALONE, uri="qemu:///system")
    assert told(places, "worker")["PORTAL_EGRESS_DIR"] == ""
    kept = json.loads((places.env / "secrets.json").read_text())
    with_keeper = environments.settings(places, "worker", kept, uri="qemu:///system", egress=True)
    assert with_keeper["PORTAL_EGRESS_DIR"] == told(places, "egress")["PORTAL_EGRESS_DIR"]


def test_secrets_and_fleet_survive_a_second_run(written: Places) -> None:
    before = {role: told(written, role) for role in ROLES}
    environments.write_all(written, ALONE, uri="qemu:///system")
    assert {role: told(written, role) for role in ROLES} == before


def test_two_installations_share_no_secret(written: Places, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("other")
    other = Places(root, root / "state")
    other.env.mkdir(parents=True)
    environments.write_all(other, ALONE, uri="qemu:///system")
    for name in ("SECRET_KEY", "PORTAL_WRAPPING_KEY", "PORTAL_CONTEXT_KEY", "PORTAL_LOG_VKEY"):
        assert told(other, "worker")[name] != told(written, "worker")[name]


def test_files_with_secrets_are_closed_to_others(written: Places) -> None:
    for path in (written.env / "secrets.json", *written.env.glob("*.env")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0, path


def test_a_role_inherits_nothing_from_its_caller(written: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "caller's own")
    assert "AWS_SECRET_ACCESS_KEY" not in environments.load(written, "web")


def test_fleet_id_is_five_letters_and_digits_starting_with_a_letter(places: Places) -> None:
    fleet = environments.fleet_id(places.state)
    assert len(fleet) == 5
    assert fleet.isalnum()
    assert fleet == fleet.lower()
    assert fleet[0].isalpha()
    assert environments.fleet_id(places.state) == fleet


def test_a_value_with_a_line_break_cannot_smuggle_in_another_variable() -> None:
    with pytest.raises(ValueError, match="REDIS_URL"):
        environments.render({"REDIS_URL": "redis://a\nPORTAL_WRAPPING_KEY=x"})


def test_values_with_equal_signs_come_back_whole() -> None:
    assert environments.parse(environments.render({"KEY": "YWJj=="})) == {"KEY": "YWJj=="}


def test_the_settings_of_make_reach_the_roles(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTAL_PORT", "8123")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:6390/1")
    monkeypatch.setenv("PORTAL_BASE_URL", "")  # make exports what is not set as nothing
    environments.write_all(places, ALONE, uri="test+unix:///default")
    worker = told(places, "worker")
    assert worker["PORTAL_BASE_URL"] == "http://portal.localhost:8123"
    assert worker["REDIS_URL"] == "redis://127.0.0.1:6390/1"
    assert worker["LIBVIRT_URI"] == "test+unix:///default"


@pytest.mark.parametrize("name", ["portal.sqlite3", "portal.sqlite3-wal"])
@pytest.mark.parametrize("how", [Path.symlink_to, Path.hardlink_to])
def test_a_link_in_the_databases_folder_gives_nothing_away(
    places: Places, name: str, how: Callable[[Path, Path], None]
) -> None:
    """Web may write there, and root gives files of that name to web's group."""
    secret = places.env / "secret"
    secret.touch()
    secret.chmod(0o640)
    places.database.parent.mkdir()
    how(places.database.parent / name, secret)
    with pytest.raises(Stop, match="no plain file"):
        environments.prepare_database_folder(places, ALONE)
    assert stat.S_IMODE(secret.stat().st_mode) == 0o640


def test_a_link_to_nothing_makes_no_file(places: Places) -> None:
    places.database.parent.mkdir()
    places.database.symlink_to(places.env / "made by root")
    with pytest.raises(Stop, match="no plain file"):
        environments.prepare_database_folder(places, ALONE)
    assert not (places.env / "made by root").exists()
