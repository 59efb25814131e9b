"""Commands and messages that the tenant's machine carries out, and how they went."""

import argparse
import base64
import binascii
import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode

from client.context import Context
from client.errors import Unanswered, WrongAnswer
from client.reading import objects, optional, take
from client.runtime import Runtime
from client.screen import Output, plain, say, table, warn

JOBS = "/v1/jobs"
WAIT_SECONDS = 10
"""How long the guest may hold an answer back until there is something to tell."""
PAUSE_SECONDS = 1.0
OVER = frozenset({"succeeded", "failed", "cancelled", "interrupted"})
_WORDS = {
    "out_of_memory": "it needed more memory than a job may have",
    "time_limit": "it ran longer than it may",
    "not_started": "the machine could not start it",
    "broken": "what carried it out broke off",
    "machine_restarted": "the machine was restarted",
    "agent_restarted": "the machine's agent was restarted",
    "lost": "the machine lost track of it",
    "no_longer_a_member": "who asked for it is no longer a member",
}


def run(context: Context, args: argparse.Namespace) -> int:
    """Ask for a command."""
    return _submit(context, args, {"kind": "command", "argv": args.argv})


def message(context: Context, args: argparse.Namespace) -> int:
    """Ask the machine's agent something."""
    return _submit(context, args, {"kind": "message", "text": args.text})


def listing(context: Context, args: argparse.Namespace) -> int:
    """The newest jobs, or all."""
    jobs: list[dict[str, Any]] = []
    with _runtime(context, args.tenant) as runtime:
        found = runtime.get(JOBS)
        jobs += objects(found, "jobs")
        while args.all and not take(found, "complete", bool):
            found = runtime.get(f"{JOBS}?{urlencode({'after': take(found, 'next', str)})}")
            jobs += objects(found, "jobs")
    if args.json:
        say(json.dumps({"jobs": jobs}, indent=1))
        return 0
    rows = [["id", "state", "by", "submitted", "job"]]
    for job in jobs:
        by = plain(take(take(job, "by", dict), "name", str), 30)
        at = _clock(take(job, "submitted_at", int))
        rows.append([_id(job), plain(_state(job), 40), by, at, plain(take(job, "title", str), 60)])
    say(*table(rows))
    if not args.all and not take(found, "complete", bool):
        warn("There are older ones: add --all.")
    return 0


def show(context: Context, args: argparse.Namespace) -> int:
    """All that is known of one."""
    with _runtime(context, args.tenant) as runtime:
        job = runtime.get(_at("item", id=args.id))
    if args.json:
        say(json.dumps(job, indent=1))
        return 0
    say(f"{'state':12} {plain(_state(job))}", f"{'job':12} {plain(take(job, 'title', str))}")
    for name in ("by", "cancelled_by"):
        if who := optional(job, name, dict):
            words = f"{take(who, 'name', str)} {take(who, 'fingerprint', str)}"
            say(f"{name.replace('_', ' '):12} {plain(words)}")
    for name in ("submitted_at", "started_at", "ended_at"):
        if (at := optional(job, name, int)) is not None:
            say(f"{name.removesuffix('_at'):12} {_clock(at)}")
    return 0


def log(context: Context, args: argparse.Namespace) -> int:
    """A job's output so far, or until its end."""
    with _runtime(context, args.tenant) as runtime:
        _print_log(runtime, args.id, follow=args.follow)
        return _ended(runtime.get(_at("item", id=args.id))) if args.follow else 0


def cancel(context: Context, args: argparse.Namespace) -> int:
    """End it, or see to it that it ends soon."""
    with _runtime(context, args.tenant) as runtime:
        job = runtime.send("POST", f"{JOBS}/cancel", {"id": args.id})
    say("Cancelled." if take(job, "state", str) == "cancelled" else "It ends within a few seconds.")
    return 0


def forget(context: Context, args: argparse.Namespace) -> int:
    """Forget one that is over, with its log."""
    with _runtime(context, args.tenant) as runtime:
        runtime.send("DELETE", _at("item", id=args.id))
    say("Forgotten.")
    return 0


def _submit(context: Context, args: argparse.Namespace, work: dict[str, Any]) -> int:
    # The id is ours: asked twice, it is still one job.
    asked = {**work, "id": str(uuid.uuid4())} | ({"seconds": args.seconds} if args.seconds else {})
    with _runtime(context, args.tenant) as runtime:
        try:
            job = runtime.send("POST", JOBS, asked)
        except Unanswered:
            job = runtime.send("POST", JOBS, asked)
        name = _id(job)
        if not args.follow:
            say(name)
            return 0
        warn(f"Job {name}")
        try:
            _print_log(runtime, name, follow=True)
        except KeyboardInterrupt:
            warn(f"\nThe job goes on. See: jobs log {args.tenant} {name} --follow")
            raise
        return _ended(runtime.get(_at("item", id=name)))


def _print_log(runtime: Runtime, name: str, *, follow: bool) -> None:
    output, offset, end, cut = Output(), 0, False, False
    while not end:
        asked = {"wait": WAIT_SECONDS} if follow else {}
        began = time.monotonic()
        piece = runtime.get(_at("log", id=name, offset=offset, **asked))
        data = _bytes(take(piece, "data", str))
        if take(piece, "offset", int) != offset or take(piece, "next", int) != offset + len(data):
            raise WrongAnswer("The guest's pieces of the log do not fit together.")
        output.write(data)
        offset, end, cut = offset + len(data), take(piece, "end", bool), take(piece, "cut", bool)
        if not follow and offset >= take(piece, "size", int):
            break
        if not data and not end and time.monotonic() - began < PAUSE_SECONDS:
            time.sleep(PAUSE_SECONDS)
    output.close()
    if cut:
        warn("The log is full: the rest of the output was dropped.")


def _ended(job: Any) -> int:
    state = take(job, "state", str)
    if state != "succeeded":
        warn(f"The job {'ended: ' if state in OVER else 'is '}{plain(_state(job))}.")
    return 0 if state == "succeeded" else 1


def _state(job: Any) -> str:
    """In words, with the reason."""
    state, reason = take(job, "state", str), optional(job, "reason", str)
    if reason == "exit_code":
        return f"{state}, exit code {take(job, 'exit_code', int)}"
    if reason == "signal":
        return f"{state} by signal {take(job, 'signal', str)}"
    if state not in OVER and optional(job, "cancelled_by", dict) is not None:
        return f"{state}, being cancelled"
    return state if reason is None else f"{state}: {_WORDS.get(reason, reason)}"


def _id(job: Any) -> str:
    try:
        return str(uuid.UUID(take(job, "id", str)))
    except ValueError:
        raise WrongAnswer("The guest named a job by something that is no id.") from None


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise WrongAnswer("The guest's piece of the log cannot be understood.") from None


def _clock(seconds: int) -> str:
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        raise WrongAnswer("The guest told a time that is none.") from None


def _at(place: str, **asked: object) -> str:
    return f"{JOBS}/{place}?{urlencode(asked)}"


@contextmanager
def _runtime(context: Context, slug: str) -> Iterator[Runtime]:
    device = context.device()
    with context.portal(device) as portal, context.runtime(portal, device, slug) as runtime:
        yield runtime
