"""Real QEMU, real LUKS, real bridge and filter: what the simulated engine cannot show."""

import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest

from provisioning.driver import Conflict, LibvirtDriver, NoSpace, RuntimeSpec, naming
from provisioning.driver.probe import probe_host
from provisioning.driver.types import Engine
from tests.driver.support import PAPERS, PASSPHRASE, build, change

pytestmark = pytest.mark.guest


def test_neither_passphrase_nor_papers_are_on_qemus_command_line(
    real: LibvirtDriver, spec: RuntimeSpec
) -> None:
    build(real, spec)
    command = _command_line(spec)
    assert naming.personalisation_name(spec.runtime_id).encode() in command, "the papers come by file"
    assert PASSPHRASE.encode() not in command
    assert b"d1ce5ca1ab1e" not in command


def test_the_volume_is_luks_and_holds_nothing_in_the_clear(real: LibvirtDriver, spec: RuntimeSpec) -> None:
    build(real, spec)
    volume = Path(real.host.pool_path) / naming.volume_name(spec.runtime_id)
    information = subprocess.run(
        ["qemu-img", "info", "--force-share", volume], check=True, capture_output=True, text=True
    ).stdout
    assert "file format: qcow2" in information
    assert "format: luks" in information
    assert PASSPHRASE.encode() not in volume.read_bytes()


def test_only_its_owner_reads_the_papers(real: LibvirtDriver, spec: RuntimeSpec) -> None:
    build(real, spec)
    papers = Path(real.host.pool_path) / naming.personalisation_name(spec.runtime_id)
    assert stat.S_IMODE(papers.stat().st_mode) == 0o600
    assert papers.read_bytes() == PAPERS


def test_the_shared_system_disk_is_not_given_to_qemus_user(real: LibvirtDriver, spec: RuntimeSpec) -> None:
    """All tenants boot from it; one QEMU that broke out must not be able to change it."""
    before = (Path(spec.image.directory) / "root.img").stat().st_uid
    build(real, spec)
    assert (Path(spec.image.directory) / "root.img").stat().st_uid == before


def test_the_papers_can_be_replaced_while_the_guest_runs(real: LibvirtDriver, spec: RuntimeSpec) -> None:
    """The one-time secret goes away once it is spent."""
    build(real, spec)
    assert real.ensure_personalisation(spec, b"{}") is True
    papers = Path(real.host.pool_path) / naming.personalisation_name(spec.runtime_id)
    assert papers.read_bytes() == b"{}"
    real.destroy(spec.runtime_id)
    assert real.start(spec) is True


def test_without_the_passphrase_the_machine_does_not_start(real: LibvirtDriver, spec: RuntimeSpec) -> None:
    build(real, spec)
    real.destroy(spec.runtime_id)
    real.remove_secret(spec.runtime_id)
    with pytest.raises(Exception, match="ecret"):
        real.start(spec)


def test_with_another_passphrase_the_machine_does_not_start(real: LibvirtDriver, spec: RuntimeSpec) -> None:
    build(real, spec)
    real.destroy(spec.runtime_id)
    real.ensure_secret(spec, "wrong")
    with pytest.raises(Exception, match="starting the machine"):
        real.start(spec)


def test_the_bridge_is_there_and_serves_nothing(real: LibvirtDriver, spec: RuntimeSpec) -> None:
    real.ensure_network(spec)
    bridge = naming.bridge_name(real.host.fleet, spec.network_index)
    shown = subprocess.run(["ip", "addr", "show", bridge], check=True, capture_output=True, text=True).stdout
    assert f"{spec.host_address}/30" in shown
    assert "inet6" not in shown
    assert b"dnsmasq" not in b"".join(_command_lines())


def test_the_filter_reaches_the_kernel(real: LibvirtDriver, spec: RuntimeSpec) -> None:
    """Ethernet rules for the guest's own MAC, and a connection rule for its port."""
    build(real, spec)
    ethernet = subprocess.run(
        ["ebtables", "-t", "nat", "-L"], check=True, capture_output=True, text=True
    ).stdout
    assert spec.mac in ethernet.lower()
    assert spec.guest_address in ethernet
    connections = subprocess.run(["iptables", "-S"], check=True, capture_output=True, text=True).stdout
    assert f"--dport {spec.agent_port}" in connections


