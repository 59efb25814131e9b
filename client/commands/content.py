"""What a member asks the guest itself, in a session of this device's key."""

import argparse
from typing import Any

from client.commands.keyring import differences
from client.context import Context
from client.errors import Failure
from client.overview import Overview, Stated
from client.pins import judge
from client.reading import objects, take
from client.screen import plain, say, table, warn
from protocol.keyrings import Keyring


def whoami(context: Context, args: argparse.Namespace) -> int:
    """One's own session."""
    found = _get(context, args.tenant, "/v1/session")
    for name in ("name", "role", "kind", "fingerprint"):
        say(f"{name:12} {plain(take(found, name, str))}")
    say(f"{'ends in':12} {take(found, 'seconds_left', int) // 60} min")
    return 0


def sessions(context: Context, args: argparse.Namespace) -> int:
    """All sessions, or an end to all others."""
    if args.action == "end":
        device = context.device()
        with context.portal(device) as portal, context.runtime(portal, device, args.tenant) as runtime:
            ended = take(runtime.post("/v1/sessions/end"), "ended", int)
        say(f"Ended {ended} other session{'' if ended == 1 else 's'}.")
        return 0
    rows = [["name", "role", "kind", "fingerprint", "began", ""]]
    for entry in objects(_get(context, args.tenant, "/v1/sessions"), "sessions"):
        texts = [plain(take(entry, name, str), 80) for name in ("name", "role", "kind", "fingerprint")]
        began = f"{take(entry, 'began_seconds_ago', int) // 60} min ago"
        rows.append([*texts, began, "this one" if take(entry, "own", bool) else ""])
    say(*table(rows))
    return 0


def fingerprints(context: Context, args: argparse.Namespace) -> int:
    """Guest, portal and this device's memory must say the same; 1 if they do not."""
    device, pins = context.device(), context.pins()
    with context.portal(device) as portal:
        seen, pinned = portal.overview(args.tenant), pins.get(args.tenant)
        with context.runtime(portal, device, args.tenant) as runtime:
            stated = Stated.read_members(runtime.get("/v1/members"))
    say(f"version      {stated.version or 'none'}", f"hash         {stated.hash or '-'}")
    say(*(f"key          {fingerprint}" for fingerprint in sorted(stated.fingerprints)))
    say(
        f"recovery     {plain(stated.recovery, 64) or '-'}",
        f"sealing key  {plain(stated.sealing_public_key, 64)}",
    )
    found = [*differences(seen.current, stated), *_sealing(seen, stated), *_memory(pinned, seen, stated)]
    for line in found:
        warn(line)
    if found:
        raise Failure("WARNING: they do not agree. Do not sign anything; ask another owner what they see.")
    if seen.current is not None:
        pins.put(args.tenant, seen.current)
    say("Guest, portal and what this device has seen agree.")
    return 0


def _sealing(seen: Overview, stated: Stated) -> list[str]:
    told = seen.stated.sealing_public_key if seen.stated else ""
    if not told or told == stated.sealing_public_key:
        return []
    return [f"The portal shows another sealing key than the guest: {plain(told, 64)}."]


def _memory(pinned: Keyring | None, seen: Overview, stated: Stated) -> list[str]:
    """Against the pins: what the portal shows, and what the guest states."""
    found = []
    try:
        judge(pinned, seen)
    except Failure as error:
        found.append(str(error))
    if pinned is not None and stated.version is not None:
        if stated.version < pinned.version:
            found.append(f"The guest is at version {stated.version}; this device has seen {pinned.version}.")
        if stated.version == pinned.version and stated.hash != pinned.hash:
            found.append(f"The guest has another version {pinned.version} than this device has seen.")
    return found


def _get(context: Context, slug: str, path: str) -> Any:
    device = context.device()
    with context.portal(device) as portal, context.runtime(portal, device, slug) as runtime:
        return runtime.get(path)
