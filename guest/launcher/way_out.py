"""The one way out of the machine: its host's egress proxy, as the papers name it.

The first program of the boot (``image/init``) writes it into systemd's default environment, so that every
process has it. Here it is read back, for what an environment cannot say.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass

from protocol.enrolment import MAX_PORT

VARIABLE = "HTTPS_PROXY"
_URL = re.compile(r"http://([0-9.]{7,15}):([1-9][0-9]{0,4})")


@dataclass(frozen=True)
class WayOut:
    """Where the proxy listens; a process that may reach it may reach nothing else."""

    address: str
    port: int

    @property
    def environment(self) -> dict[str, str]:
        """What tells a program to ask the proxy; in large and small letters, for each reads its own.

        Plain HTTP goes there too: the proxy refuses it at once and notes it, where a wall is only silent.
        """
        url = f"http://{self.address}:{self.port}"
        both = {"HTTPS_PROXY": url, "HTTP_PROXY": url, "NO_PROXY": "localhost,127.0.0.1"}
        lower = {name.lower(): value for name, value in both.items()}
        return {**both, **lower, "NODE_USE_ENV_PROXY": "1"}


def way_out(environment: Mapping[str, str]) -> WayOut | None:
    """The proxy that ``environment`` names; None if it names none, or something else than the boot writes."""
    found = _URL.fullmatch(environment.get(VARIABLE, ""))
    if found is None or int(found[2]) > MAX_PORT:
        return None
    try:
        return WayOut(str(ipaddress.IPv4Address(found[1])), int(found[2]))
    except ValueError:
        return None
