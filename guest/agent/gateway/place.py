"""Where the gateway and what belongs to it are found. A guest has the defaults, tests their own."""

import argparse
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from guest.gateway.config import PORT
from guest.gateway.rehearsal import PORT as REHEARSAL_PORT

SECRETS_SOCKET = Path("/run/portal-agent/secrets")
USER = "gateway"
START_SECONDS = 600.0
"""Others take ten seconds; an emulated machine a minute and a half, and on a busy host five."""
TICK_SECONDS = 0.25
LOOK_SECONDS = 5.0
SOCKET_SECONDS = 30 * 60.0
PAUSES = (2.0, 10.0, 60.0, 300.0, 900.0)


@dataclass(frozen=True)
class Place:
    """Ports on loopback, the socket of the start window, and how long things may take (seconds)."""

    port: int = PORT
    rehearsal_port: int = REHEARSAL_PORT
    socket: Path = SECRETS_SOCKET
    user: str = USER
    timeout: float = START_SECONDS
    """From the start to ``ready``."""
    tick: float = TICK_SECONDS
    """Between two looks at consents, sessions and idleness."""
    look: float = LOOK_SECONDS
    """Between two questions to the launcher whether the gateway still runs."""
    socket_lifetime: float = SOCKET_SECONDS
    """After which a socket is closed, so that it comes anew past the portal, which may have shut the way."""
    pauses: tuple[float, ...] = PAUSES
    """Before each restart of a gateway that is to be always on; after the last it stays down."""

    @property
    def user_id(self) -> int:
        """Of the gateway's processes. Raises KeyError where there is no such user."""
        return int(self.user) if self.user.isdecimal() else pwd.getpwnam(self.user).pw_uid

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        """What the command line may say otherwise."""
        parser.add_argument("--gateway-port", type=int, default=PORT, metavar="PORT")
        parser.add_argument("--rehearsal-port", type=int, default=REHEARSAL_PORT, metavar="PORT")
        parser.add_argument("--gateway-socket", type=Path, default=SECRETS_SOCKET, metavar="SOCKET")
        parser.add_argument("--gateway-user", default=USER, metavar="USER", help="name or number")
        parser.add_argument("--gateway-timeout", type=float, default=START_SECONDS, metavar="SECONDS")
        parser.add_argument("--gateway-look", type=float, default=LOOK_SECONDS, metavar="SECONDS")
        parser.add_argument(
            "--gateway-socket-lifetime", type=float, default=SOCKET_SECONDS, metavar="SECONDS"
        )
        parser.add_argument(
            "--gateway-pauses", type=float, nargs="+", default=list(PAUSES), metavar="SECONDS"
        )

    @classmethod
    def of(cls, given: argparse.Namespace) -> Self:
        """As the command line says."""
        return cls(
            port=given.gateway_port,
            rehearsal_port=given.rehearsal_port,
            socket=given.gateway_socket,
            user=given.gateway_user,
            timeout=given.gateway_timeout,
            look=given.gateway_look,
            socket_lifetime=given.gateway_socket_lifetime,
            pauses=tuple(given.gateway_pauses),
        )
