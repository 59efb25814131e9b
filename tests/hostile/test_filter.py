"""The same frames as a hostile guest's, without a machine; and what each rule is for, found by taking it away."""

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from django.conf import settings

from deploy.portalctl import walls
from provisioning.addresses import link
from provisioning.driver import HostSpec, ImageSpec
from provisioning.driver.types import Engine
from provisioning.driver.xml import MAX_PROXY_CONNECTIONS
from tests.driver.support import runtime
from tests.hostile import frames, mutants
from tests.hostile.volley import CONTROL, Evidence, fire
from tests.hostile.where import ATTACKS
from tests.hostile.wire import Wire, wire

pytestmark = [pytest.mark.guest, pytest.mark.timeout(900)]
INDEX = 2000
"""Of the lane's networks one that no runtime of its tests gets to."""
OTHERS = 200
"""Connections that others on this machine may open or end meanwhile."""
GROUP = "bridge group 01:80:c2:00:00:0e"
ALL = {"ARP", "to the proxy and back", "to the agent and back"}


@pytest.fixture(scope="module")
def guest(alone: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Wire]:
    host = HostSpec(
        settings.LIBVIRT_URI, Engine.QEMU, settings.FLEET_ID, str(tmp_path_factory.mktemp("pool"))
    )
    ends = link(INDEX)
    spec = replace(
        runtime(ImageSpec("none", "/nonexistent", {}, "")),
        network_index=INDEX,
        host_address=ends.host_address,
        guest_address=ends.guest_address,
    )
    with wire(host, spec) as made:
        yield made


@pytest.fixture(scope="module")
def evidence(guest: Wire) -> Evidence:
    guest.passes()  # so that the bridge knows the guest, as it should
    return fire(guest)


def test_what_should_pass_does(guest: Wire, evidence: Evidence) -> None:
    assert guest.passes() == ALL
    assert evidence.seen[CONTROL] == {evidence.left, evidence.bridge, "host IPv4 6"}


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_arrives(evidence: Evidence, name: str) -> None:
    assert evidence.left in evidence.seen[name]
    assert evidence.arrived(name) == set()


def test_the_host_has_learned_nothing(evidence: Evidence) -> None:
    assert evidence.before == evidence.after


@pytest.mark.parametrize("piece", mutants.PIECES)
def test_each_piece_of_the_filter_is_needed(guest: Wire, piece: str) -> None:
    """Taken away on the living wire: what should pass no longer does, or what should not does."""
    host, spec = guest.driver.host, guest.spec
    with mutants.filter_is(host, spec, mutants.without_piece(host, spec, piece)):
        changed = {f"no longer: {name}" for name in ALL - guest.passes()} or fire(guest).escaped()
    print(f"\nwithout {piece}: {len(changed)}: {sorted(changed)[:3]}")  # noqa: T201 - the table of mutations
    assert bool(changed) is (piece not in mutants.TWICE)
    assert guest.passes() == ALL


def test_without_the_walls_a_group_address_is_heard(guest: Wire) -> None:
    with mutants.walls_are(mutants.without(walls.RULES.read_text(), "drop")):
        found = fire(guest, [GROUP])
    print(f"\nwithout the walls: {sorted(found.arrived(GROUP))}")  # noqa: T201 - the table of mutations
    assert {"host IPv4 17", "host IPv6 58"} <= found.arrived(GROUP)
    assert found.before != found.after


def _reassembling() -> int:
    """Packets of which the host's kernel keeps a part, waiting for the rest."""
    return int(Path("/proc/net/sockstat").read_text().partition("FRAG: inuse ")[2].split()[0])


def test_fragments_do_not_fill_the_hosts_memory(guest: Wire) -> None:
    """The filter lets the first of them pass, by its port; only the walls keep it from waiting here for its rest."""
    where = guest.where()
    first = frames.tcp(where.address, where.host, (40001, where.proxy_port), frames.SYN, b"F" * 12)

    def waiting() -> int:
        before = _reassembling()
        for number in range(20):
            packet = where.packet(where.host, 6, first, fragment=frames.MORE_FRAGMENTS, identity=number)
            guest.send([packet])
        return _reassembling() - before

    with mutants.walls_are(mutants.without(walls.RULES.read_text(), "frag-off")):
        assert waiting() > 10
    assert waiting() <= 0


def test_a_guest_does_not_fill_the_hosts_table_of_connections(guest: Wire) -> None:
    """Half-open connections to the proxy, with nothing but the filter's own limit in their way."""
    host, spec = guest.driver.host, guest.spec
    open_ended = mutants.without(walls.RULES.read_text(), "@callers")
    with (
        socket.create_server((spec.host_address, spec.egress_port), backlog=4096),
        mutants.walls_are(open_ended),
    ):
        assert _called(guest, 10000) < MAX_PROXY_CONNECTIONS + OTHERS
        with mutants.filter_is(host, spec, mutants.without_piece(host, spec, "drop out tcp dst 3128 crowd")):
            assert _called(guest, 20000) > MAX_PROXY_CONNECTIONS + OTHERS


def _called(guest: Wire, first: int) -> int:
    """How many of 1,500 connections the host's table has taken up beside those before."""
    where, before = guest.where(), _connections()
    for port in range(first, first + 1500):
        guest.send([where.segment(where.host, (port, where.proxy_port), b"")])
    return _connections() - before


def _connections() -> int:
    return int(Path("/proc/sys/net/netfilter/nf_conntrack_count").read_text())


def test_every_piece_is_in_the_table(guest: Wire) -> None:
    """A new rule is attacked too, or this fails."""
    assert mutants.pieces(guest.driver.host, guest.spec) == list(mutants.PIECES)
