"""The folder between worker and keeper: rule documents come in, state and records go out.

libvirt writes documents as root, in pieces; so what is incomplete is left alone until it is whole.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from provisioning.egress.rules import MAX_BYTES, file_name, generation_of, is_complete

STATE = "state.json"


def newest(folder: Path, above: int, *, not_of: int | None = None) -> tuple[int, bytes] | None:
    """The complete document of the highest generation over ``above``, or None.

    Args:
        not_of: the Unix user whose files are no documents.
    """
    for generation in sorted(_generations(folder), reverse=True):
        if generation <= above:
            break
        body = _read(folder / file_name(generation), not_of)
        if body is not None and (is_complete(body) or len(body) > MAX_BYTES):
            return generation, body
    return None


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Replace the state in one step: a reader finds the old one or the new one."""
    replace(folder / STATE, json.dumps(state, sort_keys=True).encode() + b"\n")


def read_state(folder: Path) -> dict[str, Any]:
    """What an earlier keeper said last; empty if nothing that can be read."""
    try:
        found = json.loads((folder / STATE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def replace(path: Path, data: bytes) -> None:
    """Write a file that is there whole, or as it was before, even if the machine stops in between."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        with fresh.open("wb") as sink:
            sink.write(data)
            sink.flush()
            os.fsync(sink.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def _generations(folder: Path) -> Iterator[int]:
    return iter([found for path in folder.iterdir() if (found := generation_of(path.name)) is not None])


def _read(path: Path, not_of: int | None) -> bytes | None:
    """At most one byte more than a document may have; None for what is no plain file of others' to read."""
    with (
        suppress(OSError),
        os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file,
    ):
        return None if os.fstat(file.fileno()).st_uid == not_of else file.read(MAX_BYTES + 1)
    return None
