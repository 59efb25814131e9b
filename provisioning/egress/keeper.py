"""What the egress keeper does, look by look. See ``host.py``."""

import logging
import os
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from provisioning.egress import folder, nft, system
from provisioning.egress.journal import Journal
from provisioning.egress.rules import Rules, RulesError, TenantRules, parse
from provisioning.egress.server import NotConfirmed, Server, free_port
from provisioning.egress.squid import Proxy, render

_ADDRESSES_SECONDS = 1.0
_COUNT_SECONDS = 2.0
_AGAIN_SECONDS = 2.0
"""How long after a failure that may pass (no space, Squid ended) it is tried again."""
_SEEN_SECONDS = 10.0
"""The state is written at least this often, so that a reader knows the keeper lives."""
_REOPEN_SECONDS = 5.0
_CACHE_LOG_BYTES = 4 << 20
_log = logging.getLogger("egress")


@dataclass(frozen=True)
class KeeperOptions:
    """What the host's operator decides; no rule document can change it."""

    fleet: str
    folder: Path
    """Where worker and keeper meet; a storage pool of libvirt's."""
    run: Path
    """The keeper's own, for nobody else."""
    nameservers: tuple[str, ...]
    proxy_port: int
    agent_port: int
    descriptors: int
    ipv4_only: bool
    squid: str = "squid"


class Refused(Exception):
    """A document that is not obeyed, now or later; the message says why."""


