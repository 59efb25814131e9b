"""A stand-in for the egress keeper, for hosts without machines: it obeys a document by noting that it did."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provisioning.driver.egress import STATE_FILE
from provisioning.egress.rules import Rules, RulesError, parse


@dataclass(frozen=True)
class LocalKeeper:
    """Speaks through ``folder`` as the keeper of a real host does."""

    folder: Path

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One worker at a time, of all processes: a real host's keeper and libvirt are one process each."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def follow(self, generation: int, body: bytes) -> None:
        """Take over a document newer than the last; note why, if it is none."""
        state = self._state()
        if generation <= max(state["generation"], state["refused"]):
            return
        try:
            told = self._obeyed(parse(body))
        except RulesError as error:
            told = {"ok": False, "problem": str(error)[:300], "refused": generation}
        self._write({**state, **told, "seen_at": int(time.time())})

    def read(self, name: str, offset: int, length: int) -> bytes | None:
        """A part of a file; None if it is not there."""
        try:
            with (self.folder / name).open("rb") as file:
                file.seek(offset)
                return file.read(length)
        except FileNotFoundError:
            return None

    def _obeyed(self, rules: Rules) -> dict[str, Any]:
        return {
            "generation": rules.generation,
            "digest": rules.digest,
            "applied_at": int(time.time()),
            "ok": True,
            "problem": "",
            "refused": 0,
            "serving": [str(each.runtime) for each in rules.tenants],
        }

    def _state(self) -> dict[str, Any]:
        found = self.read(STATE_FILE, 0, -1)
        return json.loads(found) if found else dict(_NEW)

    def _write(self, state: dict[str, Any]) -> None:
        fresh = self.folder / f".{STATE_FILE}.new"
        fresh.write_text(json.dumps(state))
        fresh.replace(self.folder / STATE_FILE)


_NEW = {
    "version": 1,
    "generation": 0,
    "digest": "",
    "applied_at": 0,
    "seen_at": 0,
    "ok": True,
    "problem": "",
    "refused": 0,
    "serving": [],
    "dropped": {},
    "records": {"first": 1, "last": 1},
    "capabilities": ["walls"],
}
