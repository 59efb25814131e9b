"""``break-glass``: who of the staff asks for access, who has it and what they did; owners sign and stop."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from client.context import Context
from client.device import Device
from client.errors import Failure
from client.log import Log, Memory
from client.overview import Overview
from client.pins import Verdict
from client.portal import Portal
from client.reading import hash_of, optional, take
from client.receipts import created
from client.screen import confirm, plain, say, table, warn
from client.tickets import Shown
from protocol.approvers import ApproversError, ApproverSet, naming_document
from protocol.persons import Purpose
from protocol.terms import DEFAULT_MODE
from protocol.verify.access import verify_access
from protocol.verify.outcome import Keys, VerificationError

KINDS = ("ordinary", "emergency")
MAX_FILE_BYTES = 1024 * 1024 * 1024


def listing(context: Context, args: argparse.Namespace) -> int:
    """Tickets, the newest first, by the portal's word."""
    rows = [["id", "state", "who", "for", "asked (UTC)", "why"]]
    with context.portal(context.device()) as portal:
        page: int | None = 1
        while page is not None:
            found, page = portal.tickets(args.tenant, page)
            rows += [_row(one) for one in found]
            page = page if args.all else None
    say(*table(rows))
    return 0


def show(context: Context, args: argparse.Namespace) -> int:
    """One ticket; every signature under it is checked here."""
    with _signed_in(context, args.tenant) as (portal, seen, verdict, _device):
        shown = _shown(portal, args, seen, verdict)
    say(*shown.lines())
    for one in shown.done:
        detail = take(one, "detail", dict)
        where = " ".join(plain(str(detail[name])) for name in ("path", "name", "argv") if name in detail)
        say(f"{plain(take(one, 'at', str), 19)}  {plain(take(one, 'what', str), 80)}  {where}".rstrip())
    if shown.done:
        warn("What was done is the portal's word. The machine's own, with proof: break-glass receipts.")
    return 0


def approve(context: Context, args: argparse.Namespace) -> int:
    """Sign this very ticket as an owner."""
    with _signed_in(context, args.tenant) as (portal, seen, verdict, device):
        _only_owner(device, verdict)
        shown = _shown(portal, args, seen, verdict)
        say(*shown.lines())
        confirm("Let this in?", yes=args.yes)
        signature = device.sign(Purpose.OWNER_APPROVAL, dict(shown.ticket.document))
        told = portal.approve_ticket(args.tenant, args.id, shown.ticket.revision, signature)
    say(f"It is signed. The ticket is {plain(take(told, 'state', str), 20)} now.")
    return 0


def revoke(context: Context, args: argparse.Namespace) -> int:
    """End a ticket, whether it waits or runs."""
    with context.portal(context.device()) as portal:
        told = portal.revoke_ticket(args.tenant, args.id, args.why)
    say(
        f"The ticket is {plain(take(told, 'state', str), 20)}. The machine is told until it says "
        "that it is over, usually within seconds."
    )
    return 0


def receipts(context: Context, args: argparse.Namespace) -> int:
    """Download what the machine has noted, and check all of it."""
    with _signed_in(context, args.tenant) as (portal, seen, _verdict, _device):
        log = Log(Memory(context.folder, str(context.origin())), portal, args.tenant)
        known, words = log.follow()
        warn(words)
        with created(args.file) as file:
            portal.access_receipts(args.tenant, args.id, lambda _status, part: _write(file, part))
        try:
            found = verify_access(args.file, Keys(known.key))
        except VerificationError as error:
            raise Failure(
                f"WARNING: the receipts prove nothing: {plain(str(error))}. They are in {args.file}."
            ) from None
        log.fits(known, found.note)
        if found.tenant_id != seen.tenant_id:
            raise Failure("WARNING: the portal sent another tenant's receipts.")
    say(*found.deeds)
    if found.anchored < found.last:
        warn(f"Receipts after {found.anchored} are not in the log yet: the machine alone signs them.")
    say(f"Receipts {found.first} to {found.last}: all signed by the machine, and within their tickets.")
    return 0


