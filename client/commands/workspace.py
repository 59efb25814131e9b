"""The tenant's files in the guest. Up and down they are streamed, never held."""

import argparse
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlencode

from client.context import Context
from client.errors import Failure
from client.reading import objects, take
from client.runtime import Runtime
from client.screen import confirm, plain, say, warn

FILES = "/v1/workspace/files"
CHUNK = 256 * 1024
TAR_END = bytes(1024)
"""What a whole tar stream ends with."""


def listing(context: Context, args: argparse.Namespace) -> int:
    """A folder, page by page."""
    entries: list[dict[str, Any]] = []
    with _runtime(context, args.tenant) as runtime:
        route = "/v1/workspace" if not args.path else _at("/v1/workspace/list", path=args.path)
        while True:
            found = runtime.get(route)
            entries += objects(found, "entries")
            complete = take(found, "complete", bool)
            if complete or "next" not in found:
                break
            route = _at("/v1/workspace/list", path=args.path, after=take(found, "next", str))
    if args.json:
        say(json.dumps({"entries": entries, "complete": complete}, indent=1))
        return 0
    for entry in entries:
        kind, size, name = take(entry, "kind", str), take(entry, "size", int), take(entry, "name", str)
        say(f"{plain(kind, 8):8} {size:>14} {plain(name)}")
    if not complete:
        warn("There are more files than the guest lists.")
    return 0


def put(context: Context, args: argparse.Namespace) -> int:
    """Upload one file."""
    with _file(args.file, "rb") as file:
        hashed = hashlib.sha256()
        for piece in _pieces(file):
            hashed.update(piece)
        digest = hashed.hexdigest()
        size = file.tell()
        file.seek(0)
        with _runtime(context, args.tenant) as runtime:
            runtime.upload(_at(FILES, path=args.path), digest, size, _pieces(file))
    say(f"Uploaded {size} bytes, SHA-256 {digest}.")
    return 0


def get(context: Context, args: argparse.Namespace) -> int:
    """Download one file, or the rest of it."""
    with _runtime(context, args.tenant) as runtime, _file(args.file, "ab" if args.resume else "xb") as file:
        had = file.seek(0, os.SEEK_END)

        def sink(status: int, data: bytes) -> None:
            if status == 200 and had and file.tell() == had:
                raise Failure("The guest cannot go on from there. Download to another file.")
            file.write(data)

        runtime.download(_at(FILES, path=args.path), sink, {"Range": f"bytes={had}-"} if had else {})
        say(f"Downloaded {file.tell() - had} bytes.")
    return 0


def archive(context: Context, args: argparse.Namespace) -> int:
    """Download a folder as tar."""
    end = b""
    with _runtime(context, args.tenant) as runtime, _file(args.file, "xb") as file:

        def sink(_status: int, data: bytes) -> None:
            nonlocal end
            file.write(data)
            end = (end + data)[-len(TAR_END) :]

        runtime.download(_at("/v1/workspace/archive", path=args.path), sink)
        if end != TAR_END:
            raise Failure("The archive broke off and is not whole. Delete it and try again.")
        say(f"Downloaded {file.tell()} bytes.")
    return 0


def remove(context: Context, args: argparse.Namespace) -> int:
    """Delete a file or a folder."""
    confirm(f"Delete {plain(args.path)}?", yes=args.yes)
    route = _at(FILES, path=args.path, recursive="1" if args.recursive else "0")
    removed, complete = 0, False
    with _runtime(context, args.tenant) as runtime:
        while not complete:
            done = runtime.send("DELETE", route)
            removed += take(done, "removed", int)
            complete = take(done, "complete", bool)
    say(f"Deleted {removed}.")
    return 0


def make_folder(context: Context, args: argparse.Namespace) -> int:
    """A new folder."""
    with _runtime(context, args.tenant) as runtime:
        runtime.send("POST", "/v1/workspace/folders", {"path": args.path})
    return 0


@contextmanager
def _runtime(context: Context, slug: str) -> Iterator[Runtime]:
    device = context.device()
    with context.portal(device) as portal, context.runtime(portal, device, slug) as runtime:
        yield runtime


@contextmanager
def _file(path: Path, mode: str) -> Iterator[BinaryIO]:
    try:
        with open(path, mode) as file:  # noqa: PTH123 - one type for all modes
            yield file  # type: ignore[misc]
    except FileExistsError:
        raise Failure(f"{path} exists already. Name another file, or add --resume to get.") from None
    except OSError as error:
        raise Failure(f"{path} cannot be used: {error.strerror}.") from None


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    while data := file.read(CHUNK):
        yield data


def _at(route: str, **query: str) -> str:
    return f"{route}?{urlencode(query)}"
