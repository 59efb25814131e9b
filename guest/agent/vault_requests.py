"""What the portal may ask of the vault, checked for its form, and how the vault says no."""

import errno
from base64 import b64decode, b64encode
from typing import Any

from protocol.sealed import KEY_ID, MAX_SECRET_BYTES, NAME, OVERHEAD_BYTES

MAX_VERSION = 2**31 - 1


class VaultRefused(Exception):
    """A request that the vault does not follow. ``code`` is for machines; the message never quotes it."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


def check_name(name: Any, version: Any) -> None:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise VaultRefused(422, "malformed", "name must be A-Z, 0-9 and _, a letter first, at most 64")
    if isinstance(version, bool) or not isinstance(version, int) or not 0 < version <= MAX_VERSION:
        raise VaultRefused(422, "malformed", f"version must be a whole number from 1 to {MAX_VERSION}")


def checked_key_id(text: Any) -> str:
    if not isinstance(text, str) or not KEY_ID.fullmatch(text):
        raise VaultRefused(422, "malformed", "a key's id is 16 lower-case hexadecimal digits")
    return text


def checked_box(text: Any) -> bytes:
    try:
        box = b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        box = b""
    whole = OVERHEAD_BYTES <= len(box) <= MAX_SECRET_BYTES + OVERHEAD_BYTES
    if not whole or b64encode(box).decode() != text:
        text = f"sealed must be a sealed box in base64, its value at most {MAX_SECRET_BYTES} bytes"
        raise VaultRefused(422, "malformed", text)
    return box


def disk_full(error: OSError) -> Exception:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return VaultRefused(507, "disk_full", "the machine's disk is full; delete something first")
    return error
