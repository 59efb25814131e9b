"""nginx's configuration: whole, accepted by nginx itself, and closed to values that would break out of it."""

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from deploy.portalctl import proxy
from deploy.portalctl.places import Places
from deploy.portalctl.terminal import Stop
from deploy.portalctl.users import Split
from tests.deploy.conftest import needs_root


def rendered(folder: Path, **changed: str) -> str:
    given = {
        "host": "portal.localhost",
        "portal": "http://portal.localhost:8000",
        "listen": "127.0.0.1:8000",
        "web": f"unix:{folder}/web.sock",
    }
    return proxy.render(**{**given, **changed}, run=folder, identity=folder)


def test_no_name_is_left_open(tmp_path: Path) -> None:
    text = rendered(tmp_path)
    assert "@HOST" not in text
    assert "@RUN" not in text
    assert r"\.portal\.localhost$" in text


def test_only_files_may_be_large(tmp_path: Path) -> None:
    text = rendered(tmp_path)
    assert text.count("client_max_body_size") == 4
    assert text.index("location = /v1/workspace/files {") < text.index("client_max_body_size 1g;")
    for header in (
        "X-Content-SHA256 $http_x_content_sha256",
        "Range $http_range",
        "If-Range $http_if_range",
        "If-Match $http_if_match",
    ):
        assert f"proxy_set_header {header};" in text


def test_only_the_gateway_gets_sockets(tmp_path: Path) -> None:
    """Nothing that a caller writes into Upgrade or Connection is passed on as it is."""
    text = rendered(tmp_path)
    assert '"~*^/gateway/? websocket$" websocket;' in text
    assert "proxy_set_header Upgrade $upgrade;" in text
    assert "proxy_set_header Connection $passed_connection;" in text
    for variable in ("$http_connection", "$connection_upgrade", "$http_sec_websocket_protocol"):
        assert variable not in text
    assert text.count("$http_upgrade") == 1
    assert text.index("location ~ ^/gateway(-api)?(/|$) {") < text.index("proxy_read_timeout 330s;")


def test_an_export_is_not_kept_on_the_proxys_disk(tmp_path: Path) -> None:
    """For people who read slowly, nginx would write up to a gigabyte of each answer of web's into a file."""
    _, _, portal = rendered(tmp_path).partition("server_name portal.localhost;")
    location, _, _ = portal.partition("}")
    assert "proxy_pass http://web;" in location
    assert "proxy_max_temp_file_size 0;" in location


@pytest.mark.parametrize("bad", ["a; return 200", "a b", "a{", 'a"', "", "a\nb"])
def test_a_value_cannot_break_out(tmp_path: Path, bad: str) -> None:
    with pytest.raises(Stop, match="cannot stand in nginx's configuration"):
        rendered(tmp_path, host=bad)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_nginx_takes_it(tmp_path: Path) -> None:
    """But for the certificate, which is not there."""
    (tmp_path / "nginx.conf").write_text(rendered(tmp_path))
    command = ["nginx", "-t", "-e", "stderr", "-p", str(tmp_path), "-c", "nginx.conf"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False).stderr
    assert "client.pem" in said
    assert "unknown" not in said


def test_a_pid_that_is_somebody_elses_is_left_alone(places: Places) -> None:
    (places.run / "proxy" / "own").mkdir(parents=True)
    (places.run / "proxy" / "own" / "nginx.pid").write_text("1\n")
    assert proxy.left_over(places) == []


@needs_root
def test_root_writes_only_where_the_proxy_cannot(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a proxy in an attacker's hands could put a link in the place of what root writes or gives away."""
    monkeypatch.setattr(proxy, "manage", lambda *_: None)
    proxy.ensure(places, Split("nobody", "nobody", "nobody"))
    folder = places.run / "proxy"
    owners = {path.name: path.owner() for path in (folder, *folder.iterdir())}
    assert owners == {"proxy": "root", "identity": "root", "nginx.conf": "root", "own": "nobody"}
    assert {path.group() for path in (folder, folder / "identity", folder / "own")} == {"nogroup"}
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o022 == 0 for path in (folder, folder / "identity"))