def test_the_rest_of_an_attempt_that_died_is_made_anew(real: LibvirtDriver, spec: RuntimeSpec) -> None:
    """A qcow2 of the right size without its encryption header: what a host's crash can leave."""
    real.ensure_pool()
    real.ensure_secret(spec, PASSPHRASE)
    volume = Path(real.host.pool_path) / naming.volume_name(spec.runtime_id)
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", volume, "1G"], check=True)
    real._conn.storagePoolLookupByName(naming.pool_name(real.host.fleet)).refresh()
    assert real.ensure_volume(spec) is True
    assert real.ensure_volume(spec) is False


def test_a_file_that_may_hold_data_is_kept(real: LibvirtDriver, spec: RuntimeSpec) -> None:
    real.ensure_pool()
    real.ensure_secret(spec, PASSPHRASE)
    volume = Path(real.host.pool_path) / naming.volume_name(spec.runtime_id)
    volume.write_bytes(b"tenant's" * 4 * 1024**2)
    real._conn.storagePoolLookupByName(naming.pool_name(real.host.fleet)).refresh()
    with pytest.raises(Conflict, match="may hold data"):
        real.ensure_volume(spec)
    assert volume.exists()


def test_a_full_disk_is_told_so(real: LibvirtDriver, spec: RuntimeSpec) -> None:
    """A pool on a file system of 1 MiB."""
    pool = Path(real.host.pool_path)
    pool.mkdir(mode=0o711)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=711", "none", pool], check=True)
    try:
        real.ensure_pool()
        with pytest.raises(NoSpace, match="Free space"):
            real.ensure_volume(spec)
        with pytest.raises(NoSpace, match="disk is full"):
            real.ensure_personalisation(spec, b"x" * 2 * 1024**2)
        real.remove_personalisation(spec.runtime_id)
        real.remove_pool()
    finally:
        subprocess.run(["umount", pool], check=True)


def test_the_probe_finds_an_engine_and_leaves_nothing(real: LibvirtDriver) -> None:
    result = probe_host(real.host.uri, real.host.pool_path, real.host.fleet)
    assert result.engine in {Engine.KVM, Engine.QEMU}
    assert any("powered off" in line for line in result.evidence)
    assert result.capacity.vcpus >= 1
    assert real._conn.listAllStoragePools() == [] or real.remove_pool() is False
    # Only this process's: others on this machine may be probing just now.
    names = [each.name() for each in real._conn.listAllDomains()]
    assert not [name for name in names if name.split("-")[:2] == ["probe", str(os.getpid())]]


def test_capabilities_decide_what_the_machine_asks_for(real: LibvirtDriver, spec: RuntimeSpec) -> None:
    """A host that was found unable is not asked."""
    build(real, spec)
    assert "<memtune>" not in real._conn.lookupByUUIDString(str(spec.runtime_id)).XMLDesc(0)
    assert real.ensure_domain(replace(spec, iops=None)) is True


def test_a_change_of_caps_reaches_kernel_and_qemu(real: LibvirtDriver, spec: RuntimeSpec) -> None:
    """And no limit is no limit again."""
    build(real, spec)
    domain = real._conn.lookupByUUIDString(str(spec.runtime_id))
    for percent, iops in ((25, 777), (60, None)):
        assert real.tune(replace(spec, cpu_percent=percent, iops=iops)) is True
        shown = domain.schedulerParametersFlags(libvirt.VIR_DOMAIN_AFFECT_LIVE)
        assert shown["vcpu_quota"] == percent * 1000
        assert domain.blockIoTune("vdb", libvirt.VIR_DOMAIN_AFFECT_LIVE)["total_iops_sec"] == (iops or 0)


def test_a_volume_that_has_grown_opens_again(real: LibvirtDriver, spec: RuntimeSpec) -> None:
    """The encryption's header is where it was."""
    build(real, spec)
    assert change(real, spec) == [True, True]
    real.destroy(spec.runtime_id)
    assert real.start(replace(spec, disk_gib=2)) is True
    domain = real._conn.lookupByUUIDString(str(spec.runtime_id))
    assert domain.blockInfo("vdb")[0] == 2 * 1024**3


def test_bandwidth_is_asked_for_only_where_it_works(real: LibvirtDriver, spec: RuntimeSpec) -> None:
    """A host that was found unable starts the machine all the same."""
    build(real, replace(spec, bandwidth_mbit=5))
    assert "<bandwidth>" not in real._conn.lookupByUUIDString(str(spec.runtime_id)).XMLDesc(0)
    assert real.tune(replace(spec, bandwidth_mbit=9)) is False


def _command_line(spec: RuntimeSpec) -> bytes:
    (line,) = [line for line in _command_lines() if b"qemu" in line and str(spec.runtime_id).encode() in line]
    return line


def _command_lines() -> list[bytes]:
    lines = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(entry.read_bytes())
        except OSError:
            continue
    return lines
