"""From database rows to what the driver understands. The driver itself knows no database."""

from django.conf import settings

from provisioning.addresses import link
from provisioning.driver import Engine, HostSpec, HostUnreachable, ImageSpec, RuntimeSpec
from provisioning.models import GuestImage, Host, Runtime
from provisioning.seals import is_sealed


class SealBroken(HostUnreachable):
    """A host or image was changed by something other than its registering command; it is not used."""

    code = "seal_broken"
    retryable = False


def host_spec(host: Host) -> HostSpec:
    """How the driver reaches ``host``.

    Raises:
        SealBroken: the row is not as it was registered.
    """
    _check_seal(host)
    return HostSpec(
        uri=host.uri,
        engine=Engine(host.engine),
        fleet=settings.FLEET_ID,
        pool_path=host.pool_path,
        capabilities=frozenset(host.capabilities),
        egress_path=host.egress_path,
    )


def image_spec(image: GuestImage) -> ImageSpec:
    """What the driver boots.

    Raises:
        SealBroken: the row is not as it was registered.
    """
    _check_seal(image)
    return ImageSpec(
        version=image.version, directory=image.directory, sha256=image.sha256, cmdline=image.cmdline
    )


def runtime_spec(runtime: Runtime) -> RuntimeSpec:
    """Everything the driver needs to know about ``runtime``; all of it chosen by us, none by the tenant."""
    ends = link(runtime.network_index)
    return RuntimeSpec(
        runtime_id=runtime.pk,
        tenant_id=runtime.tenant_id,
        vcpus=runtime.vcpus,
        memory_mib=runtime.memory_mib,
        disk_gib=runtime.disk_gib,
        cpu_percent=runtime.cpu_percent,
        iops=runtime.iops,
        bandwidth_mbit=runtime.bandwidth_mbit,
        mac=runtime.mac,
        network_index=runtime.network_index,
        host_address=ends.host_address,
        guest_address=ends.guest_address,
        prefix=ends.prefix,
        agent_port=settings.AGENT_PORT,
        egress_port=settings.EGRESS_PORT,
        image=image_spec(runtime.image),
    )


def _check_seal(row: Host | GuestImage) -> None:
    if not is_sealed(row):
        again = "host_register --again" if isinstance(row, Host) else "image_register"
        raise SealBroken(
            f"{row} was changed by something other than its registration. "
            f"Find out by what, then run `manage.py {again}`."
        )
