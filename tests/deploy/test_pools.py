"""A pool of addresses that this machine does not use: what another installation left is stepped around."""

from ipaddress import IPv4Network
from pathlib import Path

import pytest

from deploy.portalctl import pools
from deploy.portalctl.terminal import Stop

HEAD = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
DEFAULT = "eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
LEFT_OVER = "rtabcde-0000\t0000530A\t00000000\t0001\t0\t0\t0\tFCFFFFFF\t0\t0\t0\n"
"""10.83.0.0/30 on a bridge that nobody removed."""


@pytest.fixture
def routes(tmp_path: Path) -> Path:
    path = tmp_path / "route"
    path.write_text(HEAD + DEFAULT)
    return path


def test_the_kernels_table_is_read() -> None:
    """Least significant byte first; the default route is everybody's and excludes nothing."""
    assert pools.in_use(HEAD + DEFAULT + LEFT_OVER) == [IPv4Network("10.83.0.0/30")]


def test_a_bare_machine_gives_the_default(routes: Path) -> None:
    assert pools.free(routes=routes) == "10.83.0.0/16"


def test_a_network_in_use_is_stepped_over(routes: Path) -> None:
    """What failed: a bridge left by a killed run made libvirt refuse the next run's network."""
    routes.write_text(HEAD + DEFAULT + LEFT_OVER)
    assert pools.free(routes=routes) == "10.84.0.0/16"


def test_a_wider_route_counts_too(routes: Path) -> None:
    """A company's own 10.0.0.0/8 leaves nothing, and the message says what to do."""
    routes.write_text(HEAD + DEFAULT + "eth0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n")
    with pytest.raises(Stop) as stopped:
        pools.free(routes=routes)
    assert "PORTAL_NETWORK_POOL" in str(stopped.value.todo)


def test_an_installation_keeps_its_pool(
    tmp_path: Path, routes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guests' addresses follow from it, and its own bridges are in the table from then on."""
    monkeypatch.delenv("PORTAL_NETWORK_POOL", raising=False)
    first = pools.kept(tmp_path, routes)
    routes.write_text(HEAD + DEFAULT + LEFT_OVER)
    assert pools.kept(tmp_path, routes) == first == "10.83.0.0/16"


def test_an_installation_from_before_keeps_the_default(
    tmp_path: Path, routes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own guests are what uses the default."""
    monkeypatch.delenv("PORTAL_NETWORK_POOL", raising=False)
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "manage.env").touch()
    routes.write_text(HEAD + DEFAULT + LEFT_OVER)
    assert pools.kept(tmp_path, routes) == "10.83.0.0/16"


def test_the_operators_choice_wins(tmp_path: Path, routes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORTAL_NETWORK_POOL", "172.20.0.0/16")
    assert pools.kept(tmp_path, routes) == "172.20.0.0/16"


def test_runs_side_by_side_look_in_different_places(routes: Path) -> None:
    """Neither has a bridge yet when it chooses. None takes the running portal's."""
    chosen = {pools.passing(f"fleet{n}", routes) for n in range(20)}
    assert len(chosen) > 15
    assert "10.83.0.0/16" not in chosen
