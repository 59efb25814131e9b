"""``keyring``: who may sign in to a tenant's machine, and the signatures that change it."""

import argparse
from pathlib import Path

from client import versions
from client.context import Context
from client.device import RECOVERY, Device
from client.errors import Failure, Refused, Unreachable
from client.overview import Overview, Registered, Stated
from client.pins import Distrusted
from client.portal import Portal
from client.screen import confirm, plain, say, table, warn
from protocol.keyrings import Keyring
from protocol.persons import Purpose


def show(context: Context, args: argparse.Namespace) -> int:
    """The portal's keyring beside what the guest states; 1 if they differ."""
    with context.portal(context.device()) as portal:
        if args.accept:
            _pin(context, portal.overview(args.tenant), args.tenant, args.accept)
        seen, verdict = context.judged(portal, args.tenant)
    if verdict is None:
        say(f"{args.tenant} has no keyring yet. Its owner makes the first one with: keyring init")
        return 0 if seen.stated is None or seen.stated.version is None else _differ(None, seen.stated)
    say(*_side_by_side(verdict.keyring, seen.stated), "", verdict.words)
    if seen.stated is None:
        say("The guest has not stated its keyring yet.")
        return 0
    return _differ(verdict.keyring, seen.stated)


def init(context: Context, args: argparse.Namespace) -> int:
    """The first version: this device as owner, and a recovery key in a file."""
    device = context.device()
    _must_not_exist(args.recovery)
    with context.portal_for_newcomers(device) as portal:
        seen, verdict = context.judged(portal, args.tenant)
        if verdict is not None:
            raise Failure(f"{args.tenant} has a keyring already, version {verdict.keyring.version}.")
        _register(portal, seen, args.tenant, device)
        recovery = Device.new(f"recovery key of {args.tenant}")
        document = versions.first(seen.tenant_id, device.key, device.name, recovery.key)
        signature = device.sign(Purpose.KEYRING, document)
        new = versions.checked(None, document, signature, seen.tenant_id, seen.site)
        _agreed(args, None, new, seen, device)
        recovery.save(args.recovery, RECOVERY)
        _send(context, portal, args.tenant, new, signature, fresh=args.recovery)
    say(f"Keep {args.recovery} where this device's thief does not find it. It replaces all owners' keys.")
    return 0


def add(context: Context, args: argparse.Namespace) -> int:
    """One key more, as the portal holds it; its fingerprint comes from the person."""
    device = context.device()
    with context.portal(device) as portal:
        seen, current = _to_be_changed(context, portal, args.tenant, device)
        held = seen.key(args.fingerprint) or _kept(current, args.fingerprint)
        if held is None:
            raise Failure("Nobody has registered a key of that fingerprint with this tenant.")
        document = versions.added(current, held.key, args.role, held.name)
        _sign_and_send(context, portal, args, device, seen, current, document)
    return 0


def remove(context: Context, args: argparse.Namespace) -> int:
    """One key less."""
    device = context.device()
    with context.portal(device) as portal:
        seen, current = _to_be_changed(context, portal, args.tenant, device)
        document = versions.removed(current, args.fingerprint)
        _sign_and_send(context, portal, args, device, seen, current, document)
    return 0


def recover(context: Context, args: argparse.Namespace) -> int:
    """This device as an owner by the recovery key, which is replaced."""
    device = context.device()
    _must_not_exist(args.new_recovery)
    try:
        spent = Device.load(args.recovery, RECOVERY)
    except FileNotFoundError:
        raise Failure(f"There is no file {args.recovery}.") from None
    with context.portal_for_newcomers(device) as portal:
        seen, current = _in_force(context, portal, args.tenant)
        if spent.key != current.recovery:
            raise Failure("That file is not the recovery key of the keyring in force.")
        _register(portal, seen, args.tenant, device)
        fresh = Device.new(f"recovery key of {args.tenant}")
        document = versions.recovered(current, device.key, device.name, fresh.key, args.drop)
        signature = spent.sign(Purpose.KEYRING, document)
        new = versions.checked(current, document, signature, seen.tenant_id, seen.site)
        _agreed(args, current, new, seen, device)
        fresh.save(args.new_recovery, RECOVERY)
        _send(context, portal, args.tenant, new, signature, fresh=args.new_recovery)
    say(f"The recovery key in {args.recovery} is spent: destroy it, and keep {args.new_recovery} instead.")
    return 0


def differences(current: Keyring | None, stated: Stated) -> list[str]:
    """Where the guest's keyring is another than ``current``, one sentence each."""
    if current is None or stated.version is None:
        mine = current.version if current else None
        return [] if mine == stated.version else [f"No keyring: {_versions(mine, stated.version)}."]
    found = []
    if (current.version, current.hash) != (stated.version, stated.hash):
        found.append(f"Version or hash: {_versions(current.version, stated.version)}.")
    found += [f"Only in the portal's keyring: {f}." for f in current.members.keys() - stated.fingerprints]
    found += [f"Only in the guest: {plain(f, 64)}." for f in stated.fingerprints - current.members.keys()]
    if current.recovery.fingerprint != stated.recovery:
        found.append(f"The guest has another recovery key: {plain(stated.recovery, 64)}.")
    return found


def _versions(portal: int | None, guest: int | None) -> str:
    return f"portal {portal or 'none'}, guest {guest or 'none'}"


