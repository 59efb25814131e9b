"""``secrets``: a connector's credentials, sealed here to the key that the guest itself states."""

import argparse

from client.context import Context
from client.errors import Failure
from client.overview import Stated
from client.reading import take
from client.screen import confirm, hidden, plain, say, table, warn
from client.sealing import SealingKeys, judge
from protocol.sealed import MAX_SECRET_BYTES, key_id, seal


def listing(context: Context, args: argparse.Namespace) -> int:
    """Names, versions and states. Nobody can read a value back."""
    with context.portal(context.device()) as portal:
        found = portal.secrets(args.tenant)
    rows = [["name", "version", "state", "saved by", ""]]
    for one in found:
        told = [plain(take(one, name, str), 64) for name in ("name", "state")]
        by, advice = plain(str(one.get("created_by") or "-")), plain(take(one, "advice", str))
        rows.append([told[0], str(take(one, "version", int)), told[1], by, advice])
    say(*table(rows))
    return 0


def put(context: Context, args: argparse.Namespace) -> int:
    """Seal and save. The value comes from standard input, or is asked for; never from the command line."""
    device = context.device()
    keys = SealingKeys(context.folder, str(context.origin()))
    value = _value()
    with context.portal(device) as portal:
        shown = portal.sealing_key(args.tenant)
        with context.runtime(portal, device, args.tenant) as runtime:
            stated = Stated.read_members(runtime.get("/v1/members"))
        known = keys.get(args.tenant)
        key = judge(stated.sealing_public_key, shown, known, args.accept)
        if known is None:
            warn(f"This device seals to the key {key_id(key)} for the first time.")
        keys.put(args.tenant, key)
        kept = portal.put_secret(args.tenant, args.name, key_id(key), seal(key, value))
    say(f"{args.name} is saved as version {take(kept, 'version', int)}; the machine gets it once ready.")
    return 0


def revoke(context: Context, args: argparse.Namespace) -> int:
    """Have the portal erase it and the machine forget it."""
    confirm(f"Revoke {args.name} of {args.tenant}? Nobody can bring it back.", yes=args.yes)
    with context.portal(context.device()) as portal:
        kept = portal.revoke_secret(args.tenant, args.name)
    done = take(kept, "state", str) == "revoked"
    say(f"{args.name} is revoked." if done else f"{args.name} is being revoked; the machine has to confirm.")
    return 0


def _value() -> bytes:
    value = hidden("Value (not shown): ", MAX_SECRET_BYTES)
    if not value:
        raise Failure("There is no value. Type it, or send it to standard input.")
    if len(value) > MAX_SECRET_BYTES:
        raise Failure(f"The value is too long. It may have at most {MAX_SECRET_BYTES} bytes.")
    return value
