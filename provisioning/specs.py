"""From database rows to what the driver understands. The driver itself knows no database."""

from django.conf import settings

from provisioning.addresses import link
from provisioning.driver import Engine, HostSpec, ImageSpec, RuntimeSpec
from provisioning.models import GuestImage, Host, Runtime


def host_spec(host: Host) -> HostSpec:
    """How the driver reaches ``host``."""
    return HostSpec(
        uri=host.uri,
        engine=Engine(host.engine),
        fleet=settings.FLEET_ID,
        pool_path=host.pool_path,
        capabilities=frozenset(host.capabilities),
    )


def image_spec(image: GuestImage) -> ImageSpec:
    """What the driver boots."""
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
        mac=runtime.mac,
        network_index=runtime.network_index,
        host_address=ends.host_address,
        guest_address=ends.guest_address,
        prefix=ends.prefix,
        agent_port=settings.AGENT_PORT,
        image=image_spec(runtime.image),
    )
