"""``consent``: what an owner agrees to, signed."""

import argparse
from typing import Any

from client.context import Context
from client.errors import Failure
from client.overview import Overview
from client.reading import take
from client.screen import confirm, say, warn
from protocol.keyrings import Keyring
from protocol.persons import Purpose, SignatureError, verify

_NAMES = {"agents": "agents   ", "always_on": "always-on"}
_ON = {"on": True, "off": False}
_WORDS = {True: "on", False: "off", None: "not decided"}


def consent(context: Context, args: argparse.Namespace) -> int:
    """Show what holds; with options, sign what is to hold from now on."""
    device = context.device()
    with context.portal(device) as portal:
        seen, verdict = context.judged(portal, args.tenant)
        present = _present(seen, verdict.keyring if verdict else None)
        if args.agents is None and args.always_on is None:
            say(*(f"{words}  {_WORDS[present.get(name)]}" for name, words in _NAMES.items()))
            return 0
        own = verdict.keyring.members.get(device.key.fingerprint) if verdict else None
        if own is None or own.role != "owner":
            raise Failure("Only an owner in the keyring can agree to this; this device's key is none.")
        document = {"version": _version(seen) + 1, "tenant_id": seen.tenant_id, **_wanted(args, present)}
        for name, words in _NAMES.items():
            say(f"{words}  {_WORDS[present.get(name)]} → {_WORDS[document[name]]}")
        confirm(f"Sign this for {args.tenant}?", yes=args.yes)
        portal.send_consents(args.tenant, document, device.sign(Purpose.CONSENT, document))
    say("It is with the portal, which passes it on to the guest.")
    return 0


def _wanted(args: argparse.Namespace, present: dict[str, Any]) -> dict[str, Any]:
    """What is to hold: as given, else as it is, else off."""
    agents = _ON.get(args.agents, present.get("agents", False))
    # Nothing can be always on while agents may not run.
    always_on = _ON.get(args.always_on, present.get("always_on", False) and agents)
    if always_on and not agents:
        raise Failure("Always-on needs agents. Give --agents on too.")
    return {"agents": agents, "always_on": always_on}


def _version(seen: Overview) -> int:
    return take(seen.consents.document, "version", int) if seen.consents else 0


def _present(seen: Overview, keyring: Keyring | None) -> dict[str, Any]:
    """What holds, if an owner has signed it: the portal's word alone is not made the person's."""
    if seen.consents is None:
        return {}
    document, signature = seen.consents.document, seen.consents.signature
    by = signature.get("by")
    signer = keyring.members.get(by) if keyring and isinstance(by, str) else None
    try:
        if signer is None or signer.role != "owner" or document.get("tenant_id") != seen.tenant_id:
            raise SignatureError("no owner's")
        verify(signer.key, signature, Purpose.CONSENT, document, seen.site)
    except SignatureError:
        warn("What the portal shows as agreed is signed by no owner of today; it is taken as not decided.")
        return {}
    return {name: take(document, name, bool) for name in _NAMES}
