"""Addresses of the portal and of runtimes, and which of them may be spoken to."""

import re
from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Origin:
    """Scheme, host and port: what a browser would call an origin."""

    scheme: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``https://host[:port]``; ``http`` only for this machine's own names.

        Raises:
            ValueError: anything else; its text says what to change.
        """
        # The library drops line breaks in silence.
        if not text.isascii() or not text.isprintable():
            raise ValueError("it has characters that no address has")
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise ValueError("it is no address") from None
        host = parts.hostname or ""
        if parts.scheme not in _PORTS or parts.username is not None or not _HOST.fullmatch(host):
            raise ValueError("it must look like https://portal.example.org")
        if parts.path not in {"", "/"} or parts.query or parts.fragment:
            raise ValueError("it must end after the host's name and port")
        found = cls(parts.scheme, host, port or _PORTS[parts.scheme])
        if not found.secure:
            raise ValueError("it must begin with https:// (http is for localhost only)")
        return found

    @property
    def local(self) -> bool:
        """Whether the name is this machine's own by RFC 6761, section 6.3."""
        return self.host == "localhost" or self.host.endswith(".localhost")

    @property
    def secure(self) -> bool:
        """Whether nobody can stand between: what browsers call a secure context."""
        return self.scheme == "https" or self.local

    @property
    def netloc(self) -> str:
        """As in a Host header."""
        return self.host if self.port == _PORTS[self.scheme] else f"{self.host}:{self.port}"

    @property
    def address(self) -> str:
        """What to connect to. Not every system's resolver knows that *.localhost is this machine."""
        return "127.0.0.1" if self.local else self.host

    def below(self, base: "Origin") -> bool:
        """Whether it is a name right below that of ``base``, as a runtime's is below the portal's."""
        label, _, rest = self.host.partition(".")
        return bool(label) and (self.scheme, rest, self.port) == (base.scheme, base.host, base.port)

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}"
