"""The tenant's gateway: how it stands, start and stop, its model, and a word with it."""

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from client.context import Context
from client.errors import Failure, Refused
from client.reading import take
from client.runtime import Runtime
from client.screen import plain, say, warn

GATEWAY = "/v1/gateway"
CHAT = "/gateway-api/v1/chat/completions"
PATIENCE_SECONDS = 330
PAUSE_SECONDS = 3.0
_ON_ITS_WAY = frozenset({"starting", "stopping"})


def status(context: Context, args: argparse.Namespace) -> int:
    """How it stands."""
    with _runtime(context, args.tenant) as runtime:
        _show(runtime.get(GATEWAY))
    return 0


def start(context: Context, args: argparse.Namespace) -> int:
    """Start it and wait until it is ready."""
    with _runtime(context, args.tenant) as runtime:
        runtime.send("POST", f"{GATEWAY}/start")
        return _await(runtime)


def stop(context: Context, args: argparse.Namespace) -> int:
    """Stop it."""
    with _runtime(context, args.tenant) as runtime:
        runtime.send("POST", f"{GATEWAY}/stop")
        _await(runtime)
    return 0


def model(context: Context, args: argparse.Namespace) -> int:
    """Show the model, or choose another."""
    chosen = _chosen(args)
    with _runtime(context, args.tenant) as runtime:
        if chosen is None:
            found = runtime.get(f"{GATEWAY}/model")
        else:
            found = runtime.send("PUT", f"{GATEWAY}/model", chosen)
    say(_model(found.get("model") if isinstance(found, dict) else None))
    return 0


def chat(context: Context, args: argparse.Namespace) -> int:
    """Say one thing to the agent, and print what it answers; starts the gateway if need be."""
    body = {"model": "openclaw", "messages": [{"role": "user", "content": args.text}]}
    with _runtime(context, args.tenant) as runtime:
        try:
            answer = runtime.send("POST", CHAT, body, slow=True)
        except Refused as refusal:
            if refusal.code != "gateway_starting":
                raise
            warn("The gateway is starting.")
            if _await(runtime, quiet=True):
                return 1
            answer = runtime.send("POST", CHAT, body, slow=True)
    try:
        text = str(answer["choices"][0]["message"]["content"])
    except (KeyError, IndexError, TypeError):
        raise Failure("The gateway's answer holds no message.") from None
    for line in text.splitlines():
        say(plain(line, len(line)))
    return 0


def _await(runtime: Runtime, *, quiet: bool = False) -> int:
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        told = runtime.get(GATEWAY)
        if take(told, "state", str) not in _ON_ITS_WAY or time.monotonic() > until:
            break
        time.sleep(PAUSE_SECONDS)
    ready = bool(told["state"] == "ready")
    if not (ready and quiet):
        _show(told)
    return 0 if ready else 1


def _show(told: Any) -> None:
    state, reason = take(told, "state", str), take(told, "reason", str)
    say(f"The gateway is {plain(state, 20)}." + (f" {plain(reason, 500)}" if reason else ""))
    say(_model(told.get("model")))
    left = told.get("idle_seconds_left")
    if isinstance(left, int | float):
        say(f"It stops after {round(left / 60)} min without use.")


def _model(found: Any) -> str:
    if found is None:
        return "No model is chosen."
    if not isinstance(found, dict):
        return f"Model: {plain(str(found), 64)}."
    secret = found.get("secret")
    key = f"key in {plain(str(secret), 64)}" if secret else "no key"
    return f"Model: {plain(str(found.get('name')), 128)} at {plain(str(found.get('base_url')), 512)}, {key}."


def _chosen(args: argparse.Namespace) -> dict[str, Any] | None:
    if args.choice == "show":
        return None
    given = {"base_url": args.base_url, "name": args.name, "api": args.api, "secret": args.secret}
    if args.choice != "own":
        if any(value is not None for value in given.values()):
            raise Failure("Options for a model go with: model TENANT own.")
        return {"model": None if args.choice == "none" else args.choice}
    if not args.base_url or not args.name:
        raise Failure("A model of your own needs --base-url and --name.")
    return {"model": {**given, "api": args.api or "openai-completions"}}


@contextmanager
def _runtime(context: Context, slug: str) -> Iterator[Runtime]:
    device = context.device()
    with context.portal(device) as portal, context.runtime(portal, device, slug) as runtime:
        yield runtime
