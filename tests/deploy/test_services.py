"""Private Redis and PostgreSQL, bridge switches, the stamps that make a second run short."""

import os
import shutil
import socket
import tempfile
from pathlib import Path

import psycopg
import pytest

from deploy.portalctl import image, kernel, postgres, redis, services, venv
from deploy.portalctl.places import Places
from deploy.portalctl.terminal import Stop


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_a_private_redis_answers_and_is_gone_afterwards(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    places.test.mkdir()
    # Redis' own Unix user cannot walk into pytest's temporary directory.
    monkeypatch.setattr(redis, "_user", lambda: None)
    with redis.Private(places.test) as url:
        assert redis.ping(url)
    assert not redis.ping(url)


def test_what_is_not_redis_is_not_taken_for_one(places: Places) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        url = f"redis://127.0.0.1:{port}/0"
        assert not redis.ping(url, timeout=0.2)
        assert redis.taken(port)
    assert not redis.taken(port)


def test_a_remote_redis_that_is_silent_is_not_replaced_by_a_local_one(places: Places) -> None:
    with pytest.raises(Stop, match="no Redis answers"):
        redis.ensure(places, "redis://127.0.0.2:1/0")


@pytest.mark.parametrize(("durable", "fsync"), [(False, "off"), (True, "on")])
def test_postgres_is_fast_for_tests_and_durable_for_measurements(durable: bool, fsync: str) -> None:
    """A figure taken from a server that may lose what it has committed would be worth nothing."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # PostgreSQL's own Unix user must walk in.
        with postgres.Private(Path(folder), durable=durable) as url, psycopg.connect(url) as connection:
            assert connection.execute("SHOW fsync").fetchone() == (fsync,)
            assert connection.execute("SHOW synchronous_commit").fetchone() == (fsync,)


def test_the_newest_postgres_is_taken(tmp_path: Path) -> None:
    for version in ("9", "15", "14"):
        (tmp_path / version / "bin").mkdir(parents=True)
        (tmp_path / version / "bin" / "pg_ctl").touch()
    assert postgres.programs(tmp_path) == tmp_path / "15" / "bin"
    with pytest.raises(Stop, match="missing"):
        postgres.programs(tmp_path / "none")


def test_bridge_filtering_is_turned_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    switches = [tmp_path / "bridge-nf-call-iptables", tmp_path / "bridge-nf-call-ip6tables"]
    for switch in switches:
        switch.write_text("0\n")
    kernel.ensure(tmp_path)
    assert [switch.read_text() for switch in switches] == ["1\n", "1\n"]
    assert "NOTE" not in capsys.readouterr().out


def test_missing_bridge_filtering_is_said_plainly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kernel.ensure(tmp_path)
    assert "may not hold" in capsys.readouterr().out


def test_an_image_without_its_manifest_is_not_one(places: Places) -> None:
    (places.images / "g-1").mkdir()
    assert not image.built(places, "g-1")
    (places.images / "g-1" / "manifest.json").touch()
    assert image.built(places, "g-1")


def test_a_changed_pin_changes_the_environments_fingerprint(places: Places) -> None:
    (places.checkout / "requirements.txt").write_text("a==1\n")
    (places.checkout / "requirements-dev.txt").write_text("-r requirements.txt\n")
    before = venv.fingerprint(places, "run"), venv.fingerprint(places, "dev")
    (places.checkout / "requirements.txt").write_text("a==2\n")
    after = venv.fingerprint(places, "run"), venv.fingerprint(places, "dev")
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_services_are_restarted_for_new_code_new_settings_or_other_processes(places: Places) -> None:
    code = places.checkout / "portal" / "views.py"
    code.parent.mkdir()
    code.write_text("1")
    (places.env / "web.env").write_text("A=1\n")
    first = services.fingerprint(places, ["web"])
    os.utime(places.env / "web.env", (0, 0))
    assert services.fingerprint(places, ["web"]) == first, "an environment written anew with the same content"
    seen = {first, services.fingerprint(places, ["web", "keeper"])}
    (places.env / "web.env").write_text("A=2\n")
    seen.add(services.fingerprint(places, ["web"]))
    code.write_text("12")
    seen.add(services.fingerprint(places, ["web"]))
    assert len(seen) == 4
