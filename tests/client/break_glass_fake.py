"""Break-glass at the portal, as far as the client sees it: one ticket, its set, terms, and a file of receipts."""

import json
from collections.abc import Mapping
from typing import Any

from protocol.access_receipts import START, Receipt, following, head_note
from protocol.approvers import DEFAULT_POLICY, ApproverSet
from protocol.canonical import canonical
from protocol.enrolment import runtime_dns_name
from protocol.notes import COSIGNATURE_V1, vkey_of
from protocol.persons import Purpose
from protocol.receipts import Receipt as Proved
from protocol.tickets import Ticket
from protocol.verify.access import FORMAT
from tests.client.log_fake import LogFake
from tests.protocol.people import Passkey

TICKET = "33333333-3333-4333-8333-333333333333"
ASKED_AT = 1_800_000_000
GUEST_SEED = bytes(range(3, 35))


class BreakGlassFake:
    """Each document can be made to lie."""

    def __init__(self, tenant_id: str, runtime_id: str, log: LogFake) -> None:
        self.tenant_id, self.runtime_id, self.log = tenant_id, runtime_id, log
        self.portal = ""
        self.requester, self.approver = Passkey(), Passkey()
        self.state, self.needs_owner = "pending", True
        self.owner: dict[str, Any] | None = None
        self.terms: dict[str, Any] | None = None
        self.named: dict[str, Any] | None = None
        self.taken: list[dict[str, Any]] = []
        self.paths = ["reports"]
        self.read = "reports/a.txt"

    @property
    def set(self) -> dict[str, Any]:
        key = self.approver.key.public_key.hex()
        people = [{"kind": "passkey", "public_key": key, "person": "user:2", "name": "Ann"}]
        policy = dict.fromkeys(DEFAULT_POLICY, 1)
        return {"version": 1, "previous": None, "threshold": 1, "policy": policy, "approvers": people}

    @property
    def document(self) -> dict[str, Any]:
        return {
            "format": "break-glass ticket v1",
            "ticket": TICKET,
            "revision": 1,
            "kind": "ordinary",
            "tenant_id": self.tenant_id,
            "runtime_id": self.runtime_id,
            "requester": {"person": "user:1", "name": "Rita", "key": self.requester.key.public_key.hex()},
            "reason": "The nightly report stopped on Tuesday.",
            "incident": "",
            "scopes": ["workspace:read"],
            "paths": self.paths,
            "seconds": 600,
            "asked_at": ASKED_AT,
            "wait_until": ASKED_AT + 3600,
            "approvers": {"version": 1, "hash": ApproverSet.parse(self.set).hash},
            "nonce": "ab" * 16,
        }

    def signed(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        document = self.document
        request = self.requester.sign(Purpose.ACCESS_REQUEST, document, origin=self.portal)
        return request, [self.approver.sign(Purpose.APPROVAL, document, origin=self.portal)]

    def ticket(self) -> dict[str, Any]:
        request, approvals = self.signed()
        return self.listed() | {
            "revisions": [
                {
                    "revision": 1,
                    "document": self.document,
                    "digest": Ticket.parse(self.document).digest,
                    "signature": request,
                }
            ],
            "approvals": approvals,
            "owner": self.owner,
            "approvers": self.set,
            "done": [
                {"at": "2027-01-15T08:00:20", "what": "Read a file", "detail": {"path": "reports/\x1b[2J"}}
            ],
        }

    def listed(self) -> dict[str, Any]:
        return {
            "id": TICKET,
            "state": self.state,
            "requester": "Rita",
            "reason": self.document["reason"],
            "scopes": ["workspace:read"],
            "asked_at": "2027-01-15T08:00:00+00:00",
            "needs_owner": self.needs_owner,
        }

    def approvers(self) -> dict[str, Any]:
        parsed = ApproverSet.parse(self.set)
        return {
            "current": {"version": 1, "hash": parsed.hash, "document": self.set},
            "named": self.named,
            "terms": self.terms,
            "guest": {"approvers": None},
        }

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any, bytes | None]:
        given = json.loads(body) if body else {}
        if given:
            self.taken.append(given)
        match method, path.partition("?")[0].strip("/").split("/"):
            case "GET", [""]:
                return 200, {"tickets": [self.listed()], "next": None}, None
            case "GET", ["approvers"]:
                return 200, self.approvers(), None
            case "POST", ["approvers"]:
                self.named = {"version": given["version"]}
                return 200, self.approvers(), None
            case "POST", ["terms"]:
                self.terms = {"document": given["document"]}
                return 200, self.approvers(), None
            case "GET", [ticket] if ticket == TICKET:
                return 200, self.ticket(), None
            case "POST", [ticket, "approve"] if ticket == TICKET:
                self.owner, self.state = given["signature"], "approved"
                return 200, self.ticket(), None
            case "POST", [ticket, "revoke"] if ticket == TICKET:
                self.state = "revoked"
                return 200, self.ticket(), None
            case "POST", [ticket, "receipts"] if ticket == TICKET:
                return 200, None, self.file()
        return 404, {"detail": "Not found."}, None

    def seen(self) -> dict[str, Any]:
        """What the machine notes of who has signed."""
        return {"people": ["user:2"], "owner": self.owner["by"] if self.owner else ""}

    def chain(self) -> list[Receipt]:
        digest = Ticket.parse(self.document).digest
        found: list[Receipt] = []
        read = {"scope": "workspace:read", "method": "GET", "path": self.read}
        for number, (event, detail) in enumerate(
            (("granted", self.seen()), ("access", read), ("ended", {})), 1
        ):
            found.append(
                following(
                    found[-1].position if found else START,
                    runtime_id=self.runtime_id,
                    at=ASKED_AT + number,
                    ticket=TICKET,
                    digest=digest,
                    event=event,
                    token="",
                    detail=detail,
                )
            )
        return found

    def file(self) -> bytes:
        request, approvals = self.signed()
        chain = self.chain()
        name = runtime_dns_name(self.runtime_id)
        guest = str(vkey_of(name, GUEST_SEED, COSIGNATURE_V1))
        entries = [
            self._entry("witness.registered", {"type": "witness", "id": "1"}, {"name": name, "vkey": guest}),
            self._entry(
                "break_glass.receipts",
                {"type": "runtime", "id": self.runtime_id},
                {"from": 1, "to": chain[-1].seq, "head": chain[-1].hash},
            ),
        ]
        grant = {"document": self.document, "request": request, "approvals": approvals, "owner": None}
        header: dict[str, Any] = {"format": FORMAT, "tenant": self.tenant_id, "runtime": self.runtime_id}
        header |= {"rp_id": "portal.localhost", "origins": [self.portal]}
        lines: list[Mapping[str, Any]] = [
            header | {"after": {"seq": 0, "hash": START[1]}},
            {"set": self.set},
            {"grant": grant},
            *({"receipt": one.document} for one in chain),
            {"head": head_note(self.runtime_id, chain[-1].position, GUEST_SEED)},
            *({"entry": Proved.parse(self.log.receipt(index)).to_json()} for index in entries),
        ]
        return "".join(json.dumps(line) + "\n" for line in lines).encode()

    def _entry(self, action: str, target: dict[str, str], data: dict[str, Any]) -> int:
        event = {"action": action, "at": "2027-01-15T08:01:00", "data": data, "target": target}
        self.log.events.append(canonical({**event, "tenant": self.tenant_id}).decode())
        return len(self.log.events) - 1
