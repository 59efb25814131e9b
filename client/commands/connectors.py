"""``connectors``: what the machine may reach outside. Owners turn on and off what staff have allowed."""

import argparse

from client.context import Context
from client.reading import objects, take
from client.screen import plain, say, table


def listing(context: Context, args: argparse.Namespace) -> int:
    """How each stands, and who changed it; with ``--hosts`` what each reaches."""
    with context.portal(context.device()) as portal:
        found = portal.connectors(args.tenant)
    rows = [["connector", "state", "last change"]]
    for one in found:
        rows.append([plain(take(one, name, str), 80) for name in ("connector", "state", "change")])
        if args.hosts:
            rows += [
                [f"  {_place(reach)}", "", plain(take(reach, "why", str))]
                for reach in objects(one, "reaches")
            ]
    say(*table(rows))
    return 0


def enable(context: Context, args: argparse.Namespace) -> int:
    """Turn one on."""
    return _switch(context, args, True, "is on; the machine's proxy follows within seconds")


def disable(context: Context, args: argparse.Namespace) -> int:
    """Turn one off."""
    return _switch(context, args, False, "is off; the machine's proxy follows within seconds")


def _switch(context: Context, args: argparse.Namespace, enabled: bool, told: str) -> int:
    with context.portal(context.device()) as portal:
        portal.switch_connector(args.tenant, args.connector, enabled)
    say(f"{args.connector} {told}.")
    return 0


def _place(reach: object) -> str:
    host, port = plain(take(reach, "host", str), 253), take(reach, "port", int)
    return host if port == 443 else f"{host}:{port}"
