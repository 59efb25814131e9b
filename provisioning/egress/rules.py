"""The rule document: what each runtime of a host may reach. Pure.

The worker writes it, the host's egress keeper obeys it. Nothing in it is free text: each value has one
form, checked when a value is made, so that nothing can bring a line of its own into the proxy's
configuration. On disk it is canonical JSON, a line break, the SHA-256 of that JSON in hex and a line break;
half an upload is recognised.
"""

import hashlib
import ipaddress
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from protocol.canonical import canonical

VERSION = 1
MAX_GENERATION = 9_999_999_999
"""Ten digits, as the file's name has."""
MAX_TENANTS = 120
"""Runtimes of one host. Squid 5 listens at 128 places at most, and ignores the rest."""
MAX_HOSTS = 64
"""Names that one runtime may reach."""
MAX_BYTES = 1 << 20
"""The largest document that is read."""
_FLEET = re.compile(r"[a-z0-9]{4,8}")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_TOP = re.compile(r"[a-z][a-z0-9-]*[a-z0-9]")
_MAX_NAME = 253
_MAX_PORT = 65535
_FILE = re.compile(r"rules-([0-9]{10})\.json")
_DIGEST_LINE = 65
_T = TypeVar("_T")


class RulesError(ValueError):
    """A rule document that is not obeyed; the message says what is wrong with it."""


@dataclass(frozen=True, order=True)
class AllowedHost:
    """One exact name and port."""

    name: str
    port: int

    def __post_init__(self) -> None:
        _check_name(self.name)
        if type(self.port) is not int or not 1 <= self.port <= _MAX_PORT:
            raise RulesError(f"a port is 1 to {_MAX_PORT}, not {self.port!r}")


@dataclass(frozen=True)
class TenantRules:
    """One runtime: its tap device, both ends of its /30, and what it may reach, sorted."""

    runtime: UUID
    tap: str
    listen: str
    guest: str
    hosts: tuple[AllowedHost, ...]

    def __post_init__(self) -> None:
        if not isinstance(self.runtime, UUID):
            raise RulesError(f"a runtime is named by a UUID, not {self.runtime!r}")
        _check_link(self.listen, self.guest)
        if len(self.hosts) > MAX_HOSTS:
            raise RulesError(f"{self.runtime} has {len(self.hosts)} hosts; the limit is {MAX_HOSTS}")
        _check_order(self.hosts, "hosts")


@dataclass(frozen=True)
class Rules:
    """Everything that a host's proxy may do, runtimes sorted by id."""

    generation: int
    fleet: str
    tenants: tuple[TenantRules, ...]

    def __post_init__(self) -> None:
        check_generation(self.generation)
        if not isinstance(self.fleet, str) or not _FLEET.fullmatch(self.fleet):
            raise RulesError(f"a fleet id is 4 to 8 lower-case letters or digits, not {self.fleet!r}")
        if len(self.tenants) > MAX_TENANTS:
            raise RulesError(f"{len(self.tenants)} runtimes; a host's proxy serves {MAX_TENANTS} at most")
        tap = re.compile(rf"pt{self.fleet}-[0-9a-f]{{4}}")
        for tenant in self.tenants:
            if not isinstance(tenant.tap, str) or not tap.fullmatch(tenant.tap):
                raise RulesError(f"{tenant.tap!r} is not a tap device of the fleet {self.fleet}")
        _check_order([str(each.runtime) for each in self.tenants], "runtimes")
        for what in ("tap", "listen"):
            _check_distinct([getattr(each, what) for each in self.tenants], what)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, in hex."""
        return hashlib.sha256(_body(self)).hexdigest()

    def to_bytes(self) -> bytes:
        """The document as it stands in the file."""
        body = _body(self)
        return body + b"\n" + hashlib.sha256(body).hexdigest().encode() + b"\n"


def check_generation(generation: int) -> int:
    """Return ``generation``.

    Raises:
        RulesError: not 1 to ten digits.
    """
    if type(generation) is not int or not 1 <= generation <= MAX_GENERATION:
        raise RulesError(f"a generation is 1 to {MAX_GENERATION}, not {generation!r}")
    return generation


def file_name(generation: int) -> str:
    """The name of the document's file."""
    return f"rules-{check_generation(generation):010}.json"


def generation_of(name: str) -> int | None:
    """The generation in a file's name, or None if it is no rule document's name."""
    found = _FILE.fullmatch(name)
    return int(found[1]) if found and int(found[1]) else None


