"""What the agent is told at start: its command line and its personalisation."""

import argparse
import ipaddress
import uuid
from dataclasses import dataclass
from pathlib import Path

from guest.agent.gateway.place import Place
from guest.agent.launcher import SOCKET
from guest.agent.trust import Believed, TrustRefused
from guest.agent.workspace import Limits
from protocol.enrolment import SECRET_BYTES, EnrolmentError, Personalisation
from protocol.persons import Site

IMAGE_FILE = Path("/etc/portal-image")
PATIENCE_SECONDS = 10.0


class ConfigError(Exception):
    """The agent cannot start; the message says why and holds no secret."""


@dataclass(frozen=True)
class Config:
    """All that the agent knows before it opens its data folder."""

    personalisation: Personalisation
    believed: Believed
    """Whom of the control plane to believe, by this start's papers."""
    secret: bytes | None
    """The enrolment secret of this boot, if there is one."""
    site: Site | None
    """Where members' passkeys sign keyrings and consents; None: only device keys count."""
    own_site: Site | None
    """Where they begin sessions: this guest's own origin alone."""
    portal_site: Site | None
    """Where break-glass is asked for and approved: the portal's origin alone."""
    data: Path
    workspace: Path
    limits: Limits
    launcher: Path
    """The socket of the program that starts jobs and the gateway; absent in a simulated guest."""
    gateway: Place
    jobs: Path
    """Where the launcher leaves logs and results."""
    address: str
    port: int
    boot_report: Path | None
    patience: float
    """Seconds that a caller has to finish sending its request's head, and again for its body."""
    image_version: str

    @property
    def runtime_id(self) -> str:
        return self.personalisation.runtime_id


def config_from_arguments(arguments: list[str] | None = None) -> Config:
    """Read the command line and the files that it names.

    Raises:
        ConfigError: the personalisation is missing or does not make sense.
    """
    parser = argparse.ArgumentParser(prog="guest.agent", description="The portal's agent.")
    parser.add_argument("--personalisation", type=Path, required=True, metavar="FILE")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--workspace", type=Path, metavar="DIR", help="default: workspace beside DIR")
    parser.add_argument("--upload-limit", type=int, default=Limits.upload, metavar="BYTES")
    parser.add_argument(
        "--reserve", type=int, default=Limits.reserve, metavar="BYTES", help="what uploads leave free"
    )
    parser.add_argument("--launcher", type=Path, default=SOCKET, metavar="SOCKET")
    Place.add_arguments(parser)
    parser.add_argument("--listen", metavar="ADDRESS:PORT", help="default: as the personalisation says")
    parser.add_argument("--boot-report", type=Path, metavar="FILE")
    parser.add_argument("--patience", type=float, default=PATIENCE_SECONDS, metavar="SECONDS")
    given = parser.parse_args(arguments)
    personalisation = _read_personalisation(given.personalisation)
    address, port = _listen(given.listen, personalisation)
    return Config(
        personalisation=personalisation,
        believed=_believed(personalisation),
        secret=_secret(personalisation),
        site=_site(personalisation, personalisation.portal_origin, personalisation.origin),
        own_site=_site(personalisation, personalisation.origin),
        portal_site=_site(personalisation, personalisation.portal_origin),
        data=given.data,
        workspace=given.workspace or given.data.parent / "workspace",
        limits=Limits(upload=given.upload_limit, reserve=given.reserve),
        launcher=given.launcher,
        gateway=Place.of(given),
        jobs=given.data.parent / "jobs",
        address=address,
        port=port,
        boot_report=given.boot_report,
        patience=given.patience,
        image_version=_image_version(),
    )


def _read_personalisation(path: Path) -> Personalisation:
    try:
        personalisation = Personalisation.from_bytes(path.read_bytes())
        uuid.UUID(personalisation.runtime_id)
        ipaddress.IPv4Address(personalisation.guest_address)
    except OSError as error:
        raise ConfigError(f"cannot read the personalisation: {error.strerror}") from None
    except EnrolmentError as error:
        raise ConfigError(str(error)) from None
    except (ValueError, AttributeError, TypeError):
        raise ConfigError("the personalisation's runtime_id or guest_address is malformed") from None
    return personalisation


def _secret(personalisation: Personalisation) -> bytes | None:
    if personalisation.enrolment_secret is None:
        return None
    try:
        secret = bytes.fromhex(personalisation.enrolment_secret)
    except (ValueError, TypeError):
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise ConfigError(
            f"the personalisation's enrolment_secret is not {SECRET_BYTES} bytes in hexadecimal"
        )
    return secret


def _believed(personalisation: Personalisation) -> Believed:
    try:
        return Believed.of(personalisation.trust)
    except TrustRefused as error:
        raise ConfigError(f"the personalisation's trust: {error}") from None


def _site(personalisation: Personalisation, *origins: str) -> Site | None:
    if not personalisation.rp_id:
        return None
    return Site(str(personalisation.rp_id), frozenset(map(str, origins)))


def _listen(given: str | None, personalisation: Personalisation) -> tuple[str, int]:
    if given is None:
        return personalisation.guest_address, personalisation.agent_port
    address, _, port = given.rpartition(":")
    if not address or not port.isdecimal() or int(port) > 65535:
        raise ConfigError("--listen takes ADDRESS:PORT")
    return address, int(port)


def _image_version() -> str:
    try:
        return IMAGE_FILE.read_text().strip()
    except OSError:
        return "none"