def _differ(current: Keyring | None, stated: Stated) -> int:
    found = differences(current, stated)
    if not found:
        say("By what the portal passes on, the guest agrees. “fingerprints” asks the guest itself.")
        return 0
    for line in found:
        warn(line)
    warn(
        "WARNING: the guest holds another keyring than the portal shows. It may not have the newest one yet."
    )
    return 1


def _side_by_side(keyring: Keyring, stated: Stated | None) -> list[str]:
    guest = stated if stated is not None and stated.version is not None else None
    rows = [
        ["", "portal", "guest"],
        ["version", str(keyring.version), str(guest.version) if guest else "-"],
        ["hash", keyring.hash, guest.hash if guest else "-"],
        ["recovery", keyring.recovery.fingerprint, plain(guest.recovery, 64) if guest else "-"],
    ]
    named = zip(keyring.members.items(), keyring.document["members"], strict=True)
    for (fingerprint, member), entry in named:
        said = "-" if guest is None else "yes" if fingerprint in guest.fingerprints else "NO"
        rows.append([member.role, f"{fingerprint}  {member.key.kind}  {plain(entry['name'], 80)}", said])
    strangers = sorted(guest.fingerprints - keyring.members.keys()) if guest else []
    rows += [["?", "-", plain(fingerprint, 64)] for fingerprint in strangers]
    return table(rows)


def _pin(context: Context, seen: Overview, slug: str, accepted: str) -> None:
    # The person has compared the hash with somebody; that is worth more than what this device has seen.
    if seen.current is None or seen.current.hash != accepted:
        raise Distrusted("The keyring that the portal shows does not have that hash.")
    context.pins().put(slug, seen.current, whatever=True)


def _in_force(context: Context, portal: Portal, slug: str) -> tuple[Overview, Keyring]:
    seen, verdict = context.judged(portal, slug)
    if verdict is None:
        raise Failure(f"{slug} has no keyring yet. Its owner makes the first one with: keyring init")
    return seen, verdict.keyring


def _to_be_changed(context: Context, portal: Portal, slug: str, device: Device) -> tuple[Overview, Keyring]:
    seen, current = _in_force(context, portal, slug)
    own = current.members.get(device.key.fingerprint)
    if own is None or own.role != "owner":
        raise Failure(
            "Only an owner of the keyring in force can sign the next one; this device's key is none."
        )
    return seen, current


def _kept(current: Keyring, fingerprint: str) -> Registered | None:
    """A key that is in the keyring though nobody registers it any more: its role may still change."""
    for (found, member), entry in zip(current.members.items(), current.document["members"], strict=True):
        if found == fingerprint:
            return Registered(member.key, entry["name"], "", member.role, mine=False)
    return None


def _register(portal: Portal, seen: Overview, slug: str, device: Device) -> None:
    if seen.key(device.key.fingerprint) is None:
        portal.register(slug, device)
        say("The key of this device is now registered with the portal.")


def _sign_and_send(
    context: Context,
    portal: Portal,
    args: argparse.Namespace,
    device: Device,
    seen: Overview,
    current: Keyring,
    document: versions.Document,
) -> None:
    signature = device.sign(Purpose.KEYRING, document)
    new = versions.checked(current, document, signature, seen.tenant_id, seen.site)
    _agreed(args, current, new, seen, device)
    _send(context, portal, args.tenant, new, signature)


def _agreed(
    args: argparse.Namespace, current: Keyring | None, new: Keyring, seen: Overview, device: Device
) -> None:
    """Show the change and who is who, and go on only with the person's yes."""
    say(f"Keyring of {args.tenant}, version {new.version}:")
    if current is not None:
        say(f"  follows version {current.version}, hash {current.hash}")
    for change in versions.changes(current, new):
        whose = _whose(change.fingerprint, current, new, seen)
        own = ", THIS DEVICE" if change.fingerprint == device.key.fingerprint else ""
        say(f"  {change.mark} {change.fingerprint}  {change.words}{whose}{own}")
    confirm("Sign and send this keyring?", yes=args.yes)


def _whose(fingerprint: str, current: Keyring | None, new: Keyring, seen: Overview) -> str:
    """The name in the keyring, which an owner has signed, and the user, which is the portal's word."""
    keyring = new if fingerprint in new.members or current is None else current
    for found, entry in zip(keyring.members, keyring.document["members"], strict=True):
        if found == fingerprint:
            held = seen.key(fingerprint)
            user = f", user {held.user} ({held.role} at the portal)" if held else ""
            return f", {plain(entry['name'], 80)}{user}"
    return ""


def _send(
    context: Context,
    portal: Portal,
    slug: str,
    new: Keyring,
    signature: dict[str, str],
    fresh: Path | None = None,
) -> None:
    """Hand ``new`` in and pin it. ``fresh``: the file of a recovery key that counts from then on."""
    try:
        portal.send_keyring(slug, new, signature)
    except Failure as error:
        certain = isinstance(error, Unreachable) or (isinstance(error, Refused) and error.final)
        if certain and fresh is not None:
            fresh.unlink()
        if certain:
            raise
        keep = f" Keep {fresh}: it may be in force." if fresh else ""
        unknown = "Whether the keyring was taken is not known; look with: keyring show."
        raise Failure(f"{error} {unknown}{keep}") from None
    context.pins().put(slug, new)
    say(f"Version {new.version} is with the portal, which passes it on to the guest. Hash: {new.hash}")


def _must_not_exist(path: Path) -> None:
    if path.exists() or path.is_symlink():
        raise Failure(f"{path} exists already and is not overwritten.")
