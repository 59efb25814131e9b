"""The simulated engine: libvirt's test driver for machines, networks, pool and volumes; small files for
secrets, filters and credentials, which that driver lacks; the agent as a local process instead of a guest.

libvirtd forgets the test driver's objects when the last connection closes: `keeper` holds one. The files
outlast it. Nothing is isolated or encrypted here, and the passphrase is not even stored.
"""

import json
import os
import shutil
import signal
import sys
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from provisioning.driver import egress, machines, naming, storage, tuning, xml
from provisioning.driver.connection import translated
from provisioning.driver.faults import around
from provisioning.driver.libvirt_driver import LibvirtDriver
from provisioning.driver.local_agent import LocalAgent
from provisioning.driver.local_keeper import LocalKeeper
from provisioning.driver.marks import same_rules
from provisioning.driver.types import Conflict, HostSpec, NoSpace, Power, RuntimeSpec, Shown
from provisioning.egress.rules import file_name

TEST_URI = "test+unix:///default"
AGENT_COMMAND = (
    sys.executable,
    "-m",
    "guest.agent",
    "--personalisation",
    "{personalisation}",
    "--data",
    "{data}",
    "--workspace",
    "{workspace}",
    "--launcher",
    "{launcher}",
    "--listen",
    "{listen}",
)
_STOP_SECONDS = 5.0


