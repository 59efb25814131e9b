"""Cookies of one origin, in memory only.

Why not the standard library's jar: all our cookies are ``Secure``, and it would not send those back to
``http://*.localhost``, where a browser does. Here a jar belongs to one origin that :mod:`client.origins` has
found secure (https, or this machine's own name), and takes only ``__Host-`` cookies: Secure, for every path,
and for no other host. What one origin sets never reaches another.
"""

import re

_NAME = re.compile(r"__Host-[A-Za-z0-9_-]{1,64}")
_VALUE = re.compile(r"[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]{0,4096}")
_MAX_COOKIES = 16


class Cookies:
    """Name and value, nothing more: a command is over long before they lapse."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    def take(self, header: str) -> None:
        """Note one ``Set-Cookie`` header, or leave it aside if it is not one of the kind we keep."""
        pair, *rest = header.split(";")
        name, _, value = pair.strip().partition("=")
        attributes = dict(_attribute(part) for part in rest)
        fits = "secure" in attributes and attributes.get("path") == "/" and "domain" not in attributes
        if not fits or not _NAME.fullmatch(name):
            return
        if not value.strip('"') or attributes.get("max-age", "1").startswith(("0", "-")):
            self._values.pop(name, None)
        elif _VALUE.fullmatch(value) and (name in self._values or len(self._values) < _MAX_COOKIES):
            self._values[name] = value

    def get(self, name: str) -> str | None:
        """The value of one."""
        return self._values.get(name)

    def header(self) -> dict[str, str]:
        """The ``Cookie`` header, if there is anything to send."""
        pairs = "; ".join(f"{name}={value}" for name, value in self._values.items())
        return {"Cookie": pairs} if pairs else {}

    def __repr__(self) -> str:
        return f"<{len(self._values)} cookies>"


def _attribute(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip().lower(), value.strip()
