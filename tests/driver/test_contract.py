"""What every driver promises, on the simulated engine and on real machines alike."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import libvirt
import pytest

from provisioning.driver import (
    Conflict,
    LibvirtDriver,
    NoSpace,
    Power,
    RuntimeSpec,
    egress,
    looks,
    machines,
    naming,
    xml,
)
from provisioning.driver.likeness import differences
from provisioning.driver.marks import same_rules
from tests.driver.support import (
    EMPTY,
    ENSURES,
    PAPERS,
    PASSPHRASE,
    REMOVES,
    build,
    change,
    open_driver,
    remove,
    set_aside,
    whole,
)
from tests.races import at_once


def test_every_ensure_changes_once_and_every_remove_changes_once(
    driver: LibvirtDriver, spec: RuntimeSpec
) -> None:
    """Twice forward, twice back: the second time does nothing, and nothing is left."""
    assert driver.inventory() == EMPTY
    assert build(driver, spec) == dict.fromkeys(ENSURES, True)
    assert build(driver, spec) == dict.fromkeys(ENSURES, False)
    assert driver.inventory() == whole(spec.runtime_id)
    assert driver.power(spec.runtime_id) is Power.RUNNING
    assert remove(driver, spec) == dict.fromkeys(REMOVES, True)
    assert driver.power(spec.runtime_id) is Power.ABSENT
    assert remove(driver, spec) == dict.fromkeys(REMOVES, False)
    assert driver.inventory() == EMPTY


def test_power_goes_up_and_down(driver: LibvirtDriver, spec: RuntimeSpec) -> None:
    """The guest obeys the power button; cutting the power works; both tolerate a machine that is off."""
    build(driver, spec)
    assert driver.powers() == {spec.runtime_id: Power.RUNNING}
    assert driver.shutdown(spec.runtime_id, 20)
    assert driver.powers() == {spec.runtime_id: Power.OFF}
    assert driver.shutdown(spec.runtime_id, 1)
    assert driver.request_shutdown(spec.runtime_id) is False
    assert driver.start(spec) is True
    assert driver.destroy(spec.runtime_id) is True
    assert driver.destroy(spec.runtime_id) is False
    assert driver.power(spec.runtime_id) is Power.OFF


def test_a_running_machine_keeps_what_it_stands_on(driver: LibvirtDriver, spec: RuntimeSpec) -> None:
    """Machine, volume, network and filter are not taken from under a running guest."""
    build(driver, spec)
    for take in (driver.remove_domain, driver.remove_volume, driver.remove_network, driver.remove_filter):
        with pytest.raises(Conflict, match="runs"):
            take(spec.runtime_id)
    assert driver.inventory() == whole(spec.runtime_id)


def test_a_paused_machine_is_not_started(driver: LibvirtDriver, spec: RuntimeSpec) -> None:
    build(driver, spec)
    _raw(driver).lookupByUUIDString(str(spec.runtime_id)).suspend()
    assert driver.power(spec.runtime_id) is Power.PAUSED
    with pytest.raises(Conflict, match="paused"):
        driver.start(spec)


def test_a_network_of_another_form_is_made_anew_while_its_machine_is_off(
    driver: LibvirtDriver, spec: RuntimeSpec
) -> None:
    """As it is now and as it is defined; a running machine keeps what it stands on."""
    build(driver, spec)
    driver.destroy(spec.runtime_id)
    wanted = xml.network(driver.host, spec)
    network = _raw(driver).networkLookupByName(naming.network_name(driver.host.fleet, spec.runtime_id))
    network.destroy()
    _raw(driver).networkDefineXML(wanted.replace('stp="off"', 'stp="on"')).create()
    driver.start(spec)
    assert driver.ensure_network(spec) is False
    assert differences(wanted, driver.show(spec.runtime_id).network or "")
    driver.destroy(spec.runtime_id)
    assert driver.ensure_network(spec) is True
    shown = driver.show(spec.runtime_id)
    assert shown.network_active
    assert differences(wanted, shown.network or "") == []
    assert differences(wanted, shown.network_defined or "") == []


def test_a_machine_that_goes_off_during_a_look_is_looked_at_again(
    driver: LibvirtDriver, spec: RuntimeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never seen up, yet without what a running machine has."""
    build(driver, spec)
    bindings, went_off = looks._bindings, []

    def after_it_went_off(conn: Any, runtime_id: UUID) -> Any:
        went_off.append(driver.destroy(runtime_id))
        return bindings(conn, runtime_id)

    monkeypatch.setattr(looks, "_bindings", after_it_went_off)
    shown = driver.show(spec.runtime_id)
    assert (shown.power, shown.live is None, shown.bindings or ()) == (Power.OFF, True, ())
    assert went_off == [True, False]


