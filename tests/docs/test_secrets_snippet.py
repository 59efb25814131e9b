"""The lines of docs/secrets.md that owners copy do what they say."""

import re
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

from nacl.public import PrivateKey

from protocol.sealed import MAX_SECRET_BYTES, unseal

PAGE = Path(__file__).resolve().parents[2] / "docs" / "secrets.md"


def test_what_the_snippet_seals_the_guest_opens() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - our own page
    key = PrivateKey(bytes(range(32)))
    sealed = names["encrypt"](b64encode(bytes(key.public_key)).decode(), "ghp_ž")
    assert unseal(bytes(key), b64decode(sealed, validate=True)) == "ghp_ž".encode()


def test_the_limit_is_the_codes() -> None:
    assert f"{MAX_SECRET_BYTES:,} bytes" in PAGE.read_text()
