"""``key``: the key of this device."""

import argparse
import platform

from client.context import Context
from client.device import DEVICE, Device
from client.screen import plain, say


def new(context: Context, args: argparse.Namespace) -> int:
    """Make it, once. A portal given on the command line is remembered."""
    origin = context.origin() if args.portal else None
    made = Device.new(args.name or plain(platform.node(), 80) or "device")
    made.save(context.key_path, DEVICE)
    if origin is not None:
        context.remember(origin)
    return _tell(made)


def show(context: Context, _args: argparse.Namespace) -> int:
    """Its public half."""
    return _tell(context.device())


def register(context: Context, args: argparse.Namespace) -> int:
    """Make it known to the portal, after a sign-in with a password."""
    device = context.device()
    with context.portal_by_password() as portal:
        if portal.overview(args.tenant).key(device.key.fingerprint) is None:
            portal.register(args.tenant, device)
            say("The key is registered. An owner has to add it to the keyring before it opens anything.")
        else:
            say("The key was registered before.")
    return _tell(device)


def _tell(device: Device) -> int:
    say(f"name         {plain(device.name, 80)}")
    say(f"public key   {device.key.public_key.hex()}")
    say(f"fingerprint  {device.key.fingerprint}")
    return 0