def approvers(context: Context, args: argparse.Namespace) -> int:
    """Whom the machine believes; with ``--name`` have it believe the set in force."""
    with _signed_in(context, args.tenant) as (portal, seen, verdict, device):
        told = portal.approvers(args.tenant)
        current = _current(told)
        if args.name is not None:
            _only_owner(device, verdict)
            if current is None or args.name != current.hash:
                raise Failure("Another set is in force. Look at it with: break-glass approvers TENANT")
            say(*_set_lines(current))
            confirm("Name them? You can close this way later, but not take it back.", yes=args.yes)
            signature = device.sign(Purpose.NAMING, naming_document(seen.tenant_id, current))
            told = portal.name_approvers(args.tenant, current.version, signature)
    say(*(_set_lines(current) if current else ["There are no approvers yet."]))
    named, stated = optional(told, "named", dict), optional(take(told, "guest", dict), "approvers", dict)
    version = take(named, "version", int) if named else 0
    say(f"named      {f'version {version}, by an owner' if version else 'no: nobody can be let in'}")
    say(f"machine    {f'states {_stated(stated)}' if stated else 'has stated none yet'}")
    return 0


def terms(context: Context, args: argparse.Namespace) -> int:
    """On which terms staff come in; with options, sign what is to hold from now on."""
    with _signed_in(context, args.tenant) as (portal, seen, verdict, device):
        told = portal.approvers(args.tenant)
        present, version = _terms(told)
        wanted = {kind: getattr(args, kind) or present[kind] for kind in KINDS}
        if args.ordinary is None and args.emergency is None:
            say(*(f"{kind:10} {mode}" for kind, mode in present.items()))
            return 0
        _only_owner(device, verdict)
        say(*(f"{kind:10} {present[kind]} → {wanted[kind]}" for kind in KINDS))
        confirm(f"Sign this for {args.tenant}?", yes=args.yes)
        document = {"version": version + 1, "tenant_id": seen.tenant_id, **wanted}
        portal.send_terms(args.tenant, document, device.sign(Purpose.TERMS, document))
    say("It is with the portal, which passes it on to the machine.")
    return 0


@contextmanager
def _signed_in(context: Context, slug: str) -> Iterator[tuple[Portal, Overview, Verdict | None, Device]]:
    device = context.device()
    with context.portal(device) as portal:
        seen, verdict = context.judged(portal, slug)
        yield portal, seen, verdict, device


def _shown(portal: Portal, args: argparse.Namespace, seen: Overview, verdict: Verdict | None) -> Shown:
    told = portal.ticket(args.tenant, args.id)
    shown = Shown.read(told, portal.origin, seen.tenant_id, verdict.keyring if verdict else None)
    if shown.ticket.ticket != args.id:
        raise Failure("WARNING: the portal shows another ticket than the one that was asked for.")
    return shown


def _only_owner(device: Device, verdict: Verdict | None) -> None:
    own = verdict.keyring.members.get(device.key.fingerprint) if verdict else None
    if own is None or own.role != "owner":
        raise Failure("Only an owner in the keyring signs this; this device's key is none.")


def _current(told: Any) -> ApproverSet | None:
    current = optional(told, "current", dict)
    if current is None:
        return None
    try:
        found = ApproverSet.parse(take(current, "document", dict))
    except ApproversError as error:
        raise Failure(f"The portal shows a set that is malformed: {plain(str(error))}.") from None
    if found.hash != hash_of(current, "hash"):
        raise Failure("WARNING: the portal shows a set under another one's hash. Do not sign anything.")
    return found


def _stated(told: Any) -> str:
    return hash_of(told, "hash")


def _set_lines(found: ApproverSet) -> Iterator[str]:
    yield f"set        version {found.version}, hash {found.hash}"
    for one in found.document["approvers"]:
        yield f"approver   {plain(one['name'], 80)} ({plain(one['person'], 80)})"
    yield f"approvals  {', '.join(f'{name} {count}' for name, count in sorted(found.policy.items()))}"
    yield f"successors by the signatures of {found.threshold}"


def _terms(told: Any) -> tuple[dict[str, str], int]:
    """What holds by the portal's word, and its version. Whoever signs on it sees both."""
    found = optional(told, "terms", dict)
    if found is None:
        return dict.fromkeys(KINDS, DEFAULT_MODE), 0
    document = take(found, "document", dict)
    return {kind: plain(take(document, kind, str), 20) for kind in KINDS}, take(document, "version", int)


def _row(one: Any) -> list[str]:
    scopes = ", ".join(plain(str(scope), 20) for scope in take(one, "scopes", list))
    asked = plain(take(one, "asked_at", str), 19)
    who, why = plain(take(one, "requester", str), 40), plain(take(one, "reason", str), 60)
    return [plain(take(one, "id", str), 36), plain(take(one, "state", str), 12), who, scopes, asked, why]


def _write(file: Any, part: bytes) -> None:
    file.write(part)
    if file.tell() > MAX_FILE_BYTES:
        raise Failure(f"The portal sent more than {MAX_FILE_BYTES} bytes of receipts.")
