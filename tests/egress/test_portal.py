"""From a row to a packet and back: the portal's services and workers, a real storage pool of libvirt's, the real
keeper and Squid, and guests in namespaces. No machine runs.
"""

import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.contrib.auth.models import User

from audit.context import Actor, command
from provisioning.egress import collecting, delivery
from provisioning.egress.delivery import NotInForce
from provisioning.fleet import audit_fleet
from provisioning.models import EgressRecord, Host, Runtime
from provisioning.purge import purge
from provisioning.selectors import egress_in_force
from provisioning.specs import host_spec
from provisioning.tasks import egress_apply
from tenants.models import Membership, Tenant
from tenants.services import connector_allow, connector_disable, connector_enable, membership_add
from tests.egress.world import (
    ALICE,
    API,
    BOB,
    EVIL,
    FLEET,
    Guest,
    KeeperProcess,
    World,
    connect,
    fetch,
    wait_for,
)

pytestmark = [pytest.mark.guest, pytest.mark.django_db(transaction=True)]
TESTER = command("test")


@pytest.fixture
def keeper(make_keeper: Callable[..., KeeperProcess]) -> KeeperProcess:
    made = make_keeper()
    made.start()
    return made


@pytest.fixture
def host(
    keeper: KeeperProcess, make_host: Callable[..., Host], settings: Any, real_engine: str
) -> Iterator[Host]:
    """The world's host, reached through this machine's libvirt."""
    settings.FLEET_ID, settings.NETWORK_POOL = FLEET, "10.99.0.0/16"
    host = make_host(
        name="world", uri=django_settings.LIBVIRT_URI, engine=real_engine, egress_path=str(keeper.folder)
    )
    yield host
    purge(host_spec(host))


@pytest.fixture
def place(
    host: Host, make_tenant: Callable[..., Tenant], make_user: Callable[..., User], image: Any
) -> Callable[[Guest], Runtime]:
    """A tenant with an owner, and a runtime whose link is that guest's."""

    def make(guest: Guest) -> Runtime:
        tenant = make_tenant(f"tenant-{guest.letter}")
        owner = make_user(f"owner-{guest.letter}")
        membership_add(actor=TESTER, tenant=tenant, user=owner, role=Membership.Role.OWNER)
        connector_allow(actor=TESTER, tenant=tenant, connector="github")
        return Runtime.objects.create(
            tenant=tenant,
            host=host,
            image=image,
            egress=True,
            phase="ready",
            vcpus=1,
            cpu_percent=100,
            memory_mib=64,
            disk_gib=1,
            network_index=guest.number,
            mac=f"52:54:00:00:00:{guest.number:02x}",
        )

    return make


def switch(runtime: Runtime, service: Callable[..., Any]) -> float:
    """What an owner does, and the task that it wakes; returns the seconds until the proxy follows."""
    owner = Membership.objects.get(tenant=runtime.tenant, role=Membership.Role.OWNER).user
    began = time.monotonic()
    service(actor=Actor.of(owner), tenant=runtime.tenant, connector="github")
    egress_apply(str(runtime.host_id))
    assert egress_in_force(runtime.tenant_id) is not None
    return time.monotonic() - began


def test_a_connector_reaches_the_proxy_within_five_seconds(
    world: World, place: Callable[[Guest], Runtime]
) -> None:
    """On, and off again; the neighbour's way stays as it is."""
    alice, bob = place(ALICE), place(BOB)
    took = [switch(alice, connector_enable)]
    assert fetch(world, ALICE, API) == b"hello\n"
    assert connect(world, BOB, f"{API}:443").status == 403
    took.append(switch(bob, connector_enable))
    took.append(switch(alice, connector_disable))
    assert connect(world, ALICE, f"{API}:443").status == 403
    assert fetch(world, BOB, API) == b"hello\n"
    assert max(took) < 5, took
    assert audit_fleet() == []