class SimulatedDriver(LibvirtDriver):
    """A host without machines. ``agent_command`` may hold the fields of `AGENT_COMMAND`."""

    shutdown_flags = 0  # the test driver knows no other

    def __init__(self, host: HostSpec, agent_command: Sequence[str] = AGENT_COMMAND) -> None:
        super().__init__(host)
        self._command = tuple(agent_command)
        self._root = Path(host.pool_path)

    def ensure_pool(self) -> bool:
        """As on a real host; the directory is made here, since the test driver makes none."""
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Conflict(f"Cannot make the directory {self._root}: {error.strerror}. Correct it.") from None
        return super().ensure_pool()

    def ensure_secret(self, spec: RuntimeSpec, passphrase: str) -> bool:  # noqa: ARG002
        """Note that there is one; the value is of no use here and is not kept."""
        with around("secret.define"):
            changed = _put(self._secret_file(spec.runtime_id), b"")
        with around("secret.set_value"):
            return changed

    def remove_secret(self, runtime_id: UUID) -> bool:
        """Forget the note."""
        with around("secret.undefine"):
            return _drop(self._secret_file(runtime_id))

    def ensure_volume(self, spec: RuntimeSpec) -> bool:
        """The test driver's volume, and folders for the agent's data and workspace, which outlast it."""
        super().ensure_volume(spec)
        folders = [self._data(spec.runtime_id), self._workspace(spec.runtime_id)]
        if all(folder.is_dir() for folder in folders):
            return False
        for folder in folders:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return True

    @translated("growing the data volume")
    def grow_volume(self, spec: RuntimeSpec) -> bool:
        """A new volume in place of the old, which held nothing; the test driver resizes none."""
        tuning.running(self._conn, self.host, spec.runtime_id)
        if (self.volume_gib(spec.runtime_id) or 0) >= spec.disk_gib:
            return False
        with around("volume.resize"):
            storage.remove_volume(self._conn, self.host, naming.volume_name(spec.runtime_id))
            storage.ensure_volume(self._conn, self.host, spec)
        return True

    @translated("changing the running machine")
    def tune(self, spec: RuntimeSpec) -> bool:
        """Note the caps, which nothing enforces here."""
        tuning.running(self._conn, self.host, spec.runtime_id)
        wanted = {"cpu_percent": spec.cpu_percent, "iops": spec.iops, "bandwidth_mbit": spec.bandwidth_mbit}
        with around("domain.tune"):
            return _put(self._tuning_file(spec.runtime_id), json.dumps(wanted).encode())

    def remove_volume(self, runtime_id: UUID) -> bool:
        """Delete volume and directory."""
        changed = super().remove_volume(runtime_id)
        data = self._data(runtime_id)
        existed = data.is_dir()
        shutil.rmtree(data, ignore_errors=True)
        return changed or existed

    def ensure_personalisation(self, spec: RuntimeSpec, payload: bytes) -> bool:
        """A file of mode 0600."""
        with around("personalisation.create"), around("personalisation.upload"):
            return _put(self._papers(spec.runtime_id), payload)

    def remove_personalisation(self, runtime_id: UUID) -> bool:
        """Delete the file."""
        with around("personalisation.delete"):
            return _drop(self._papers(runtime_id))

    def ensure_filter(self, spec: RuntimeSpec) -> bool:
        """Keep the rules for show; they filter nothing here."""
        path, wanted = self._filter_file(spec.runtime_id), xml.packet_filter(self.host, spec)
        if path.is_file() and same_rules(path.read_text(), wanted):
            return False
        with around("filter.define"):
            return _put(path, wanted.encode())

    @translated("removing the packet filter")
    def remove_filter(self, runtime_id: UUID) -> bool:
        """Delete the rules."""
        self._require_off(runtime_id)
        with around("filter.undefine"):
            return _drop(self._filter_file(runtime_id))

    @translated("starting the machine")
    def start(self, spec: RuntimeSpec) -> bool:
        """Power on, and launch the agent. An agent that outlived its machine is stopped first."""
        agent = self._agent(spec.runtime_id)
        domain = machines.find_ours(self._conn, self.host, spec.runtime_id)
        if domain is not None and not domain.isActive():
            agent.stop(signal.SIGKILL, _STOP_SECONDS)
        changed = super().start(spec)
        return agent.ensure(self._agent_command(spec)) or changed

    def request_shutdown(self, runtime_id: UUID) -> bool:
        """Power off at once and ask the agent to end; `shutdown` waits for it."""
        changed = super().request_shutdown(runtime_id)
        self._agent(runtime_id).stop(signal.SIGTERM, 0)
        return changed

    def shutdown(self, runtime_id: UUID, timeout_seconds: float) -> bool:
        """Power off and wait for the agent to end. True if it has."""
        super().request_shutdown(runtime_id)
        return self._agent(runtime_id).stop(signal.SIGTERM, timeout_seconds)

    def destroy(self, runtime_id: UUID) -> bool:
        """Power off and kill the agent."""
        changed = super().destroy(runtime_id)
        agent = self._agent(runtime_id)
        changed = agent.alive() or changed
        agent.stop(signal.SIGKILL, _STOP_SECONDS)
        return changed

    def suspend(self, runtime_id: UUID) -> bool:
        """Pause, and stop the agent where it stands."""
        changed = super().suspend(runtime_id)
        self._agent(runtime_id).halt()
        return changed

    @translated("unplugging the machine's network")
    def cut(self, runtime_id: UUID) -> bool:
        """Note it: the test driver cannot unplug, and an agent that has been halted says nothing."""
        if machines.find_ours(self._conn, self.host, runtime_id) is None:
            return False
        with around("domain.cut"):
            return _put(self._cut_file(runtime_id), b"")

    @translated("looking at a runtime")
    def show(self, runtime_id: UUID) -> Shown:
        """The test driver's objects, and the rules kept for show."""
        path = self._filter_file(runtime_id)
        shown = replace(super().show(runtime_id), filter=path.read_text() if path.is_file() else None)
        if shown.live is None or not self._cut_file(runtime_id).is_file():
            return shown
        return replace(shown, live=shown.live.replace("<mac ", '<link state="down"/><mac '))

    def ensure_domain(self, spec: RuntimeSpec) -> bool:
        """As on a real host; what was unplugged is not any more."""
        plugged = _drop(self._cut_file(spec.runtime_id))
        return super().ensure_domain(spec) or plugged

    def remove_domain(self, runtime_id: UUID) -> bool:
        """Undefine the machine; whatever is left of its agent goes too."""
        changed = super().remove_domain(runtime_id)
        _drop(self._cut_file(runtime_id))
        agent = self._agent(runtime_id)
        agent.stop(signal.SIGKILL, _STOP_SECONDS)
        agent.forget()
        _drop(self._tuning_file(runtime_id))
        return changed

    def power(self, runtime_id: UUID) -> Power:
        """What libvirt shows; a running machine whose agent died has crashed."""
        return self._with_agent(runtime_id, super().power(runtime_id))

    def powers(self) -> dict[UUID, Power]:
        """The same for all machines of the fleet."""
        return {each: self._with_agent(each, power) for each, power in super().powers().items()}

    @translated("handing rules to the egress keeper")
    def egress_put(self, generation: int, body: bytes) -> bool:
        """Write the document, and obey it at once: there is no proxy to reload."""
        egress.ensure_pool(self._conn, self.host)
        keeper = self._keeper()
        with keeper.alone():
            changed = self._put_rules(keeper, generation, body)
            keeper.follow(generation, body)
        return changed

    @staticmethod
    def _put_rules(keeper: LocalKeeper, generation: int, body: bytes) -> bool:
        path = keeper.folder / file_name(generation)
        if path.is_file() and (path.is_symlink() or path.read_bytes() != body):
            with around("egress.delete"):
                path.unlink()
        with around("egress.create"), around("egress.upload"):
            changed = _put(path, body)
        for older in keeper.folder.glob("rules-*.json"):
            if older.name < path.name:
                with around("egress.delete"):
                    older.unlink()
        return changed

    def egress_state(self) -> bytes | None:
        """As the keeper's stand-in wrote it."""
        return self._keeper().read(egress.STATE_FILE, 0, egress.STATE_LIMIT)

    def egress_read(self, name: str, offset: int, length: int) -> bytes | None:
        """A part of a file that a test put there."""
        egress.check_part(name, offset, length)
        return self._keeper().read(name, offset, length)

    @translated("forgetting the egress keeper")
    def egress_remove(self) -> bool:
        """Delete the documents and forget the pool."""
        written = sorted(self._keeper().folder.glob("rules-*.json"))
        for path in written:
            with around("egress.delete"):
                _drop(path)
        return super().egress_remove() or bool(written)

    def endpoint(self, spec: RuntimeSpec) -> tuple[str, int]:
        """A loopback address per fleet and network, so that installations on one machine do not meet."""
        fleet = 16 + zlib.crc32(self.host.fleet.encode()) % 224
        return f"127.{fleet}.{spec.network_index >> 8}.{spec.network_index & 0xFF}", spec.agent_port

    def _with_agent(self, runtime_id: UUID, power: Power) -> Power:
        agent = self._agent(runtime_id)
        if power is Power.RUNNING and not agent.alive() and not agent.launching():
            return Power.CRASHED
        return power

    def _agent_command(self, spec: RuntimeSpec) -> list[str]:
        address, port = self.endpoint(spec)
        fields = {
            "personalisation": str(self._papers(spec.runtime_id)),
            "data": str(self._data(spec.runtime_id)),
            "workspace": str(self._workspace(spec.runtime_id)),
            # Nothing is there: no tenant's command may run on the host itself.
            "launcher": str(self._data(spec.runtime_id) / "no-launcher"),
            "listen": f"{address}:{port}",
        }
        return [part.format_map(fields) for part in self._command]

    def _agent(self, runtime_id: UUID) -> LocalAgent:
        return LocalAgent(self._root / "agents" / str(runtime_id))

    def _keeper(self) -> LocalKeeper:
        return LocalKeeper(Path(self.host.egress_path or self.egress_path() or self._root / "egress"))

    def _data(self, runtime_id: UUID) -> Path:
        return self._root / "data" / str(runtime_id)

    def _workspace(self, runtime_id: UUID) -> Path:
        return self._data(runtime_id) / "workspace"

    def _papers(self, runtime_id: UUID) -> Path:
        return self._root / naming.personalisation_name(runtime_id)

    def _secret_file(self, runtime_id: UUID) -> Path:
        return self._root / "secrets" / str(runtime_id)

    def _tuning_file(self, runtime_id: UUID) -> Path:
        return self._root / "tuning" / str(runtime_id)

    def _filter_file(self, runtime_id: UUID) -> Path:
        return self._root / "filters" / f"{runtime_id}.xml"

    def _cut_file(self, runtime_id: UUID) -> Path:
        return self._root / "cut" / str(runtime_id)

    def _filters(self) -> frozenset[UUID]:
        return _ids(self._root / "filters", suffix=".xml")

    def _secrets(self) -> frozenset[UUID]:
        return _ids(self._root / "secrets")

    def _personalisations(self) -> frozenset[UUID]:
        return _ids(self._root, naming.PREFIX, naming.PERSONALISATION_SUFFIX)

    def _volumes(self) -> frozenset[UUID]:
        return super()._volumes() | _ids(self._root / "data")


def _put(path: Path, content: bytes) -> bool:
    """Hold ``content`` in ``path``, whole or not at all. False if it is there already."""
    if path.is_file() and path.read_bytes() == content:
        return False
    partial = path.with_name(f".{path.name}.partial")  # one name, so that a dead attempt's is overwritten
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(partial, "wb", opener=_private) as file:
            file.write(content)
        partial.replace(path)
    except OSError as error:
        raise NoSpace(
            f"Cannot write {path}: {error.strerror}. Free space or correct the directory."
        ) from None
    return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _drop(path: Path) -> bool:
    path.with_name(f".{path.name}.partial").unlink(missing_ok=True)
    existed = path.is_file()
    path.unlink(missing_ok=True)
    return existed


def _ids(directory: Path, prefix: str = "", suffix: str = "") -> frozenset[UUID]:
    if not directory.is_dir():
        return frozenset()
    ids = (naming.runtime_of(path.name, prefix, suffix) for path in directory.iterdir())
    return frozenset(runtime_id for runtime_id in ids if runtime_id)
