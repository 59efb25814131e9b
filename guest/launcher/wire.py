"""What the agent may ask of the launcher: one line of JSON, checked here, whoever sent it."""

import json
import re
from dataclasses import dataclass
from typing import Any

LINE_LIMIT = 256 * 1024
MAX_ARGUMENTS = 256
MAX_ARGUMENT_BYTES = 32 * 1024
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
MAX_CONFIG_BYTES = 32 * 1024
_OF_ONE_JOB = {"job_status", "job_stop", "job_kill", "job_forget"}
_OF_THE_GATEWAY = {"gateway_status", "gateway_stop"}
LOGGED = frozenset({"gateway", "agent"})
"""Whose lines in the journal may be asked for."""
_BOUNDS = {
    "memory_bytes": (16 << 20, 64 << 30),
    "tasks": (4, 4096),
    "seconds": (1, 7 * 24 * 3600),
    "cpu_weight": (1, 1000),
    "log_bytes": (1024, 64 << 20),
}
_GATEWAY_BOUNDS = {"memory_mib": (256, 64 << 10), "heap_mib": (128, 64 << 10), "tasks": (32, 4096)}


class Refused(Exception):
    """The request is not carried out; the message says what to change."""


@dataclass(frozen=True)
class Job:
    """One job to start."""

    id: str
    argv: tuple[str, ...]
    memory_bytes: int
    tasks: int
    seconds: int
    cpu_weight: int
    log_bytes: int


@dataclass(frozen=True)
class Gateway:
    """The gateway, as it is to be started."""

    config: str
    """The text of its configuration: names of secrets, never a secret."""
    memory_mib: int
    heap_mib: int
    tasks: int


def parse(line: bytes) -> tuple[str, Job | Gateway | str]:
    """The verb and its object: a job or gateway to start, a job's id, whose journal; the gateway needs none.

    Raises:
        Refused: the line is something else.
    """
    try:
        document: Any = json.loads(line)
    except (ValueError, RecursionError):
        raise Refused("the request is not JSON") from None
    if not isinstance(document, dict):
        raise Refused("the request must be an object")
    verb = document.pop("verb", None)
    if verb == "job_start":
        return verb, _job(document)
    if isinstance(verb, str) and verb in _OF_ONE_JOB and set(document) == {"id"}:
        return verb, _id(document["id"])
    if verb == "gateway_start":
        return verb, _gateway(document)
    if isinstance(verb, str) and verb in _OF_THE_GATEWAY and not document:
        return verb, ""
    if verb == "journal" and set(document) == {"of"} and document["of"] in tuple(LOGGED):
        return verb, str(document["of"])
    raise Refused("there is no such verb with these members")


def _job(document: dict[str, Any]) -> Job:
    if set(document) != {"id", "argv", *_BOUNDS}:
        raise Refused(f"a job has exactly: id, argv, {', '.join(_BOUNDS)}")
    numbers = {name: _number(name, document[name], _BOUNDS) for name in _BOUNDS}
    return Job(id=_id(document["id"]), argv=checked_argv(document["argv"]), **numbers)


def _gateway(document: dict[str, Any]) -> Gateway:
    if set(document) != {"config", *_GATEWAY_BOUNDS}:
        raise Refused(f"a gateway has exactly: config, {', '.join(_GATEWAY_BOUNDS)}")
    numbers = {name: _number(name, document[name], _GATEWAY_BOUNDS) for name in _GATEWAY_BOUNDS}
    if numbers["heap_mib"] > numbers["memory_mib"]:
        raise Refused("heap_mib must not be above memory_mib")
    return Gateway(config=_config(document["config"]), **numbers)


def _config(value: Any) -> str:
    try:
        sound = isinstance(value, str) and len(value.encode()) <= MAX_CONFIG_BYTES
        sound = sound and isinstance(json.loads(value), dict)
    except (ValueError, RecursionError):
        sound = False
    if not sound:
        raise Refused(f"config must be the text of a JSON object of at most {MAX_CONFIG_BYTES} bytes")
    return str(value)


def checked_argv(argv: Any) -> tuple[str, ...]:
    """The command as a list of texts that a kernel can take. Raises Refused."""
    if not isinstance(argv, list) or not 1 <= len(argv) <= MAX_ARGUMENTS:
        raise Refused(f"argv must be a list of 1 to {MAX_ARGUMENTS} texts")
    if any(not isinstance(each, str) or "\0" in each for each in argv) or not argv[0]:
        raise Refused("argv must hold texts without NUL, the first of them not empty")
    if "=" in argv[0]:  # env would take it for a variable
        raise Refused("the command's name must not contain =")
    try:
        size = sum(len(each.encode()) + 1 for each in argv)
    except UnicodeEncodeError:
        raise Refused("argv must be valid Unicode") from None
    if size > MAX_ARGUMENT_BYTES:
        raise Refused(f"argv may have at most {MAX_ARGUMENT_BYTES} bytes in all")
    return tuple(argv)


def _id(value: Any) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise Refused("id must be a UUID in lower case")
    return value


def _number(name: str, value: Any, bounds: dict[str, tuple[int, int]]) -> int:
    low, high = bounds[name]
    if type(value) is not int or not low <= value <= high:
        raise Refused(f"{name} must be a whole number from {low} to {high}")
    return value