def is_complete(data: bytes) -> bool:
    """Whether the last line is the SHA-256 of what stands before it."""
    body, ending = data[: -_DIGEST_LINE - 1], data[-_DIGEST_LINE - 1 :]
    return ending == b"\n" + hashlib.sha256(body).hexdigest().encode() + b"\n"


def parse(data: bytes) -> Rules:
    """The document in ``data``.

    Raises:
        RulesError: incomplete, damaged, too large, or not exactly what :meth:`Rules.to_bytes` writes.
    """
    if len(data) > MAX_BYTES:
        raise RulesError(f"the document is larger than {MAX_BYTES} bytes")
    if not is_complete(data):
        raise RulesError("the document is incomplete or damaged: its last line is not its SHA-256")
    try:
        rules = _rules(json.loads(data[: -_DIGEST_LINE - 1]))
    except RulesError:
        raise
    except (ValueError, RecursionError) as error:
        raise RulesError(f"the document is not JSON: {type(error).__name__}") from None
    if rules.to_bytes() != data:
        raise RulesError("the document is not in canonical form")
    return rules


def _body(rules: Rules) -> bytes:
    return canonical(
        {
            "version": VERSION,
            "generation": rules.generation,
            "fleet": rules.fleet,
            "tenants": [
                {
                    "runtime": str(each.runtime),
                    "tap": each.tap,
                    "listen": each.listen,
                    "guest": each.guest,
                    "hosts": [[host.name, host.port] for host in each.hosts],
                }
                for each in rules.tenants
            ],
        }
    )


def _rules(document: Any) -> Rules:
    fields = _object(document, "version", "generation", "fleet", "tenants")
    if fields["version"] != VERSION:
        raise RulesError(f"version {fields['version']!r} of the document is not understood, only {VERSION}")
    return Rules(fields["generation"], fields["fleet"], _each(fields["tenants"], _tenant))


def _tenant(value: Any) -> TenantRules:
    fields = _object(value, "runtime", "tap", "listen", "guest", "hosts")
    return TenantRules(
        runtime=_uuid(fields["runtime"]),
        tap=fields["tap"],
        listen=fields["listen"],
        guest=fields["guest"],
        hosts=_each(fields["hosts"], _host),
    )


def _host(value: Any) -> AllowedHost:
    if not isinstance(value, list) or len(value) != 2:
        raise RulesError("a host is a list of a name and a port")
    return AllowedHost(value[0], value[1])


def _uuid(value: Any) -> UUID:
    try:
        return UUID(value)
    except (AttributeError, TypeError, ValueError):
        raise RulesError(f"a runtime is named by a UUID, not {value!r}") from None


def _object(value: Any, *names: str) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != set(names):
        raise RulesError(f"expected an object of exactly {', '.join(names)}")
    return value


def _each(value: Any, make: Callable[[Any], _T]) -> tuple[_T, ...]:
    if not isinstance(value, list):
        raise RulesError("expected a list")
    return tuple(make(item) for item in value)


def _check_name(name: str) -> None:
    """Lower-case letters, digits and hyphens; two labels at least, the last no number: never an address."""
    labels = name.split(".") if isinstance(name, str) else []
    fits = len(labels) > 1 and len(name) <= _MAX_NAME and bool(_TOP.fullmatch(labels[-1]))
    if not fits or not all(_LABEL.fullmatch(label) for label in labels):
        raise RulesError(f"{name!r} is not an exact host name in lower case")


def _check_link(listen: str, guest: str) -> None:
    """The host's end is the first address of a private /30, the guest's the second."""
    try:
        ends = [ipaddress.IPv4Address(each) for each in (listen, guest) if isinstance(each, str)]
    except ValueError:
        ends = []
    if [str(each) for each in ends] != [listen, guest] or int(ends[0]) % 4 != 1 or ends[1] != ends[0] + 1:
        raise RulesError(f"{listen!r} and {guest!r} are not the two addresses of one /30")
    if ends[0].is_global or ends[0].is_loopback or ends[0].is_link_local:
        raise RulesError(f"{listen} is a public address, or this machine's own")


def _check_order(values: Iterable[Any], what: str) -> None:
    values = list(values)
    if values != sorted(set(values)):
        raise RulesError(f"{what} are not sorted, or one is there twice")


def _check_distinct(values: list[str], what: str) -> None:
    if len(set(values)) != len(values):
        raise RulesError(f"two runtimes have the same {what}")
