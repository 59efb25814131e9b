"""The driver: one host, one connection. Every ``ensure_*`` looks, then does what is missing, so that a
worker killed at any instant is followed by one that finishes; every ``remove_*`` tolerates absence.
Both answer whether they changed anything. All raise `DriverError` and nothing else.
"""

import time
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import libvirt

from provisioning.driver import egress, images, links, looks, machines, naming, passphrases, storage, tuning
from provisioning.driver.connection import open_connection, translated
from provisioning.driver.types import (
    Capacity,
    Conflict,
    DriverError,
    HostShown,
    HostSpec,
    ImageSpec,
    Inventory,
    Power,
    RuntimeSpec,
    Shown,
    User,
)

_POLL_SECONDS = 0.25
_PRESS_AGAIN_SECONDS = 5.0


class LibvirtDriver:
    """A host with real machines. Open it with ``with``."""

    shutdown_flags = libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN

    def __init__(self, host: HostSpec) -> None:
        naming.check_fleet(host.fleet)
        self.host = host
        self._connection = open_connection(host.uri)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; again is harmless."""
        self._connection.close()

    @property
    def _conn(self) -> Any:
        return self._connection.raw

    @translated("preparing the storage pool")
    def ensure_pool(self) -> bool:
        """Have the fleet's pool defined, running and started with the host. Conflict if it lies elsewhere."""
        return storage.ensure_pool(self._conn, self.host)

    @translated("removing the storage pool")
    def remove_pool(self) -> bool:
        """Forget the pool; its directory stays. Conflict while it holds a runtime's volumes."""
        return storage.remove_pool(self._conn, self.host)

    def verify_image(self, image: ImageSpec) -> None:
        """Hash the image's files; on this machine only.

        Raises:
            ImageMissing, ImageCorrupt, Unsupported: see `images.verify`.
        """
        images.verify(self.host.uri, image)

    def ensure_secret(self, spec: RuntimeSpec, passphrase: str) -> bool:
        """Give libvirt the volume's passphrase (text). It keeps it in memory until it restarts."""
        try:
            return self._ensure_secret(spec.runtime_id, passphrase)
        except DriverError as error:
            raise type(error)(
                error.message.replace(passphrase, "…") if passphrase else error.message
            ) from None

    @translated("handing over the volume's passphrase")
    def _ensure_secret(self, runtime_id: UUID, passphrase: str) -> bool:
        return passphrases.ensure_secret(self._conn, self.host, runtime_id, passphrase)

    @translated("removing the volume's passphrase")
    def remove_secret(self, runtime_id: UUID) -> bool:
        """Make libvirt forget the passphrase. A running machine keeps its open volume."""
        return passphrases.remove_secret(self._conn, self.host, runtime_id)

    @translated("creating the data volume")
    def ensure_volume(self, spec: RuntimeSpec) -> bool:
        """Have the data volume; an existing one is never made anew. Needs pool and secret. 2 to 5 s.

        Raises:
            NoSpace: less is free than the volume may grow to.
            Conflict: a file of that name is not the volume asked for.
        """
        return storage.ensure_volume(self._conn, self.host, spec)

    @translated("measuring the data volume")
    def volume_gib(self, runtime_id: UUID) -> int | None:
        """The data volume's size; None if there is none."""
        return storage.volume_gib(self._conn, self.host, runtime_id)

    @translated("growing the data volume")
    def grow_volume(self, spec: RuntimeSpec) -> bool:
        """Let a running machine's data volume grow to ``spec``; never shrink it. Conflict if it is off."""
        return tuning.grow(self._conn, self.host, spec)

    @translated("changing the running machine")
    def tune(self, spec: RuntimeSpec) -> bool:
        """Set a running machine's caps on processor, disk and traffic. Conflict if it is off."""
        return tuning.tune(self._conn, self.host, spec)

    @translated("removing the data volume")
    def remove_volume(self, runtime_id: UUID) -> bool:
        """Delete the tenant's data. Conflict while the machine runs."""
        self._require_off(runtime_id)
        return storage.remove_volume(self._conn, self.host, naming.volume_name(runtime_id))

    @translated("writing the guest's credential")
    def ensure_personalisation(self, spec: RuntimeSpec, payload: bytes) -> bool:
        """Have exactly ``payload`` as the guest's credential at its next power-on."""
        name = naming.personalisation_name(spec.runtime_id)
        return storage.ensure_file(self._conn, self.host, name, payload)

    @translated("removing the guest's credential")
    def remove_personalisation(self, runtime_id: UUID) -> bool:
        """Delete the credential. The machine cannot be started without one."""
        return storage.remove_file(self._conn, self.host, naming.personalisation_name(runtime_id))

    @translated("preparing the network")
    def ensure_network(self, spec: RuntimeSpec) -> bool:
        """Have the runtime's own isolated bridge, up now and after the host restarts."""
        return links.ensure_network(self._conn, self.host, spec)

    @translated("removing the network")
    def remove_network(self, runtime_id: UUID) -> bool:
        """Take the bridge away. Conflict while the machine runs."""
        self._require_off(runtime_id)
        return links.remove_network(self._conn, self.host, runtime_id)

    @translated("setting the packet filter")
    def ensure_filter(self, spec: RuntimeSpec) -> bool:
        """Have the packet filter; a change takes effect on a running machine at once."""
        return links.ensure_filter(self._conn, self.host, spec)

    @translated("removing the packet filter")
    def remove_filter(self, runtime_id: UUID) -> bool:
        """Remove the packet filter. Conflict while the machine runs."""
        self._require_off(runtime_id)
        return links.remove_filter(self._conn, self.host, runtime_id)

    @translated("defining the machine")
    def ensure_domain(self, spec: RuntimeSpec) -> bool:
        """Define the machine, or define it anew if ``spec`` or this code asks for another form."""
        return machines.ensure(self._conn, self.host, spec)

    @translated("removing the machine")
    def remove_domain(self, runtime_id: UUID) -> bool:
        """Undefine the machine. Conflict while it runs."""
        return machines.remove(self._conn, self.host, runtime_id)

    @translated("starting the machine")
    def start(self, spec: RuntimeSpec) -> bool:
        """Power on. False if it runs already; Conflict if it is paused or not defined."""
        return machines.start(self._conn, self.host, spec.runtime_id)

    @translated("asking the machine to shut down")
    def request_shutdown(self, runtime_id: UUID) -> bool:
        """Press the power button and return at once. False if it is off."""
        return machines.request_shutdown(self._conn, self.host, runtime_id, self.shutdown_flags)

    def shutdown(self, runtime_id: UUID, timeout_seconds: float) -> bool:
        """Press the power button until the machine is off. True if it is off when the time is up."""
        deadline = time.monotonic() + timeout_seconds
        press_at = 0.0
        while self._is_up(runtime_id):
            if time.monotonic() >= deadline:
                return False
            if time.monotonic() >= press_at:
                # A guest that is still booting ignores the button, hence more than once.
                self.request_shutdown(runtime_id)
                press_at = time.monotonic() + _PRESS_AGAIN_SECONDS
            time.sleep(max(0.0, min(_POLL_SECONDS, deadline - time.monotonic())))
        return True

    def _is_up(self, runtime_id: UUID) -> bool:
        return self.power(runtime_id) not in {Power.OFF, Power.CRASHED, Power.ABSENT}

    @translated("cutting the power")
    def destroy(self, runtime_id: UUID) -> bool:
        """Cut the power. False if it was off or absent."""
        return machines.destroy(self._conn, self.host, runtime_id)

    @translated("pausing the machine")
    def suspend(self, runtime_id: UUID) -> bool:
        """Stop the machine's processors and keep its memory. False if none of them ran."""
        return machines.suspend(self._conn, self.host, runtime_id)

    @translated("unplugging the machine's network")
    def cut(self, runtime_id: UUID) -> bool:
        """Take the link of every interface down. False if it was. `ensure_domain` plugs in again."""
        return machines.cut(self._conn, self.host, runtime_id)

    @translated("settling the machine")
    def settle(self, runtime_id: UUID) -> bool:
        """Plug a running machine in, and see that it does not start with the host. False if that is so."""
        return machines.settle(self._conn, self.host, runtime_id)

    @translated("looking at a runtime")
    def show(self, runtime_id: UUID) -> Shown:
        """All that the host shows of the runtime. Conflict if the machine is not ours."""
        return looks.show(self._conn, self.host, runtime_id)

    @translated("looking at the host")
    def show_host(self) -> HostShown:
        """Pool and kernel, as far as they can be seen from here."""
        return looks.show_host(self._conn, self.host)

    @translated("looking at the host's machines")
    def users(self) -> list[User]:
        """Every machine of the host, also other people's, with what it stands on."""
        return looks.users(self._conn)

    @translated("looking at the machine")
    def power(self, runtime_id: UUID) -> Power:
        """What libvirt shows. Conflict if the machine is not ours."""
        domain = machines.find_ours(self._conn, self.host, runtime_id)
        return Power.ABSENT if domain is None else machines.power_of(domain)

    @translated("looking at the machines")
    def powers(self) -> dict[UUID, Power]:
        """The same for all machines of the fleet."""
        ours, _unknown = machines.listed(self._conn, self.host)
        return {runtime_id: machines.power_of(domain) for runtime_id, domain in ours.items()}

    @translated("measuring the host")
    def capacity(self) -> Capacity:
        """The host's processors and memory, and the pool's disk (0 until `ensure_pool`)."""
        vcpus, memory_mib = machines.host_size(self._conn)
        return Capacity(vcpus, memory_mib, storage.disk_bytes(self._conn, self.host) // storage.GIB)

    @translated("listing the host's objects")
    def inventory(self) -> Inventory:
        """Everything on the host that carries the fleet's mark."""
        ours, unknown = machines.listed(self._conn, self.host)
        return Inventory(
            domains=frozenset(ours),
            networks=links.networks(self._conn, self.host),
            filters=self._filters(),
            volumes=self._volumes(),
            personalisations=self._personalisations(),
            secrets=self._secrets(),
            unknown_domains=unknown,
        )

    @translated("handing rules to the egress keeper")
    def egress_put(self, generation: int, body: bytes) -> bool:
        """Write a rule document for the keeper. False if just this one is there already.

        Raises:
            Unsupported: the host has no egress keeper.
        """
        return egress.put(self._conn, self.host, generation, body)

    @translated("reading the egress keeper's state")
    def egress_state(self) -> bytes | None:
        """What the keeper last said of itself, as it wrote it; None if there is nothing yet."""
        return egress.read(self._conn, self.host, egress.STATE_FILE, 0, egress.STATE_LIMIT)

    @translated("reading the egress keeper's records")
    def egress_read(self, name: str, offset: int, length: int) -> bytes | None:
        """``length`` bytes of a file of records from ``offset`` on; fewer at its end. None: it is not there.

        Raises:
            ValueError: no file of records, or more than `egress.READ_LIMIT` bytes.
        """
        egress.check_part(name, offset, length)
        return egress.read(self._conn, self.host, name, offset, length)

    @translated("looking for the egress keeper's pool")
    def egress_path(self) -> str:
        """Where the fleet's pool over a keeper's folder lies; empty if there is none."""
        return egress.path(self._conn, self.host)

    @translated("forgetting the egress keeper")
    def egress_remove(self) -> bool:
        """Delete the documents that we wrote and forget the pool; what the keeper wrote stays."""
        return egress.remove(self._conn, self.host)

    def endpoint(self, spec: RuntimeSpec) -> tuple[str, int]:
        """Address and port at which the control plane reaches the agent."""
        return spec.guest_address, spec.agent_port

    def _filters(self) -> frozenset[UUID]:
        return links.filters(self._conn, self.host)

    def _volumes(self) -> frozenset[UUID]:
        return storage.listed(self._conn, self.host, naming.VOLUME_SUFFIX)

    def _personalisations(self) -> frozenset[UUID]:
        return storage.listed(self._conn, self.host, naming.PERSONALISATION_SUFFIX)

    def _secrets(self) -> frozenset[UUID]:
        return passphrases.secrets(self._conn, self.host)

    def _require_off(self, runtime_id: UUID) -> None:
        domain = machines.find_ours(self._conn, self.host, runtime_id)
        if domain is not None and domain.isActive():
            raise Conflict(f"The machine {domain.name()} runs. Shut it down or destroy it first.")