@dataclass
class Keeper:
    """Holds one Squid to the newest good rule document."""

    options: KeeperOptions
    _wanted: Rules | None = field(init=False, default=None)
    """What is to be obeyed; kept on disk."""
    _obeyed: Rules | None = field(init=False, default=None)
    """What packet filter and Squid were last seen to obey."""
    _serving: tuple[TenantRules, ...] = field(init=False, default=())
    _settled: bool = field(init=False, default=True)
    """Whether Squid has confirmed the newest configuration."""
    _to_cut: list[TenantRules] = field(init=False, default_factory=list)
    _applied_at: int = field(init=False, default=0)
    _refused: int = field(init=False, default=0)
    _refusal: str = field(init=False, default="")
    """Why that one is refused."""
    _problems: dict[str, str] = field(init=False, default_factory=dict)
    """What fails now and may pass, by what was being done."""
    _state: dict[str, Any] = field(init=False, default_factory=dict)
    _due: dict[str, float] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        told = self.options
        self._wall = nft.Wall(
            told.fleet,
            os.geteuid(),
            told.nameservers,
            proxy_port=told.proxy_port,
            agent_port=told.agent_port,
        )
        self._configuration = told.run / "squid.conf"
        self._kept = told.run / "rules.json"
        self._journal = Journal(told.folder, told.run / "access.log")
        self._server = Server(told.squid, self._configuration, free_port())
        self._proxy = Proxy(
            told.proxy_port,
            told.run,
            told.run / "access.log",
            told.nameservers,
            self._server.keeper_port,
            told.descriptors,
        )

    def begin(self) -> None:
        """Take up what the last keeper obeyed.

        Raises:
            ProgramFailed: the packet filter refuses, so there is no wall: nothing may start.
        """
        self._server.end_strays()
        self._journal.begin()
        system.make_certificate(self.options.run / "unused.pem")
        system.filter_packets(nft.render(self._wall, Rules(1, self.options.fleet, ()), self._counted()))
        with suppress(OSError, Refused):
            self._wanted = self._taken_up(self._kept.read_bytes())
        self._guarded("mend", self._serve)
        self._report()

    def look(self) -> None:
        """Do what is due. Whatever fails is noted in the state, and tried again."""
        self._guarded("documents", self._take_documents)
        if self._is_due("addresses", _ADDRESSES_SECONDS):
            self._guarded("mend", self._mend)
        if self._is_due("logs", _ADDRESSES_SECONDS):
            self._guarded("logs", self._turn_logs)
        if self._is_due("count", _COUNT_SECONDS):
            self._report()

    def end(self) -> None:
        """Stop Squid and take the count away. The wall stays, for whatever Squid may have left behind."""
        self._server.stop()
        with suppress(system.ProgramFailed):
            self._report()
            system.filter_packets(nft.remove_count(self._wall))

    def _take_documents(self) -> None:
        have = max(self._wanted.generation if self._wanted else 0, self._refused)
        found = self._newest(have)
        if found is None:
            return
        generation, body = found
        try:
            self._apply(self._checked(body, generation))
        except Refused as refusal:
            self._refused, self._refusal = generation, str(refusal)
            _log.error("generation %d is refused: %s", generation, refusal)
        self._report()

    def _newest(self, above: int) -> tuple[int, bytes] | None:
        """What the keeper's own user wrote is no document: Squid is that user, who may write there."""
        return folder.newest(self.options.folder, above, not_of=os.geteuid())

    def _taken_up(self, kept: bytes) -> Rules:
        """What the last keeper obeyed, if the worker can have sent it: its newest document is always there.

        Raises:
            Refused: it cannot; the worker's own counts.
        """
        rules = self._checked(kept)
        generation, body = self._newest(0) or (0, b"")
        if rules.generation > generation or (rules.generation == generation and kept != body):
            raise Refused("the kept document is none of the worker's")
        return rules

    def _checked(self, body: bytes, generation: int | None = None) -> Rules:
        """The document, if it is for this host's fleet and what its file's name says."""
        try:
            rules = parse(body)
        except RulesError as error:
            raise Refused(str(error)) from None
        if rules.fleet != self.options.fleet:
            raise Refused(f"the document is for the fleet {rules.fleet}")
        if generation not in {None, rules.generation}:
            raise Refused(f"the document says generation {rules.generation}")
        return rules

    def _apply(self, rules: Rules) -> None:
        """Check it first, then change over. Once it is on disk, it is what the keeper works towards."""
        try:
            self._check(rules)
        except system.Rejected as error:
            raise Refused(str(error)) from None
        folder.replace(self._kept, rules.to_bytes())
        self._to_cut += _narrowed(self._wanted, rules)
        self._wanted = rules
        self._serve()
        _log.info("generation %d is in force for %d runtimes", rules.generation, len(rules.tenants))

    def _check(self, rules: Rules) -> None:
        """Whether Squid understands all of it, addresses that are not there yet included."""
        candidate = self.options.run / "candidate.conf"
        folder.replace(candidate, render(rules.tenants, self._proxy, "check").encode())
        system.check_configuration(self.options.squid, candidate)

    def _serve(self) -> None:
        """Bring packet filter and Squid to what is wanted, for the runtimes whose link is there; then cut the
        connections that are no longer allowed.
        """
        if self._wanted is None:
            return
        self._settled = False
        present = self._present()
        system.filter_packets(nft.render(self._wall, self._wanted, self._counted()))
        self._change_over(present, f"{self._wanted.generation}-{secrets.token_hex(16)}")
        self._serving, self._settled = present, True
        self._problems.clear()
        if self._obeyed != self._wanted:
            self._obeyed, self._applied_at = self._wanted, int(time.time())

    def _change_over(self, present: tuple[TenantRules, ...], mark: str) -> None:
        """Have Squid obey, and cut what is no longer allowed: before it says so, for it may never, and after.

        Squid's port for the keeper is free to take at each reload. Who takes it can answer, but does not know
        ``mark``; and the keeper goes on with another port.
        """
        folder.replace(self._configuration, render(present, self._proxy, mark).encode())
        self._cut()
        try:
            self._server.obey(mark)
        except NotConfirmed:
            self._server.keeper_port = free_port()
            self._proxy = replace(self._proxy, keeper_port=self._server.keeper_port)
            raise
        if not self._cut():
            raise NotConfirmed("squid was ended, for open connections could not be cut one by one")
        self._to_cut.clear()

    def _mend(self) -> None:
        """Start Squid again if it ended, and follow links that come and go."""
        if self._wanted is None:
            return
        if not self._settled or self._server.pid is None or self._present() != self._serving:
            self._serve()
            self._report()

    def _present(self) -> tuple[TenantRules, ...]:
        tenants = self._wanted.tenants if self._wanted else ()
        return tuple(each for each in tenants if _is_here(each.listen))

    def _cut(self) -> bool:
        """End the open connections of all that may reach less now; False if it took Squid's own end."""
        if all(self._is_cut(each) for each in self._to_cut):
            return True
        self._server.stop()
        self._to_cut.clear()
        return False

    def _is_cut(self, tenant: TenantRules) -> bool:
        try:
            return system.cut(tenant.listen, self.options.proxy_port)
        except system.ProgramFailed as error:
            _log.error("open connections of %s: %s", tenant.runtime, error)
            return False

    def _turn_logs(self) -> None:
        """Begin a new file of records when the last is full; keep Squid's own log small."""
        own = self.options.run / "cache.log"
        if own.exists() and own.stat().st_size > _CACHE_LOG_BYTES:
            own.replace(own.with_suffix(".log.1"))
            self._server.reopen()
        if not self._journal.full:
            return
        self._journal.next()
        self._server.reopen()
        deadline = time.monotonic() + _REOPEN_SECONDS
        while (pid := self._server.pid) is not None and not self._journal.held_by(pid):
            if time.monotonic() > deadline:
                self._server.stop()  # it still writes to the old file, and will not where nobody reads on
            time.sleep(0.02)
        self._journal.publish()

    def _counted(self) -> dict[str, nft.Count]:
        """Counters go on from what the kernel has, or after a restart of the machine from the last state."""
        told = nft.counts_told(folder.read_state(self.options.folder))
        return told | system.read_counters(self._wall)

    def _guarded(self, what: str, act: Callable[[], None]) -> None:
        """What may pass by itself (no space, Squid ended, a program hung) is noted and tried again, and keeps
        nothing else from being done.
        """
        if not self._is_due(f"{what} again", 0):
            return
        try:
            act()
        except (OSError, system.ProgramFailed, NotConfirmed) as error:
            self._problems[what] = _words(error)
            _log.error("%s", self._problems[what])
            self._due[f"{what} again"] = time.monotonic() + _AGAIN_SECONDS
            self._report()
        else:
            self._problems.pop(what, None)

    def _problem(self) -> str:
        """All that is wrong now; a refusal counts until a later document is wanted."""
        wanted = self._wanted.generation if self._wanted else 0
        refusal = self._refusal if self._refused > wanted else ""
        return "; ".join(dict.fromkeys(filter(None, (refusal, *self._problems.values()))))

    def _report(self) -> None:
        """Write the state if it changed, or if it is old."""
        now = int(time.time())
        counters = system.read_counters(self._wall)
        told = self._said(counters)
        same = {key: value for key, value in self._state.items() if key != "seen_at"} == told
        if same and now - self._state["seen_at"] < _SEEN_SECONDS:
            return
        state = {**told, "seen_at": now}
        try:
            folder.write_state(self.options.folder, state)
        except OSError as error:
            _log.error("the state could not be written: %s", error.strerror)
        else:
            self._state = state

    def _capabilities(self) -> list[str]:
        told = {"ipv4-only": self.options.ipv4_only, "walls": system.walls_stand()}
        return [name for name, here in told.items() if here]

    def _said(self, counters: dict[str, nft.Count]) -> dict[str, Any]:
        running, problem = self._server.pid is not None, self._problem()
        taking = system.listening(self.options.proxy_port) if running else set()
        return {
            "version": 1,
            "generation": self._obeyed.generation if self._obeyed else 0,
            "digest": self._obeyed.digest if self._obeyed else "",
            "applied_at": self._applied_at,
            "ok": not problem,
            "problem": problem,
            "refused": self._refused,
            "serving": [str(each.runtime) for each in self._serving if each.listen in taking],
            "dropped": {
                str(runtime): {"packets": count.packets, "bytes": count.bytes}
                for name, count in sorted(counters.items())
                if (runtime := nft.runtime_of(name)) is not None
            },
            "walled": vars(counters.get(nft.WALLED, nft.Count())),
            "records": {"first": self._journal.first, "last": self._journal.last},
            "capabilities": self._capabilities(),
        }

    def _is_due(self, what: str, seconds: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(what, 0.0):
            return False
        if seconds:
            self._due[what] = now + seconds
        return True


def _narrowed(before: Rules | None, after: Rules) -> list[TenantRules]:
    """The runtimes that may reach less than before, or whose link is another's now."""
    now = {each.runtime: each for each in after.tenants}
    return [each for each in (before.tenants if before else ()) if not _covers(now.get(each.runtime), each)]


def _covers(now: TenantRules | None, before: TenantRules) -> bool:
    if now is None or (now.listen, now.guest) != (before.listen, before.guest):
        return False
    return set(before.hosts) <= set(now.hosts)


def _is_here(address: str) -> bool:
    """Whether this machine has the address now."""
    with socket.socket() as line:
        try:
            line.bind((address, 0))
        except OSError:
            return False
    return True


def _words(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{Path(error.filename).name if error.filename else 'a call'}: {error.strerror}"
    return str(error)
