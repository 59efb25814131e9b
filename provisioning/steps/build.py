"""Steps that prepare a runtime: room, keys, volume, papers, network, filter, definition."""

import secrets

from protocol.enrolment import SECRET_BYTES
from provisioning.driver import Power
from provisioning.enrolment import personalisation
from provisioning.models import Host, Operation, Runtime
from provisioning.placement import locked_hosts, roomiest
from provisioning.selectors import current_image, lacking, queue_position, reserved_on
from provisioning.specs import image_spec, runtime_spec
from provisioning.steps import notes
from provisioning.steps.context import Context, StepFailed, Wait
from provisioning.wrapping import unwrap, wrap
from tenants.services import tenant_key_ensure


def place(context: Context) -> None:
    """Choose a host with room and take one of its build slots, both under the hosts' row locks."""
    with context.changing() as runtime:
        host = _host_with_room(runtime, locked_hosts())
        operation = context.operation
        busy = Operation.objects.filter(
            runtime__host=host, holds_slot=True, state__in=Operation.ACTIVE
        ).exclude(pk=operation.pk)
        if not operation.holds_slot and busy.count() >= host.build_slots:
            raise Wait(
                f"Waiting for a start slot on {host.name}: place {queue_position(operation)} in the queue.", 2
            )
        runtime.host, runtime.reserved = host, True
        Operation.objects.filter(pk=operation.pk).update(holds_slot=True)


def _host_with_room(runtime: Runtime, hosts: list[Host]) -> Host:
    if runtime.host is not None:
        return runtime.host
    if (roomy := roomiest(runtime, hosts)) is not None:
        return roomy
    candidates = [host for host in hosts if host.enabled]
    if not candidates:
        raise Wait("No host is enabled. Enable one or add one.", 15)
    shortfalls = {host: lacking(host, runtime, reserved_on(host)) for host in candidates}
    empty = {"vcpus": 0, "memory_mib": 0, "disk_gib": 0}
    if all(lacking(host, runtime, empty) for host in candidates):
        raise StepFailed(
            "plan_too_large", "The plan is larger than any host. Choose a smaller plan or add a host."
        )
    nearest = min(candidates, key=lambda host: len(shortfalls[host]))
    raise Wait(f"No capacity: {nearest.name} {'; '.join(shortfalls[nearest])}.", 10)


def unplace(context: Context) -> None:
    """Give the room back, unless the runtime has data and so keeps its host."""
    with context.changing() as runtime:
        if runtime.first_ready_at is None:
            runtime.host = None
            runtime.power = Runtime.Power.ABSENT


def check_image(context: Context) -> None:
    """Hash the image's files before anything boots from them. No guest really boots from an unchecked one."""
    image, host = context.runtime.image, context.runtime.host
    if not image.checked and host is not None and host.engine != Host.Engine.TEST:
        raise StepFailed("image_unchecked", f"Image {image} has not passed its check. Run `make image`.")
    context.driver.verify_image(image_spec(context.runtime.image))


def choose_newest_image(context: Context) -> None:
    """Point the runtime at the image that new runtimes get."""
    image = current_image()
    if image is None:
        raise StepFailed("no_image", "No guest image is registered. Run `make image`, then try again.")
    with context.changing() as runtime:
        runtime.image = image


def make_keys(context: Context) -> None:
    """Choose the volume's passphrase once, keep it wrapped, and give it to libvirt. The tenant's key, too."""
    tenant_key_ensure(context.runtime.tenant_id)
    with context.changing() as runtime:
        identity = f"runtime/{runtime.pk}/volume_key"
        if runtime.volume_key is None:
            if runtime.first_ready_at is not None:
                raise StepFailed("key_destroyed", "The volume's key was destroyed. Only deletion is left.")
            # Text, because libvirt refuses a secret that is not valid UTF-8.
            runtime.volume_key = wrap(secrets.token_urlsafe(32).encode(), identity=identity)
        passphrase = unwrap(runtime.volume_key, identity=identity).decode()
    context.driver.ensure_pool()
    context.driver.ensure_secret(runtime_spec(runtime), passphrase)


def make_volume(context: Context) -> None:
    """Create the encrypted volume. One that exists is left as it is; a lost one is never replaced."""
    runtime = context.runtime
    if runtime.first_ready_at is None:
        context.driver.ensure_volume(runtime_spec(runtime))
    elif runtime.pk not in context.driver.inventory().volumes:
        raise StepFailed(
            "volume_lost", "The data volume is missing on its host. Restore it before you start."
        )


def personalise(context: Context) -> None:
    """Write the guest's papers with a fresh one-time secret, unless it is running with the last ones."""
    running = context.driver.power(context.runtime.pk) in {Power.RUNNING, Power.PAUSED}
    with context.changing() as runtime:
        identity = f"runtime/{runtime.pk}/enrolment_secret"
        # A secret that a guest has spent, before whatever failed then, would let it in nowhere.
        if runtime.enrolment_secret is None or not running:
            runtime.enrolment_secret = wrap(secrets.token_bytes(SECRET_BYTES), identity=identity)
        secret = unwrap(runtime.enrolment_secret, identity=identity)
    papers = personalisation(runtime, secret)
    context.driver.ensure_personalisation(runtime_spec(runtime), papers.to_bytes())


def unpersonalise(context: Context) -> None:
    """Remove the papers and forget the secret."""
    context.driver.remove_personalisation(context.runtime.pk)
    with context.changing() as runtime:
        runtime.enrolment_secret = None


def make_network(context: Context) -> None:
    """Create the runtime's own isolated bridge. Under a running machine one that exists stays as it is."""
    context.driver.ensure_network(runtime_spec(context.runtime))
    if context.driver.power(context.runtime.pk) not in {Power.RUNNING, Power.PAUSED}:
        notes.network(context)


def make_filter(context: Context) -> None:
    """Set the packet filter before the machine that it confines can exist."""
    context.driver.ensure_filter(runtime_spec(context.runtime))
    notes.packet_filter(context)


def define(context: Context) -> None:
    """Define the machine, or bring its definition up to date."""
    context.driver.ensure_domain(runtime_spec(context.runtime))
    notes.machine(context)
