"""What the agent tells about its machine. A control route: nothing here comes from the tenant's content."""

import json
import os
import time
from pathlib import Path
from typing import Any

from cryptography import x509

from guest.agent import AGENT_VERSION
from guest.agent.config import Config
from guest.agent.enrolment import Enrolment
from guest.agent.vault import Vault

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MEMORY = Path("/proc/meminfo")
KIBIBYTE = 1024
BOOT_REPORT_LIMIT = 4096


def status(config: Config, enrolment: Enrolment, vault: Vault) -> dict[str, Any]:
    """The document of ``GET /v1/status``: sizes in bytes, times in seconds, the clock in Unix time."""
    certificate = enrolment.certificate
    return {
        "runtime_id": config.runtime_id,
        "tenant_id": config.personalisation.tenant_id,
        "agent_version": AGENT_VERSION,
        "image_version": config.image_version,
        "boot_id": boot_id(),
        "enrolled": certificate is not None,
        "certificate": _certificate(certificate) if certificate else None,
        "sealing_public_key": vault.sealing_public.hex(),
        "clock": int(time.time()),
        "data_volume": _volume(config.data),
        "memory": _memory(),
        "boot": _boot(config.boot_report),
        "proxy": config.personalisation.proxy,
    }


def boot_id() -> str:
    """Another one after each start of the machine."""
    return BOOT_ID.read_text().strip()


def _certificate(certificate: x509.Certificate) -> dict[str, str]:
    return {
        "serial": f"{certificate.serial_number:x}",
        "not_after": certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def _volume(folder: Path) -> dict[str, int]:
    volume = os.statvfs(folder)
    return {
        "size_bytes": volume.f_blocks * volume.f_frsize,
        "free_bytes": volume.f_bavail * volume.f_frsize,
    }


def _memory() -> dict[str, int]:
    fields = dict(line.split(":", 1) for line in MEMORY.read_text().splitlines())
    return {
        "total_bytes": int(fields["MemTotal"].split()[0]) * KIBIBYTE,
        "available_bytes": int(fields["MemAvailable"].split()[0]) * KIBIBYTE,
    }


def _boot(report: Path | None) -> dict[str, float] | None:
    """Seconds per stage, or None where nobody measured or the measurement is not finished."""
    if report is None:
        return None
    try:
        with report.open("rb") as file:
            stages = json.loads(file.read(BOOT_REPORT_LIMIT))
        return {str(stage): float(seconds) for stage, seconds in stages.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return None
