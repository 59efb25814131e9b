"""The command line: what there is to type, and how a command ends.

Ends with 0, with 1 after one plain sentence on standard error, with 2 if it was typed wrongly, and with 130
after Ctrl-C.
"""

import argparse
import os
import re
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from client import files
from client.commands import (
    agreement,
    break_glass,
    connectors,
    content,
    gateway,
    jobs,
    key,
    keyring,
    record,
    secrets,
    workspace,
)
from client.context import Context
from client.errors import Failure
from client.reading import HASH
from client.screen import warn
from protocol.notes import NoteError, VerifierKey
from protocol.sealed import KEY_ID, NAME
from protocol.terms import MODES

Command = Callable[[Context, argparse.Namespace], int]
_SLUG = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; answers the exit status."""
    args = parser().parse_args(arguments)
    run: Command = args.run
    try:
        folder: Path = (args.config or files.default_folder()).absolute()
        files.prepare(folder)
        context = Context(folder, args.portal, warn if args.verbose else lambda _line: None)
        return run(context, args)
    except Failure as error:
        warn(str(error))
        return 1
    except KeyboardInterrupt:
        warn("\nStopped.")
        return 130
    except BrokenPipeError:
        # Who reads our output has seen enough. Without this, Python complains when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        # Only the kind: a message could repeat a secret.
        warn(f"The command failed for a reason nobody thought of ({type(error).__name__}). Please report it.")
        return 1


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    common = _common(argparse.SUPPRESS)
    top = argparse.ArgumentParser(
        prog="python -m client",
        description="Keys, keyrings and runtimes of a managed-host portal.",
        parents=[_common(None)],
        allow_abbrev=False,
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def add(group: object, name: str, run: Command, words: str, *, tenant: bool = True) -> _Parser:
        made: _Parser = group.add_parser(  # type: ignore[attr-defined]
            name, help=words, description=words, parents=[common], allow_abbrev=False
        )
        if tenant:
            made.add_argument("tenant", type=_slug, metavar="TENANT")
        made.set_defaults(run=run)
        return made

    _add_key(commands, add)
    _add_keyring(commands, add)
    consent = add(commands, "consent", agreement.consent, "agree to agents and always-on, or take it back")
    consent.add_argument("--agents", choices=["on", "off"])
    consent.add_argument("--always-on", choices=["on", "off"])
    consent.add_argument("--yes", action="store_true", help="do not ask")
    add(commands, "fingerprints", content.fingerprints, "compare guest, portal and this device's memory")
    add(commands, "whoami", content.whoami, "who you are to the guest")
    sessions = add(commands, "sessions", content.sessions, "list sessions, or end all others", tenant=False)
    sessions.add_argument("action", nargs="?", choices=["end"], metavar="end")
    sessions.add_argument("tenant", type=_slug, metavar="TENANT")
    _add_secrets(commands, add)
    _add_connectors(commands, add)
    _add_record(commands, add)
    _add_break_glass(commands, add)
    _add_workspace(commands, add)
    _add_jobs(commands, add)
    _add_gateway(commands, add)
    return top


def _add_key(commands: Any, add: Callable[..., "_Parser"]) -> None:
    keys = commands.add_parser("key", help="the key of this device").add_subparsers(
        required=True, metavar="COMMAND"
    )
    new = add(keys, "new", key.new, "make the device key", tenant=False)
    new.add_argument("--name", type=_name, help="what others see in lists")
    add(keys, "show", key.show, "print its public half and fingerprint", tenant=False)
    add(keys, "register", key.register, "make its public half known to the portal; asks for your password")


def _add_keyring(commands: Any, add: Callable[..., "_Parser"]) -> None:
    rings = commands.add_parser("keyring", help="who may sign in to a tenant's machine").add_subparsers(
        required=True, metavar="COMMAND"
    )
    show = add(rings, "show", keyring.show, "show and check the keyring, beside what the guest states")
    show.add_argument("--accept", type=_fingerprint, metavar="HASH", help="pin the keyring of this hash")
    init = add(rings, "init", keyring.init, "make and sign the first keyring")
    init.add_argument(
        "--recovery", type=Path, required=True, metavar="FILE", help="where the recovery key goes"
    )
    added = add(rings, "add", keyring.add, "add a registered key, or change its role")
    added.add_argument("fingerprint", type=_fingerprint, metavar="FINGERPRINT")
    added.add_argument("--role", choices=["owner", "member"], default="member")
    removed = add(rings, "remove", keyring.remove, "remove a key")
    removed.add_argument("fingerprint", type=_fingerprint, metavar="FINGERPRINT")
    recover = add(rings, "recover", keyring.recover, "make this device's key an owner with the recovery key")
    recover.add_argument("--recovery", type=Path, required=True, metavar="FILE")
    recover.add_argument("--new-recovery", type=Path, required=True, metavar="FILE")
    recover.add_argument("--drop", type=_fingerprint, nargs="+", default=[], metavar="FINGERPRINT")
    for changing in (init, added, removed, recover):
        changing.add_argument("--yes", action="store_true", help="do not ask")


def _add_secrets(commands: Any, add: Callable[..., "_Parser"]) -> None:
    hidden = commands.add_parser("secrets", help="a connector's credentials").add_subparsers(
        required=True, metavar="COMMAND"
    )
    add(hidden, "list", secrets.listing, "list names, versions and states")
    sealing = add(hidden, "set", secrets.put, "seal a value and save it; it is read from standard input")
    sealing.add_argument("name", type=_secret, metavar="NAME")
    sealing.add_argument("--accept", type=_key_id, metavar="KEY", help="take this new sealing key, by its id")
    revoking = add(hidden, "revoke", secrets.revoke, "erase a secret, and have the machine forget it")
    revoking.add_argument("name", type=_secret, metavar="NAME")
    revoking.add_argument("--yes", action="store_true", help="do not ask")


def _add_workspace(commands: Any, add: Callable[..., "_Parser"]) -> None:
    space = commands.add_parser("workspace", help="the tenant's files").add_subparsers(
        required=True, metavar="COMMAND"
    )
    listing = add(space, "ls", workspace.listing, "list the tenant's files")
    listing.add_argument("path", nargs="?", default="", metavar="PATH")
    listing.add_argument("--json", action="store_true", help="for programs")
    get = add(space, "get", workspace.get, "download a file")
    get.add_argument("path", metavar="PATH")
    get.add_argument("file", type=Path, metavar="FILE")
    get.add_argument("--resume", action="store_true", help="go on where FILE ends")
    put = add(space, "put", workspace.put, "upload a file")
    put.add_argument("file", type=Path, metavar="FILE")
    put.add_argument("path", metavar="PATH")
    rm = add(space, "rm", workspace.remove, "delete a file or a folder")
    rm.add_argument("path", metavar="PATH")
    rm.add_argument("--recursive", action="store_true", help="with all that is in it")
    rm.add_argument("--yes", action="store_true", help="do not ask")
    add(space, "mkdir", workspace.make_folder, "make a folder").add_argument("path", metavar="PATH")
    tar = add(space, "archive", workspace.archive, "download a folder as tar")
    tar.add_argument("file", type=Path, metavar="FILE")
    tar.add_argument("path", nargs="?", default="", metavar="PATH")


def _add_connectors(commands: Any, add: Callable[..., "_Parser"]) -> None:
    outside = commands.add_parser("connectors", help="what the machine may reach outside").add_subparsers(
        required=True, metavar="COMMAND"
    )
    listing = add(outside, "list", connectors.listing, "list connectors and how they stand")
    listing.add_argument("--hosts", action="store_true", help="with the hosts that each reaches")
    on = add(outside, "enable", connectors.enable, "let the machine reach a connector's hosts")
    off = add(outside, "disable", connectors.disable, "cut the machine off from them")
    for one in (on, off):
        one.add_argument("connector", type=_slug, metavar="CONNECTOR", help="such as github")


def _add_record(commands: Any, add: Callable[..., "_Parser"]) -> None:
    group = commands.add_parser("record", help="what was done about the tenant, with proof").add_subparsers(
        required=True, metavar="COMMAND"
    )
    listing = add(group, "list", record.listing, "list entries, the newest first")
    listing.add_argument("--topic", default="changes", metavar="TOPIC", help="such as secrets, or all")
    listing.add_argument("--since", metavar="DAY", help="such as 2026-11-26")
    listing.add_argument("--until", metavar="DAY", help="that day, too")
    listing.add_argument("--all", action="store_true", help="not only the newest 50")
    listing.add_argument("--json", action="store_true", help="for programs")
    receipt = add(group, "receipt", record.receipt, "download an entry with its proof, and check it")
    receipt.add_argument("id", type=_entry, metavar="ID")
    receipt.add_argument("file", type=Path, nargs="?", metavar="FILE", help="where to keep it")
    verify = add(group, "verify", record.verify, "check that every entry is in the log, unchanged")
    verify.add_argument("file", type=Path, nargs="?", metavar="FILE", help="where to keep the receipts")
    verify.add_argument("--machine", action="store_true", help="compare with what the machine has seen")
    pin = add(group, "pin", record.pin, "keep the log's newest checkpoint, and show it")
    pin.add_argument("--key", type=_log_key, metavar="KEY", help="believe this key of the log's from now on")


def _add_break_glass(commands: Any, add: Callable[..., "_Parser"]) -> None:
    group = commands.add_parser("break-glass", help="staff's access to the machine").add_subparsers(
        required=True, metavar="COMMAND"
    )
    listing = add(group, "list", break_glass.listing, "list tickets, the newest first")
    listing.add_argument("--all", action="store_true", help="not only the newest 25")
    show = add(group, "show", break_glass.show, "show a ticket, with its signatures checked here")
    approve = add(group, "approve", break_glass.approve, "sign a ticket as an owner")
    revoke = add(group, "revoke", break_glass.revoke, "end a ticket, whether it waits or runs")
    receipts = add(group, "receipts", break_glass.receipts, "download what was done, and check the proofs")
    for one in (show, approve, revoke, receipts):
        one.add_argument("id", type=_job, metavar="ID")
    revoke.add_argument("--why", default="", metavar="TEXT", help="for the record and the operator")
    receipts.add_argument("file", type=Path, metavar="FILE", help="where to keep them")
    approvers = add(group, "approvers", break_glass.approvers, "show whom the machine believes, or name them")
    approvers.add_argument("--name", type=_fingerprint, metavar="HASH", help="sign the set of this hash")
    terms = add(group, "terms", break_glass.terms, "show on which terms staff come in, or sign others")
    for kind in break_glass.KINDS:
        terms.add_argument(f"--{kind}", choices=MODES)
    for signing in (approve, approvers, terms):
        signing.add_argument("--yes", action="store_true", help="do not ask")


def _add_gateway(commands: Any, add: Callable[..., "_Parser"]) -> None:
    group = commands.add_parser("gateway", help="the tenant's agents").add_subparsers(
        required=True, metavar="COMMAND"
    )
    add(group, "status", gateway.status, "show how it stands")
    add(group, "start", gateway.start, "start it, and wait until it is ready")
    add(group, "stop", gateway.stop, "stop it")
    model = add(group, "model", gateway.model, "show the model that it asks, or choose another")
    model.add_argument("choice", nargs="?", choices=["show", "none", "rehearsal", "own"], default="show")
    model.add_argument("--base-url", metavar="URL", help="where the key and all conversations go")
    model.add_argument("--name", metavar="NAME", help="the model's name there")
    model.add_argument("--api", choices=["openai-completions", "openai-responses", "anthropic-messages"])
    model.add_argument("--secret", metavar="NAME", help="the secret that holds the key")
    chat = add(group, "chat", gateway.chat, "say one thing to the agent, and print its answer")
    chat.add_argument("text", metavar="TEXT")


def _add_jobs(commands: Any, add: Callable[..., "_Parser"]) -> None:
    work = commands.add_parser("jobs", help="what the tenant's machine is to do").add_subparsers(
        required=True, metavar="COMMAND"
    )
    run = add(work, "run", jobs.run, "run a command in the workspace: jobs run TENANT -- COMMAND ...")
    run.add_argument("argv", nargs="+", metavar="COMMAND")
    said = add(work, "message", jobs.message, "ask the machine's agent something")
    said.add_argument("text", metavar="TEXT")
    for asking in (run, said):
        asking.add_argument("--follow", action="store_true", help="print the output until the job is over")
        asking.add_argument("--seconds", type=_seconds, metavar="N", help="how long it may run (3600)")
    listing = add(work, "list", jobs.listing, "list jobs, the newest first")
    listing.add_argument("--all", action="store_true", help="not only the newest 50")
    show = add(work, "show", jobs.show, "show all that is known of a job")
    log = add(work, "log", jobs.log, "print a job's output")
    log.add_argument("--follow", action="store_true", help="until the job is over")
    cancel = add(work, "cancel", jobs.cancel, "end a job")
    forget = add(work, "forget", jobs.forget, "forget a job that is over, with its log")
    for one in (show, log, cancel, forget):
        one.add_argument("id", type=_job, metavar="ID")
    for shown in (listing, show):
        shown.add_argument("--json", action="store_true", help="for programs")


_Parser = argparse.ArgumentParser


def _common(default: object) -> argparse.ArgumentParser:
    # Twice: before the command with real defaults, after it with none, so that the second undoes nothing.
    made = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    made.add_argument("--portal", default=default, metavar="URL", help="the portal's address")
    made.add_argument(
        "--config", type=Path, default=default, metavar="DIR", help="where keys and pins are kept"
    )
    made.add_argument("-v", "--verbose", action="store_true", default=default, help="name each request")
    return made


def _slug(text: str) -> str:
    if not _SLUG.fullmatch(text):
        raise argparse.ArgumentTypeError("a tenant's short name has small letters, digits and hyphens")
    return text


def _fingerprint(text: str) -> str:
    # All of it: a part could be met by somebody who makes many keys.
    if not HASH.fullmatch(text.lower()):
        raise argparse.ArgumentTypeError("give all 64 hexadecimal digits")
    return text.lower()


def _job(text: str) -> str:
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError("give an id as the list shows it, all of it") from None


def _entry(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:20]) < 2**63:
        raise argparse.ArgumentTypeError("give an entry's id as record list shows it")
    return int(text)


def _log_key(text: str) -> VerifierKey:
    try:
        return VerifierKey.parse(text)
    except NoteError as error:
        raise argparse.ArgumentTypeError(f"give the log's key as name+id+base64: {error}") from None


def _seconds(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:9]) <= 7 * 24 * 3600:
        raise argparse.ArgumentTypeError("give 1 to 604800 seconds (a week)")
    return int(text)


def _secret(text: str) -> str:
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError("a name has 1 to 64 capital letters, digits and underscores")
    return text


def _key_id(text: str) -> str:
    if not KEY_ID.fullmatch(text):
        raise argparse.ArgumentTypeError("give the key's 16 hexadecimal digits")
    return text


def _name(text: str) -> str:
    if not 0 < len(text) <= 80 or not text.isprintable():
        raise argparse.ArgumentTypeError("a name has 1 to 80 printable characters")
    return text
