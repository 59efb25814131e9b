"""The sealing key of each tenant's guest, as this device last saw it, and the judgement on the next one.

The guest states it in the member's own session. The portal must show the same, and so must this device's
memory: a secret that is sealed to somebody else's key is theirs.
"""

import json
import re
from pathlib import Path

from client import files
from client.errors import Failure
from protocol.sealed import key_id

FILE = "sealing-keys.json"
_KEY = re.compile(r"[0-9a-f]{64}")


class SealingKeys:
    """The file of keys, below one portal's address."""

    def __init__(self, folder: Path, portal: str) -> None:
        self._folder, self._path, self._portal = folder, folder / FILE, portal

    def get(self, slug: str) -> bytes | None:
        """What was last sealed to for a tenant. Raises Failure: the file is damaged."""
        found = self._all().get(self._portal, {}).get(slug)
        return None if found is None else bytes.fromhex(found)

    def put(self, slug: str, key: bytes) -> None:
        """Remember ``key`` from now on."""
        with files.alone(self._folder):
            everything = self._all()
            everything.setdefault(self._portal, {})[slug] = key.hex()
            files.replace(self._path, json.dumps(everything, indent=1).encode() + b"\n")

    def _all(self) -> dict[str, dict[str, str]]:
        try:
            found = json.loads(files.read(self._path))
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict) or not all(map(_is_keys, found.values())):
            raise Failure(f"{self._path} is damaged. Restore it; without it this device trusts anew.")
        return found


def judge(stated: str, shown: bytes, known: bytes | None, accepted: str | None) -> bytes:
    """The key that may be sealed to: the guest states it, the portal shows it, this device knows it.

    Args:
        stated: by the guest, in hex.
        accepted: the id of a key that the person takes in place of the known one.

    Raises:
        Failure: they differ; nothing may be sealed.
    """
    if not _KEY.fullmatch(stated):
        raise Failure("The guest states no sealing key that can be understood. Nothing was sealed.")
    key = bytes.fromhex(stated)
    if key != shown:
        raise Failure(
            f"WARNING: the portal shows the sealing key {key_id(shown)}, and the guest states {key_id(key)}. "
            "Nothing was sealed. Ask another owner what they see. If a rotation goes on, wait for its end."
        )
    if known is not None and known != key and accepted != key_id(key):
        raise Failure(
            f"WARNING: this device has seen the sealing key {key_id(known)}, and now it is {key_id(key)}. "
            "Nothing was sealed. If an owner has rotated it or the machine is new, "
            f"run this again with --accept {key_id(key)}."
        )
    return key


def _is_keys(tenants: object) -> bool:
    return isinstance(tenants, dict) and all(
        isinstance(key, str) and _KEY.fullmatch(key) for key in tenants.values()
    )
