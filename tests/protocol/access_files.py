"""An export of break-glass to test with: a ticket, who signed it, what a guest noted, and the log's entries."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from protocol.access_receipts import START, Receipt, following, head_note
from protocol.approvers import DEFAULT_POLICY, ApproverSet
from protocol.canonical import canonical
from protocol.enrolment import runtime_dns_name
from protocol.notes import COSIGNATURE_V1, vkey_of
from protocol.persons import Purpose
from protocol.tickets import Ticket
from protocol.verify.access import FORMAT
from tests.protocol.logs import Log
from tests.protocol.people import RP_ID, Device, Passkey, keyring

PORTAL = "http://portal.localhost:8000"
TENANT, RUNTIME = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
TICKET = "33333333-3333-4333-8333-333333333333"
NOW = 1_800_000_000
GUEST_SEED = bytes(range(2, 34))
GUEST = vkey_of(runtime_dns_name(RUNTIME), GUEST_SEED, COSIGNATURE_V1)
OWNER = Device(b"\x07" * 32)


def _named(person: str, name: str, passkey: Passkey) -> dict[str, str]:
    return {"kind": "passkey", "public_key": passkey.key.public_key.hex(), "person": person, "name": name}


@dataclass
class AccessFile:
    """Each part can be made to lie before :meth:`write`."""

    requester: Passkey = field(default_factory=Passkey)
    approvers: tuple[Passkey, Passkey] = field(default_factory=lambda: (Passkey(), Passkey()))
    more: dict[str, Any] = field(default_factory=dict)
    """Replaces members of the ticket."""
    deeds: list[tuple[str, int, dict[str, Any]]] = field(
        default_factory=lambda: [
            ("granted", NOW + 10, {}),
            ("session", NOW + 12, {}),
            ("access", NOW + 20, {"scope": "workspace:read", "method": "GET", "path": "reports/a.txt"}),
            ("outcome", NOW + 21, {"status": 200, "bytes": 7}),
            ("ended", NOW + 30, {"code": "done"}),
        ]
    )
    by_owner: bool = True
    noted: dict[str, Any] = field(default_factory=dict)
    """Replaces members of what the guest has noted of the signers."""
    signers: int = 2
    entries_of: str = TENANT
    lines: list[dict[str, Any]] = field(init=False)

    def make(self) -> "AccessFile":
        """Sign everything as it stands."""
        people = [_named(f"user:{n}", f"Person {n}", key) for n, key in enumerate(self.approvers, 2)]
        document = {
            "version": 1,
            "previous": None,
            "threshold": 2,
            "policy": {**DEFAULT_POLICY, "workspace:read": 2},
            "approvers": people,
        }
        asked = self.ticket(ApproverSet.parse(document))
        ticket = Ticket.parse(asked)
        grant = {
            "document": asked,
            "request": self.requester.sign(Purpose.ACCESS_REQUEST, asked, origin=PORTAL),
            "approvals": [
                key.sign(Purpose.APPROVAL, asked, origin=PORTAL) for key in self.approvers[: self.signers]
            ],
            "owner": OWNER.sign(Purpose.OWNER_APPROVAL, asked) if self.by_owner else None,
        }
        chain = self.chain(ticket)
        head = {"to": chain[-1].seq, "from": 1, "head": chain[-1].hash}
        log = Log(
            [
                _event(
                    self.entries_of,
                    "witness.registered",
                    ("witness", "5"),
                    {"name": GUEST.name, "vkey": str(GUEST)},
                ),
                _event(self.entries_of, "break_glass.receipts", ("runtime", RUNTIME), head),
            ]
        )
        owner = {"kind": "device", "public_key": OWNER.key.public_key.hex(), "role": "owner", "name": "Owner"}
        self.lines = [
            {
                "format": FORMAT,
                "tenant": TENANT,
                "runtime": RUNTIME,
                "rp_id": RP_ID,
                "origins": [PORTAL],
                "after": {"seq": 0, "hash": START[1]},
            },
            {"set": document},
            {"keyring": keyring(TENANT, owner)},
            {"grant": grant},
            *({"receipt": one.document} for one in chain),
            {"head": head_note(RUNTIME, chain[-1].position, GUEST_SEED)},
            *({"entry": log.receipt(index).to_json()} for index in (0, 1)),
        ]
        return self

    def ticket(self, approvers: ApproverSet) -> dict[str, Any]:
        return {
            "format": "break-glass ticket v1",
            "ticket": TICKET,
            "revision": 1,
            "kind": "ordinary",
            "tenant_id": TENANT,
            "runtime_id": RUNTIME,
            "requester": {
                "person": "user:1",
                "name": "Rita Requester",
                "key": self.requester.key.public_key.hex(),
            },
            "reason": "The nightly report stopped, and the owner asked us to look.",
            "incident": "",
            "scopes": ["workspace:read"],
            "paths": ["reports"],
            "seconds": 600,
            "asked_at": NOW,
            "wait_until": NOW + 3600,
            "approvers": {"version": approvers.version, "hash": approvers.hash},
            "nonce": "ab" * 16,
            **self.more,
        }

    def chain(self, ticket: Ticket) -> list[Receipt]:
        made: list[Receipt] = []
        owner = OWNER.key.fingerprint if self.by_owner else ""
        seen = {"people": [f"user:{n}" for n in range(2, 2 + self.signers)], "owner": owner, **self.noted}
        for event, at, more in self.deeds:
            detail = seen | more if event == "granted" else more
            after = made[-1].position if made else START
            made.append(
                following(
                    after,
                    runtime_id=RUNTIME,
                    at=at,
                    ticket=ticket.ticket,
                    digest=ticket.digest,
                    event=event,
                    token="",
                    detail=detail,
                )
            )
        return made

    def change(self, name: str, change: Callable[[Any], Any], which: int = 0) -> "AccessFile":
        """Replace the value of one of the lines called ``name``."""
        line = [one for one in self.lines if name in one][which]
        line[name] = change(line[name])
        return self

    def without(self, name: str, which: int = 0) -> "AccessFile":
        self.lines.remove([one for one in self.lines if name in one][which])
        return self

    def write(self, path: Path) -> Path:
        path.write_text("".join(json.dumps(line) + "\n" for line in self.lines))
        return path


def _event(tenant: str, action: str, target: tuple[str, str], data: dict[str, Any]) -> str:
    document = {
        "version": 2,
        "action": action,
        "tenant": tenant,
        "target": {"type": target[0], "id": target[1]},
        "data": data,
    }
    return canonical(document).decode()
