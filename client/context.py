"""What every command works with: the folder, the portal's address, the device key, the pins."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from client import files
from client.device import DEVICE, KEY_FILE, Device
from client.errors import Failure, Refused
from client.origins import Origin
from client.overview import Overview
from client.pins import Pins, Verdict, judge
from client.portal import Portal, unknown_key
from client.runtime import Runtime
from client.screen import credentials, warn
from client.wire import Wire

CONFIG_FILE = "config.json"
VARIABLE = "PORTAL_URL"


@dataclass(frozen=True)
class Context:
    """One command's."""

    folder: Path
    address: str | None
    """The portal's, as given on the command line."""
    told: Callable[[str], None]
    """Gets a line about each request."""

    @property
    def key_path(self) -> Path:
        """Where the device key is."""
        return self.folder / KEY_FILE

    def device(self) -> Device:
        """The device key. Raises Failure."""
        try:
            return Device.load(self.key_path, DEVICE)
        except FileNotFoundError:
            raise Failure(f"There is no device key in {self.folder} yet. Make one with: key new") from None

    def origin(self) -> Origin:
        """The portal's: from the command line, the environment or the file, in this order. Raises Failure."""
        text = self.address or os.environ.get(VARIABLE) or self._remembered()
        if not text:
            raise Failure(f"Which portal? Give --portal https://…, or set {VARIABLE}.")
        try:
            return Origin.parse(text)
        except ValueError as error:
            raise Failure(f"The portal's address cannot be used: {error}.") from None

    def remember(self, portal: Origin) -> None:
        """Take ``portal`` from now on where none is given."""
        files.replace(self.folder / CONFIG_FILE, json.dumps({"portal": str(portal)}).encode() + b"\n")

    def pins(self) -> Pins:
        """What this device has seen below this portal."""
        return Pins(self.folder, str(self.origin()))

    @contextmanager
    def portal(self, device: Device) -> Iterator[Portal]:
        """The portal, signed in with the device key. Raises Failure."""
        with self._portal() as portal:
            if not _known(portal, device):
                raise Failure(
                    "The portal does not know this device's key. Run: key register TENANT, "
                    "or paste the public key (key show) on the portal's page of members."
                )
            yield portal

    @contextmanager
    def portal_for_newcomers(self, device: Device) -> Iterator[Portal]:
        """The same, but a key that nobody has registered falls back on a password."""
        with self._portal() as portal:
            if not _known(portal, device):
                warn("The portal does not know this device's key yet. Sign in once with your password.")
                portal.sign_in_with_password(*credentials())
            yield portal

    @contextmanager
    def portal_by_password(self) -> Iterator[Portal]:
        """The portal, signed in with what the person types."""
        with self._portal() as portal:
            portal.sign_in_with_password(*credentials())
            yield portal

    @contextmanager
    def runtime(self, portal: Portal, device: Device, slug: str) -> Iterator[Runtime]:
        """The tenant's guest, signed in with the device key. Raises Failure."""
        origin, path = portal.enter(slug)
        with Runtime(self._wire("The runtime", origin), device, path) as runtime:
            yield runtime

    def judged(self, portal: Portal, slug: str) -> tuple[Overview, Verdict | None]:
        """What the portal shows of a tenant, held against the pins; what holds is pinned.

        Raises:
            Distrusted: it does not follow what was seen.
        """
        pins, seen = self.pins(), portal.overview(slug)
        verdict = judge(pins.get(slug), seen)
        if verdict is not None:
            pins.put(slug, verdict.keyring)
        return seen, verdict

    def _portal(self) -> Portal:
        return Portal(self._wire("The portal", self.origin()))

    def _wire(self, who: str, origin: Origin) -> Wire:
        return Wire(who, origin, self.told)

    def _remembered(self) -> str:
        path = self.folder / CONFIG_FILE
        try:
            found = json.loads(files.read(path))["portal"]
        except FileNotFoundError:
            return ""
        except (ValueError, KeyError, TypeError, RecursionError):
            found = None
        if not isinstance(found, str):
            raise Failure(f'{path} is damaged. It must be {{"portal": "https://…"}}.')
        return found


def _known(portal: Portal, device: Device) -> bool:
    """Sign in with the device key; False if nobody has registered it."""
    try:
        portal.sign_in(device)
    except Refused as error:
        if not unknown_key(error):
            raise
        return False
    return True