def test_what_is_taken_away_ends_open_connections_and_the_neighbours_stay(
    world: World, place: Callable[[Guest], Runtime]
) -> None:
    """A tunnel that stood while it was allowed does not outlive that."""
    alice, bob = place(ALICE), place(BOB)
    switch(alice, connector_enable)
    switch(bob, connector_enable)
    hers = connect(world, ALICE, f"{API}:443").tls(world, API)
    his = connect(world, BOB, f"{API}:443").tls(world, API)
    switch(alice, connector_disable)
    hers.settimeout(10)
    with pytest.raises(OSError):
        for _ in range(50):
            hers.sendall(b"GET /")
            assert hers.recv(1) != b"", "closed"
            time.sleep(0.05)
        raise AssertionError("it is still open")
    his.sendall(f"GET / HTTP/1.1\r\nHost: {API}\r\n\r\n".encode())
    assert his.recv(100).startswith(b"HTTP/1.1 200")


def test_attempts_become_their_tenants_rows(
    world: World, host: Host, keeper: KeeperProcess, place: Callable[[Guest], Runtime]
) -> None:
    """What stood and what was refused, each once, with bytes, and with the reason."""
    alice, bob = place(ALICE), place(BOB)
    switch(alice, connector_enable)
    fetch(world, ALICE, API)
    connect(world, ALICE, f"{EVIL}:443")
    connect(world, BOB, f"{API}:443")
    wait_for("three records", lambda: len(keeper.records()) >= 3)
    for _ in range(2):
        collecting.collect(host)
    rows = {
        (row.tenant_id, row.host, row.verdict, row.reason): row.attempts for row in EgressRecord.objects.all()
    }
    assert rows == {
        (alice.tenant_id, API, "allowed", ""): 1,
        (alice.tenant_id, EVIL, "refused", "name"): 1,
        (bob.tenant_id, API, "refused", "name"): 1,
    }
    stood = EgressRecord.objects.get(verdict="allowed")
    assert stood.bytes_up > 300
    assert stood.bytes_down > 500


def test_packets_past_the_proxy_are_the_guests_own(
    world: World, host: Host, keeper: KeeperProcess, place: Callable[[Guest], Runtime]
) -> None:
    """Counted for the one who sent them."""
    alice, bob = place(ALICE), place(BOB)
    switch(alice, connector_enable)
    line = world.socket("b", kind=socket.SOCK_DGRAM)
    for _ in range(5):
        line.sendto(b"direct", ("198.51.100.10", 9))

    def counted() -> int:
        collecting.collect(host)
        bob.refresh_from_db()
        return bob.direct_packets

    assert wait_for("the packets are counted", counted) == 5
    alice.refresh_from_db()
    assert alice.direct_packets == 0


def test_without_its_keeper_a_host_says_so_and_nothing_gets_out(
    world: World, host: Host, keeper: KeeperProcess, place: Callable[[Guest], Runtime]
) -> None:
    """The change waits for the keeper, and is in force once it is back."""
    alice = place(ALICE)
    switch(alice, connector_enable)
    keeper.stop()
    owner = Membership.objects.get(tenant=alice.tenant).user
    connector_disable(actor=Actor.of(owner), tenant=alice.tenant, connector="github")
    with pytest.raises(NotInForce, match="See that it runs"):
        delivery.apply(host.pk, seconds=0.5)
    with pytest.raises(OSError):
        connect(world, ALICE, f"{API}:443")
    assert egress_in_force(alice.tenant_id) is None
    keeper.start()
    delivery.apply(host.pk)
    assert egress_in_force(alice.tenant_id) is not None
    assert connect(world, ALICE, f"{API}:443").status == 403


def test_a_fleet_that_is_purged_is_served_no_more(
    world: World, host: Host, keeper: KeeperProcess, place: Callable[[Guest], Runtime]
) -> None:
    """With no database to ask; a second time there is nothing left to do."""
    switch(place(ALICE), connector_enable)
    purge(host_spec(host))
    wait_for("nobody is served", lambda: keeper.state()["serving"] == [])
    with pytest.raises(OSError):
        connect(world, ALICE, f"{API}:443")
    purge(host_spec(host))
    assert list(keeper.folder.glob("rules-*")) == []