def test_a_machine_that_is_never_still_is_looked_at_a_few_times(
    driver: LibvirtDriver, spec: RuntimeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Off and on again between two looks is another run; whoever keeps that up is seen all the same."""
    build(driver, spec)
    looked: list[bool] = []

    def after_a_new_start(_conn: Any, runtime_id: UUID) -> None:
        looked.append(driver.destroy(runtime_id) and driver.start(spec))

    monkeypatch.setattr(looks, "_bindings", after_a_new_start)
    assert driver.show(spec.runtime_id).live is not None
    assert looked == [True] * 3


def test_what_is_set_aside_is_paused_unplugged_and_can_be_made_anew(
    driver: LibvirtDriver, spec: RuntimeSpec
) -> None:
    """Twice does no more than once; a machine that is not there is left alone."""
    assert set_aside(driver, spec) == {"suspend": False, "cut": False}
    build(driver, spec)
    assert set_aside(driver, spec) == {"suspend": True, "cut": True}
    assert set_aside(driver, spec) == {"suspend": False, "cut": False}
    assert driver.power(spec.runtime_id) is Power.PAUSED
    assert driver.destroy(spec.runtime_id) is True
    assert driver.ensure_domain(spec) is True
    assert driver.start(spec) is True
    assert driver.power(spec.runtime_id) is Power.RUNNING


def test_what_is_shown_of_a_runtime_is_what_was_asked_for(driver: LibvirtDriver, spec: RuntimeSpec) -> None:
    """Running and off; and nothing of one that is not there."""
    assert driver.show(spec.runtime_id).power is Power.ABSENT
    build(driver, spec)
    shown, host = driver.show(spec.runtime_id), driver.host
    bridge = naming.bridge_name(host.fleet, spec.network_index)
    for machine in (shown.live, shown.defined):
        assert machine is not None
        assert differences(xml.domain(host, spec), machine, bridge=bridge) == []
    for network in (shown.network, shown.network_defined):
        assert network is not None
        assert differences(xml.network(host, spec), network) == []
    assert shown.filter is not None
    assert same_rules(xml.packet_filter(host, spec), shown.filter)
    assert (shown.power, shown.autostart, shown.taints) == (Power.RUNNING, False, ())
    assert (shown.network_active, shown.network_autostart) == (True, True)
    driver.destroy(spec.runtime_id)
    assert driver.show(spec.runtime_id).live is None
    assert driver.show(spec.runtime_id).defined is not None


def test_a_machine_that_others_changed_is_defined_anew(driver: LibvirtDriver, spec: RuntimeSpec) -> None:
    """Though it still carries the mark of our wish."""
    build(driver, spec)
    driver.destroy(spec.runtime_id)
    path = "<source file='/etc/hostname'/><target dev='vdc' bus='virtio'/><readonly/>"
    disk = f"<disk type='file' device='disk'><driver name='qemu' type='raw'/>{path}</disk>"
    defined = driver.show(spec.runtime_id).defined
    assert defined is not None
    _raw(driver).defineXML(defined.replace("<controller", f"{disk}<controller", 1))
    assert "/etc/hostname" in (driver.show(spec.runtime_id).defined or "")
    assert driver.ensure_domain(spec) is True
    assert "/etc/hostname" not in (driver.show(spec.runtime_id).defined or "")


def test_who_uses_what_is_told(driver: LibvirtDriver, spec: RuntimeSpec) -> None:
    build(driver, spec)
    (user,) = [each for each in driver.users() if str(spec.runtime_id) in each.name]
    assert user.running
    assert user.networks == {naming.network_name(driver.host.fleet, spec.runtime_id)}
    assert f"{driver.host.pool_path}/{naming.volume_name(spec.runtime_id)}" in user.files


def test_starting_what_is_not_defined_says_what_to_do(driver: LibvirtDriver, spec: RuntimeSpec) -> None:
    with pytest.raises(Conflict, match="Run ensure_domain first"):
        driver.start(spec)


def test_a_changed_wish_defines_the_machine_anew(driver: LibvirtDriver, spec: RuntimeSpec) -> None:
    build(driver, spec)
    driver.destroy(spec.runtime_id)
    assert driver.ensure_domain(replace(spec, memory_mib=128)) is True
    assert driver.ensure_domain(replace(spec, memory_mib=128)) is False
    assert _raw(driver).lookupByUUIDString(str(spec.runtime_id)).maxMemory() == 128 * 1024


def test_a_running_machine_gets_other_caps_and_a_larger_disk(
    driver: LibvirtDriver, spec: RuntimeSpec
) -> None:
    """Once; the second time there is nothing to do. The first definition is as it was: that is another call."""
    build(driver, spec)
    assert driver.volume_gib(spec.runtime_id) == 1
    assert change(driver, spec) == [True, True]
    assert change(driver, spec) == [False, False]
    assert driver.volume_gib(spec.runtime_id) == 2
    assert driver.power(spec.runtime_id) is Power.RUNNING
    assert driver.ensure_domain(spec) is False


def test_a_volume_never_shrinks(driver: LibvirtDriver, spec: RuntimeSpec) -> None:
    """QEMU would do it without asking, and cut the files off."""
    build(driver, spec)
    change(driver, spec)
    assert driver.grow_volume(spec) is False
    assert driver.volume_gib(spec.runtime_id) == 2


def test_a_machine_that_is_off_is_not_changed(driver: LibvirtDriver, spec: RuntimeSpec) -> None:
    build(driver, spec)
    driver.destroy(spec.runtime_id)
    for call in (driver.tune, driver.grow_volume):
        with pytest.raises(Conflict, match="does not run"):
            call(replace(spec, disk_gib=2))
    assert driver.volume_gib(spec.runtime_id) == 1


def test_a_disk_grows_no_further_than_its_host(driver: LibvirtDriver, spec: RuntimeSpec) -> None:
    build(driver, spec)
    with pytest.raises(NoSpace, match="may grow to"):
        driver.grow_volume(replace(spec, disk_gib=900_000))
    driver.destroy(spec.runtime_id)


def test_a_volume_that_is_not_there_has_no_size(driver: LibvirtDriver, spec: RuntimeSpec) -> None:
    assert driver.volume_gib(spec.runtime_id) is None
    driver.ensure_pool()
    assert driver.volume_gib(spec.runtime_id) is None


def test_workers_who_are_the_first_on_a_host_at_once(driver: LibvirtDriver) -> None:
    """The first tenants of a new host may be created side by side: no worker is in another's way."""

    def first() -> None:
        with open_driver(driver.host) as mine:
            mine.ensure_pool()
            egress.ensure_pool(mine._conn, mine.host)

    for _ in range(5):
        at_once([first] * 4)
        driver.egress_remove()
        driver.remove_pool()


@pytest.mark.parametrize("payload", [PAPERS + b"more", PAPERS.swapcase(), b"x" * 700_000])
def test_new_papers_replace_the_old(driver: LibvirtDriver, spec: RuntimeSpec, payload: bytes) -> None:
    """Longer, of the same length, and longer than one packet."""
    driver.ensure_pool()
    assert driver.ensure_personalisation(spec, PAPERS) is True
    assert driver.ensure_personalisation(spec, payload) is True
    assert driver.ensure_personalisation(spec, payload) is False


def test_a_changed_port_changes_the_filter(driver: LibvirtDriver, spec: RuntimeSpec) -> None:
    driver.ensure_pool()
    assert driver.ensure_filter(spec) is True
    assert driver.ensure_filter(replace(spec, agent_port=9443)) is True
    assert driver.ensure_filter(replace(spec, agent_port=9443)) is False


def test_capacity_counts_the_fleets_disk(driver: LibvirtDriver, spec: RuntimeSpec) -> None:
    assert driver.capacity().disk_gib == 0
    driver.ensure_pool()
    capacity = driver.capacity()
    assert min(capacity.vcpus, capacity.disk_gib) >= 1
    assert capacity.memory_mib >= 512


def test_a_volume_larger_than_the_disk_is_refused(driver: LibvirtDriver, spec: RuntimeSpec) -> None:
    driver.ensure_pool()
    driver.ensure_secret(spec, PASSPHRASE)
    with pytest.raises(NoSpace, match="may grow to 900000 GiB"):
        driver.ensure_volume(replace(spec, disk_gib=900_000))
    assert driver.inventory().volumes == frozenset()


def test_a_volume_of_another_size_is_a_conflict_and_kept(driver: LibvirtDriver, spec: RuntimeSpec) -> None:
    driver.ensure_pool()
    driver.ensure_secret(spec, PASSPHRASE)
    driver.ensure_volume(spec)
    with pytest.raises(Conflict, match="may hold data"):
        driver.ensure_volume(replace(spec, disk_gib=2))
    assert driver.inventory().volumes == {spec.runtime_id}


def test_without_a_pool_the_volume_says_what_to_do(driver: LibvirtDriver, spec: RuntimeSpec) -> None:
    with pytest.raises(Conflict, match="Run ensure_pool first"):
        driver.ensure_volume(spec)
    assert driver.remove_volume(spec.runtime_id) is False


def test_a_pool_elsewhere_is_a_conflict(driver: LibvirtDriver) -> None:
    driver.ensure_pool()
    elsewhere = replace(driver.host, pool_path=driver.host.pool_path + "-2")
    with open_driver(elsewhere) as other, pytest.raises(Conflict, match="Correct the host's entry"):
        other.ensure_pool()


def test_a_pool_with_a_runtimes_volume_is_kept(driver: LibvirtDriver, spec: RuntimeSpec) -> None:
    driver.ensure_pool()
    driver.ensure_secret(spec, PASSPHRASE)
    driver.ensure_volume(spec)
    with pytest.raises(Conflict, match="still holds"):
        driver.remove_pool()


def test_another_fleets_machine_is_neither_listed_nor_touched(
    driver: LibvirtDriver, spec: RuntimeSpec
) -> None:
    """The same runtime id under another fleet: every call on it refuses."""
    build(driver, spec)
    with open_driver(replace(driver.host, fleet="dtother")) as other:
        assert other.inventory().domains == frozenset()
        assert other.powers() == {}
        for call in (
            other.power,
            other.destroy,
            other.remove_domain,
            other.request_shutdown,
            other.remove_volume,
        ):
            with pytest.raises(Conflict, match="does not carry this fleet's mark"):
                call(spec.runtime_id)
        with pytest.raises(Conflict):
            other.ensure_domain(spec)
    assert driver.power(spec.runtime_id) is Power.RUNNING


def test_a_machine_that_is_removed_while_we_list(driver: LibvirtDriver, spec: RuntimeSpec) -> None:
    """Another worker, or another fleet's, undefines one between our list and our look at it."""
    driver.ensure_pool()
    for step in ("secret", "volume", "personalisation", "network", "filter", "domain"):
        ENSURES[step](driver, spec)

    class Removing:
        """The connection, but what it lists is gone when the list arrives."""

        def __getattr__(self, name: str) -> Any:
            return getattr(driver._conn, name)

        def listAllDomains(self, flags: int) -> Any:
            domains = driver._conn.listAllDomains(flags)
            driver.remove_domain(spec.runtime_id)
            return domains

    ours, unknown = machines.listed(Removing(), driver.host)
    assert spec.runtime_id not in ours
    assert f"rt-{spec.runtime_id}" not in unknown


def test_a_machine_without_a_mark_is_reported_by_name(driver: LibvirtDriver, spec: RuntimeSpec) -> None:
    kind = driver.host.engine.value
    foreign = _raw(driver).defineXML(
        f"<domain type='{kind}'><name>rt-{spec.runtime_id}</name><memory>65536</memory>"
        "<os><type arch='x86_64'>hvm</type></os></domain>"
    )
    try:
        assert driver.inventory().unknown_domains >= {f"rt-{spec.runtime_id}"}
        with pytest.raises(Conflict):
            driver.ensure_domain(spec)
    finally:
        foreign.undefine()


def test_another_mac_is_a_conflict(driver: LibvirtDriver, spec: RuntimeSpec) -> None:
    build(driver, spec)
    with pytest.raises(Conflict, match="has the MAC"):
        driver.ensure_domain(replace(spec, mac="52:54:00:00:00:01"))


@pytest.mark.parametrize(
    ("change", "named"), [({"network_index": 9}, "bridge"), ({"host_address": "10.215.7.253"}, "ip")]
)
def test_another_bridge_or_address_is_a_conflict(
    driver: LibvirtDriver, spec: RuntimeSpec, change: dict[str, object], named: str
) -> None:
    driver.ensure_network(spec)
    with pytest.raises(Conflict, match=named):
        driver.ensure_network(replace(spec, **change))  # type: ignore[arg-type]


def test_a_network_that_was_stopped_is_started_again(driver: LibvirtDriver, spec: RuntimeSpec) -> None:
    driver.ensure_network(spec)
    network = next(each for each in _raw(driver).listAllNetworks() if str(spec.runtime_id) in each.name())
    network.destroy()
    network.setAutostart(0)
    assert driver.ensure_network(spec) is True
    assert network.isActive()
    assert network.autostart()


def _raw(driver: LibvirtDriver) -> libvirt.virConnect:
    return driver._conn
