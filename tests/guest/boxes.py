"""Secrets as a tenant's browser sends them, and a vault to keep them in."""

from base64 import b64encode
from pathlib import Path
from typing import Any

from guest.agent.files import make_private_folder
from guest.agent.keys import load_or_create_keys
from guest.agent.vault import Vault
from guest.agent.vault_requests import VaultRefused
from protocol.sealed import key_id, seal

CANARY = b"canary-7f3a9c-tell-tale"
NAME = "GITHUB_TOKEN"


def opened(folder: Path) -> Vault:
    """The vault in ``folder``, as a starting agent opens it."""
    make_private_folder(folder)
    return Vault(folder, load_or_create_keys(folder))


def boxed(public_key: bytes, value: bytes = CANARY, name: str = NAME, version: int = 1) -> dict[str, Any]:
    """The body of a delivery."""
    sealed = b64encode(seal(public_key, value)).decode()
    return {"name": name, "version": version, "key_id": key_id(public_key), "sealed": sealed}


def put(vault: Vault, body: dict[str, Any]) -> dict[str, Any]:
    """Deliver ``body``, as the route does."""
    return vault.deliver(body["name"], body["version"], body["key_id"], body["sealed"])


def refusal(deed: Any, *given: Any) -> str:
    """The code with which ``deed`` is refused, or ``done``."""
    try:
        deed(*given)
    except VaultRefused as error:
        return error.code
    return "done"


def traces(secret: bytes) -> list[bytes]:
    """What of ``secret`` must be nowhere: itself, its hexadecimal forms and base64 at each of three offsets."""
    base64 = [b64encode(b"x" * shift + secret)[4 * bool(shift) : -4] for shift in range(3)]
    return [secret, secret.hex().encode(), secret.hex().upper().encode(), *base64]


def found_in(folder: Path, *secrets: bytes) -> list[str]:
    """The files below ``folder``, by name, that hold a trace of one of the secrets."""
    return [
        path.name
        for path in folder.rglob("*")
        if path.is_file() and any(trace in path.read_bytes() for each in secrets for trace in traces(each))
    ]
