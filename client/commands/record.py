"""``record``: what was done about the tenant, with proof; this device keeps the log's newest checkpoint."""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from client import files
from client.context import Context
from client.errors import Failure, WrongAnswer
from client.log import Log, Memory, Seen
from client.portal import Portal
from client.reading import optional, take
from client.receipts import Listed, Receipts, checked, same_tenant
from client.screen import plain, say, table, warn
from protocol.checkpoints import check_cosignature
from protocol.notes import NoteError, VerifierKey, encode
from protocol.receipts import Receipt

_LIMITS = {"at": 19, "who": 60, "what": 160}


def listing(context: Context, args: argparse.Namespace) -> int:
    """Entries, the newest first."""
    with _following(context, args.tenant) as (portal, _log, _seen):
        found = list(_entries(portal, args))
    if args.json:
        say(json.dumps(found, indent=1))
        return 0
    rows = [["id", "log", "when (UTC)", "who", "what"]]
    for one in found:
        index = optional(one, "index", int)
        texts = [plain(take(one, name, str), limit) for name, limit in _LIMITS.items()]
        rows.append([str(take(one, "id", int)), "soon" if index is None else str(index), *texts])
    say(*table(rows))
    return 0


def receipt(context: Context, args: argparse.Namespace) -> int:
    """Download one, check it, show it, and keep it if a file is named."""
    with _following(context, args.tenant) as (portal, log, seen):
        tenant_id = _tenant_id(context, portal, args.tenant)
        raw = portal.receipt(args.tenant, args.id)
        found = checked(seen, raw)
        log.fits(seen, Receipt.parse(raw).proof.note)
        same_tenant(found, tenant_id)
        Listed.of(portal.record_entry(args.tenant, args.id)).fits(found)
    if args.file is not None:
        files.create(args.file, raw)
    say(f"Entry {found.index} of {found.size} in the log {plain(found.checkpoint.origin)}, word for word:")
    # Escaped, so that a terminal obeys nothing of it.
    say(json.dumps(found.event, indent=2, ensure_ascii=True))
    say(*(f"{plain(role)} ({plain(one.kind)}): {plain(one.value)}" for role, one in found.roles))
    return 0


def verify(context: Context, args: argparse.Namespace) -> int:
    """Download and check all of the tenant's entries; with ``--machine`` ask its own machine, too."""
    with _following(context, args.tenant) as (portal, log, seen):
        tenant_id = _tenant_id(context, portal, args.tenant)
        newest, _following_page = portal.record(args.tenant, {})
        with Receipts(seen, args.file, tenant_id, map(Listed.of, newest)) as receipts:
            following: int | None = 0
            while following is not None:
                following = portal.receipts(args.tenant, following, receipts.take)
                receipts.end()
            for note in sorted(receipts.notes):
                log.fits(seen, note)
            receipts.fit_list()
        say(f"{receipts.count} entries of {args.tenant} are in the log, word for word as they are told.")
        if receipts.unproved:
            # An entry that the log has not taken yet, or one whose words stand in an archive.
            warn(f"{receipts.unproved} of the newest entries in the list came without proof: look at them.")
        if args.machine:
            with context.runtime(portal, context.device(), args.tenant) as runtime:
                _machine(log, seen, runtime.get("/v1/witness"))
    return 0


def pin(context: Context, args: argparse.Namespace) -> int:
    """Take the newest checkpoint, if it extends the one that was seen; with ``--key`` believe that key."""
    if args.key is not None:
        _believe(context, args)
    with _following(context, args.tenant) as (portal, log, seen):
        head = portal.log_head(args.tenant)
        log.fits(seen, take(head, "checkpoint", str))
    newest = seen.checkpoint
    say(f"key      {seen.key}", f"size     {newest.size}", f"root     {encode(newest.root)}")
    for line in _witnesses(head):
        say(line)
    return 0


def _tenant_id(context: Context, portal: Portal, slug: str) -> str:
    """Whose entries they must be: by the keyring that this device has seen."""
    pinned = context.pins().get(slug)
    if pinned is not None:
        return pinned.tenant_id
    seen, verdict = context.judged(portal, slug)
    if verdict is None:
        warn("There is no keyring yet: that these are this tenant's entries is the portal's word.")
    return seen.tenant_id


@contextmanager
def _following(context: Context, slug: str) -> Iterator[tuple[Portal, Log, Seen]]:
    """The portal, and its log once it is known to be the one that was seen before."""
    with context.portal(context.device()) as portal:
        log = Log(Memory(context.folder, str(context.origin())), portal, slug)
        seen, words = log.follow()
        warn(words)
        yield portal, log, seen


def _entries(portal: Portal, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    asked = {"topic": "" if args.topic == "all" else args.topic, "since": args.since, "until": args.until}
    before: int | None = None
    while True:
        found, before = portal.record(args.tenant, {**asked, "before": before})
        yield from found
        if before is None or not args.all:
            return


def _believe(context: Context, args: argparse.Namespace) -> None:
    """Begin anew with a key that somebody has told; what was seen before is kept as evidence."""
    memory = Memory(context.folder, str(context.origin()))
    before = memory.get()
    if before is not None and before.key == args.key:
        return
    with context.portal(context.device()) as portal:
        head = portal.log_head(args.tenant)
    shown = Seen(args.key, take(head, "checkpoint", str))
    try:
        shown.checkpoint  # noqa: B018 - it must be signed with that key
    except NoteError as error:
        raise Failure(f"The portal's log is not signed with that key: {plain(str(error))}.") from None
    if before is not None:
        kept = memory.keep_evidence(before, shown.note)
        warn(f"Another key than before. What this device has seen so far is in {kept}.")
    memory.put(shown, whatever=True)


def _witnesses(head: Any) -> Iterator[str]:
    """Who has signed the newest witnessed checkpoint. Signatures are checked; keys are the portal's word."""
    note = take(head, "checkpoint", str)
    for one in take(head, "witnesses", list):
        name, key = plain(take(one, "name", str), 255), take(one, "key", str)
        whose = "your own machine" if take(one, "own", bool) else name
        try:
            signed_at = check_cosignature(note, VerifierKey.parse(key))
        except NoteError as error:
            raise WrongAnswer(
                f"The portal shows a signature of {name} that is none: {plain(str(error))}."
            ) from None
        yield f"witness  {whose}, {datetime.fromtimestamp(signed_at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _machine(log: Log, seen: Seen, told: Any) -> None:
    """What the tenant's own machine has seen must be the same log.

    Raises:
        Failure: it is not, or the machine has been shown two.
    """
    if take(told, "log", str) != str(seen.key):
        raise Failure(
            "WARNING: the machine believes another log's key than this device. Ask the other owners."
        )
    if take(told, "contradictions", list):
        raise Failure(
            "WARNING: the machine has been shown logs that contradict each other. See its own page."
        )
    note = take(told, "note", str)
    if not note:
        say("The machine has seen no checkpoint yet.")
        return
    held = log.fits(seen, note)
    say(f"The machine holds the same log, as far as {held.size} entries.")
