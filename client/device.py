"""Keys that this program makes and holds: the device's own, and recovery keys. A seed is never shown."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client import files
from client.errors import Failure
from protocol.persons import PersonKey, Purpose, sign_with_device_key

DEVICE = "device"
RECOVERY = "recovery"
KEY_FILE = "device-key.json"
SEED_BYTES = 32


@dataclass(frozen=True)
class Device:
    """An Ed25519 key with its private half."""

    name: str
    seed: bytes = field(repr=False)

    @classmethod
    def new(cls, name: str) -> Self:
        """A fresh key."""
        return cls(name, os.urandom(SEED_BYTES))

    @classmethod
    def load(cls, path: Path, use: str) -> Self:
        """Read the key file at ``path``, which must be for ``use``: DEVICE or RECOVERY.

        Raises:
            FileNotFoundError: there is none.
            Failure: it is not one of ours, is for another use, or others can read it.
        """
        try:
            document = json.loads(files.read(path))
            found, name, seed = document["use"], document["name"], bytes.fromhex(document["seed"])
        except (ValueError, KeyError, TypeError, RecursionError):
            raise Failure(f"{path} is damaged, or not a key file of this program.") from None
        if found != use or not isinstance(name, str) or len(seed) != SEED_BYTES:
            raise Failure(f"{path} is not a {use} key of this program.")
        return cls(name, seed)

    def save(self, path: Path, use: str) -> None:
        """Write a key file that did not exist. Raises Failure."""
        document = {"use": use, "name": self.name, "seed": self.seed.hex()}
        files.create(path, json.dumps(document, indent=1).encode() + b"\n")

    @property
    def key(self) -> PersonKey:
        """The public half."""
        private = Ed25519PrivateKey.from_private_bytes(self.seed)
        return PersonKey("device", private.public_key().public_bytes_raw())

    def sign(self, purpose: Purpose, document: Any) -> dict[str, str]:
        """A person signature, with ``by``."""
        return {**sign_with_device_key(self.seed, purpose, document), "by": self.key.fingerprint}
