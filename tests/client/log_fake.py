"""The portal's record and its log, as far as the client sees them; with every way to lie that it must notice."""

import json
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

from protocol.canonical import canonical
from protocol.checkpoints import Checkpoint, cosign, hash_lines, signed
from protocol.merkle import consistency_proof, inclusion_proof, leaf_hash, root
from protocol.notes import COSIGNATURE_V1, Note, vkey_of
from protocol.receipts import Proof, Receipt

NAME = "portal.localhost/log/test"
WITNESS = "machine.runtime.internal"
Told = tuple[int, Any, bytes | None, dict[str, str], dict[str, str]]


class LogFake:
    """A log of this tenant's and others' entries."""

    def __init__(self, tenant_id: str) -> None:
        self.tenant_id = tenant_id
        self.seed, self.witness_seed = b"\5" * 32, b"\6" * 32
        self.events: list[str] = []
        self.part = 3
        """Receipts in one download."""
        self.disputed: list[str] = []
        self.machine: dict[str, Any] = {"log": self.key, "contradictions": [], "note": ""}
        for number in range(5):
            self.add(f"first.{number}")
            self.add("theirs", tenant="another")

    @property
    def key(self) -> str:
        return str(vkey_of(NAME, self.seed))

    def add(self, action: str, tenant: str | None = None) -> None:
        event = {"action": action, "at": f"2026-01-01T00:00:{len(self.events):02}", "data": {}}
        self.events.append(canonical({**event, "tenant": tenant or self.tenant_id}).decode())

    def rewrite(self, index: int = 0) -> None:
        """What somebody with the database and the key can do."""
        self.events[index] = self.events[index].replace("first", "other")

    @property
    def leaves(self) -> list[bytes]:
        return [leaf_hash(event.encode()) for event in self.events]

    def note(self, size: int | None = None) -> str:
        size = len(self.events) if size is None else size
        return signed(Checkpoint(NAME, size, root(self.leaves[:size])), self.seed, NAME)

    def answer(self, method: str, path: str, body: bytes) -> Told:
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        match method, parts.path.strip("/").split("/"):
            case "GET", [""]:
                return self._list(query)
            case "GET", ["checkpoint"]:
                return self._head()
            case "POST", ["checkpoint"]:
                self.disputed.append(json.loads(body)["checkpoint"])
                return _told(409, {"code": "forked", "detail": "forked"})
            case "GET", ["consistency"]:
                return self._consistency(int(query["old"]), int(query.get("size", len(self.events))))
            case "POST", ["receipts"]:
                return self._receipts(json.loads(body).get("after", 0))
            case "GET", [index] if int(index) - 1 in self._own():
                return _told(200, self.told(int(index) - 1))
            case "GET", [index, "receipt"] if int(index) - 1 in self._own():
                return 200, None, self.receipt(int(index) - 1).encode(), {}, {}
        return _told(404, {"detail": "Not found."})

    def receipt(self, index: int) -> str:
        hashes = tuple(inclusion_proof(self.leaves, index, len(self.events)))
        return Receipt(self.events[index], Proof(index, hashes, self.note())).to_json()

    def _own(self) -> list[int]:
        return [
            index for index, event in enumerate(self.events) if json.loads(event)["tenant"] == self.tenant_id
        ]

    def _list(self, query: dict[str, str]) -> Told:
        before = int(query.get("before", 10**9))
        rows = [index for index in reversed(self._own()) if index + 1 < before]
        told = [self.told(index) for index in rows[:4]]
        return _told(200, {"entries": told, "next": rows[3] + 1 if len(rows) > 4 else None})

    def told(self, index: int) -> dict[str, Any]:
        """As the list has it."""
        event = json.loads(self.events[index])
        told = {"id": index + 1, "index": index, "who": "owner", "what": self.events[index]}
        return {**told, "at": event["at"], "action": event["action"]}

    def _head(self) -> Told:
        line = cosign(self.note(), WITNESS, self.witness_seed, int(time.time()))
        key = str(vkey_of(WITNESS, self.witness_seed, COSIGNATURE_V1))
        note = Note.parse(self.note()).signed_also(line).to_text()
        witness = {"name": WITNESS, "key": key, "own": True, "at": ""}
        return _told(200, {"key": self.key, "checkpoint": note, "witnesses": [witness]})

    def _consistency(self, old: int, size: int) -> Told:
        if not 0 < old <= size <= len(self.events):
            return _told(409, {"code": "unknown_size", "detail": "no such size"})
        proof = hash_lines(consistency_proof(self.leaves, old, size))
        return _told(200, {"old": old, "size": size, "proof": proof, "checkpoint": self.note(size)})

    def _receipts(self, after: int) -> Told:
        rows = [index for index in self._own() if index + 1 > after]
        raw = "".join(f"{self.receipt(index)}\n" for index in rows[: self.part]).encode()
        more = {"Portal-Next": str(rows[self.part - 1] + 1)} if len(rows) > self.part else {}
        return 200, None, raw, {}, more


def _told(status: int, document: Any) -> Told:
    return status, document, None, {}, {}
