"""``python -m protocol.verify export|receipt|access FILE, checkpoints OLD NEW PROOF, tiles DIR; --key VKEY``

Ends with 0 if everything verifies, 1 if something does not, 2 if it was asked wrongly.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from protocol.checkpoints import CheckpointError, parse_hash_lines
from protocol.merkle import ProofError, verify_consistency
from protocol.notes import MAX_NOTE_BYTES, NoteError, VerifierKey, encode
from protocol.receipts import MAX_RECEIPT_BYTES, Receipt, ReceiptError, check
from protocol.verify.access import verify_access
from protocol.verify.exports import verify_export
from protocol.verify.folders import verify_folder
from protocol.verify.outcome import Keys, VerificationError, Verified


def main(arguments: list[str] | None = None) -> int:
    """Run one command; see the module's text."""
    given = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace, Keys], str] = given.command
    try:
        said = command(given, Keys(given.key, tuple(given.witness)))
    except (VerificationError, ReceiptError, ProofError, NoteError) as error:
        sys.stderr.write(f"NOT VERIFIED: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{error.filename}: {error.strerror}\n")
        return 2
    sys.stdout.write(f"verified: {said}\n")
    return 0


def _export(given: argparse.Namespace, keys: Keys) -> str:
    return _words(verify_export(given.file, keys, given.processes))


def _tiles(given: argparse.Namespace, keys: Keys) -> str:
    return _words(verify_folder(given.folder, keys, given.first, given.end, given.processes))


def _receipt(given: argparse.Namespace, keys: Keys) -> str:
    checked = check(Receipt.parse(_read(given.file, MAX_RECEIPT_BYTES)), keys.log, keys.witnesses)
    # Escaped, so that a terminal obeys nothing of it.
    opened = "".join(f"\n  {role!a} ({one.kind!a}): {json.dumps(one.value)}" for role, one in checked.roles)
    event = json.dumps(checked.event, ensure_ascii=True, indent=2, sort_keys=True)
    found = Verified(1, checked.checkpoint, checked.cosigned)
    return f"entry {checked.index}; {_words(found)}\n{event}{opened}"


def _access(given: argparse.Namespace, keys: Keys) -> str:
    found = verify_access(given.file, keys, given.guest)
    count = found.last - found.first + 1
    told = f"receipts {found.first} to {found.last}" if count else "no receipts"
    rest = (
        f"; those after {found.anchored} by the machine's signature only"
        if found.anchored < found.last
        else ""
    )
    lines = "".join(f"\n{line}" for line in found.deeds)
    return (
        f"{told} of machine {found.runtime_id} of tenant {found.tenant_id}{rest}; {_words(found.log)}{lines}"
    )


def _checkpoints(given: argparse.Namespace, keys: Keys) -> str:
    old, _ = Keys(keys.log).opened(_read(given.old, MAX_NOTE_BYTES))
    new, cosigned = keys.opened(_read(given.new, MAX_NOTE_BYTES))
    try:
        proof = parse_hash_lines(_read(given.proof, MAX_NOTE_BYTES).decode())
    except UnicodeError:
        raise CheckpointError("the proof is not text") from None
    verify_consistency(old.size, new.size, proof, old.root, new.root)
    return f"the tree of {new.size} begins with the tree of {old.size}; {_words(Verified(0, new, cosigned))}"


def _words(found: Verified) -> str:
    times = {name: datetime.fromtimestamp(at, UTC).isoformat() for name, at in found.cosigned.items()}
    cosigned = "".join(f"; cosigned by {name} at {at}" for name, at in times.items())
    head = f"{found.checkpoint.origin}, size {found.checkpoint.size}, root {encode(found.checkpoint.root)}"
    return f"{found.entries} entries of {head}{cosigned}" if found.entries else f"{head}{cosigned}"


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise VerificationError(f"{path.name}: more than {limit} bytes")
    return data


def _key(text: str) -> VerifierKey:
    try:
        return VerifierKey.parse(text)
    except NoteError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--key", type=_key, required=True, help="the log's verifier key: name+id+base64")
    common.add_argument(
        "--witness", type=_key, action="append", default=[], help="must have cosigned; repeatable"
    )
    common.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser = argparse.ArgumentParser(
        prog="python -m protocol.verify", description="Verify what a log has given out."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(
        name: str, words: str, command: Callable[[argparse.Namespace, Keys], str]
    ) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=words, description=words, parents=[common])
        one.set_defaults(command=command)
        return one

    add("export", "a whole log, or receipts, one on a line", _export).add_argument("file", type=Path)
    add("receipt", "one entry with its proof", _receipt).add_argument("file", type=Path)
    seen = add("access", "who was let into a machine, and what they did there", _access)
    seen.add_argument("file", type=Path)
    seen.add_argument("--guest", type=_key, help="the machine's own key, if you know it from the machine")
    two = add("checkpoints", "that a newer checkpoint extends an older one", _checkpoints)
    for name in ("old", "new", "proof"):
        two.add_argument(name, type=Path)
    tiles = add("tiles", "a folder of tiles, or a segment of it", _tiles)
    tiles.add_argument("folder", type=Path)
    tiles.add_argument("--first", type=int, default=0, help="a segment's first entry")
    tiles.add_argument("--end", type=int, default=None, help="the entry after a segment's last")
    return parser


if __name__ == "__main__":
    sys.exit(main())
