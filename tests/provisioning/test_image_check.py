"""An image is known, and booted, only after an agent's turn ran in a guest of just its files."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command

from audit.models import Entry
from provisioning.models import GuestImage, Host, Operation
from provisioning.services import image_register, runtime_create
from tenants.models import Tenant
from tests.conftest import TESTER
from tests.provisioning.workers import drain

DIGESTS = {"vmlinuz": "aa", "initrd.img": "bb", "root.img": "cc"}
PASSED = {"good": True, "sha256": DIGESTS, "ready": 90.0}
FAILED: list[dict[str, Any]] = [
    {},
    {**PASSED, "good": False},
    {**PASSED, "good": 1},
    {**PASSED, "sha256": {**DIGESTS, "root.img": "dd"}},
    {"good": True},
]


def register(check: dict[str, Any]) -> GuestImage:
    return image_register(
        actor=TESTER, version="g-1", directory="/x", sha256=DIGESTS, cmdline="", size_bytes=1, check=check
    )


def test_a_passed_check_is_kept_and_sealed(make_host: Callable[..., Host]) -> None:
    make_host(engine=Host.Engine.QEMU)
    image = register(PASSED)
    assert image.checked
    assert image.check_result == {"good": True, "ready": 90.0}
    assert Entry.objects.filter(action="image.registered").exists()


@pytest.mark.parametrize("check", FAILED)
def test_without_one_it_stays_unknown(make_host: Callable[..., Host], check: dict[str, Any]) -> None:
    """Also while one of several hosts is simulated, and on a machine that has no host yet."""
    with pytest.raises(ValidationError, match="make image"):
        register(check)
    make_host()
    make_host(engine=Host.Engine.KVM)
    with pytest.raises(ValidationError, match="make image"):
        register(check)
    assert not GuestImage.objects.exists()
    assert not Entry.objects.filter(action="image.registered").exists()


@pytest.mark.parametrize("check", FAILED)
def test_where_all_is_simulated_it_is_taken_unchecked(
    make_host: Callable[..., Host], check: dict[str, Any]
) -> None:
    make_host()
    assert register(check).checked is False


def test_the_command_reads_what_the_check_left(make_host: Callable[..., Host], tmp_path: Path) -> None:
    make_host(engine=Host.Engine.QEMU)
    manifest = {"version": "g-1", "sha256": DIGESTS, "size": {"root.img": 1}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CommandError, match="make image"):
        call_command("image_register", str(tmp_path))
    (tmp_path / "checked.json").write_text(json.dumps(PASSED))
    call_command("image_register", str(tmp_path))
    assert GuestImage.objects.get().checked


def test_no_guest_really_boots_from_an_unchecked_one(
    make_host: Callable[..., Host], image: GuestImage, tenant: Tenant
) -> None:
    """The row is believed as sealed; this one says: unchecked."""
    from provisioning.seals import seal

    make_host(engine=Host.Engine.QEMU, uri="test+unix:///default")
    image.checked = False
    image.seal = seal(image)
    image.save()
    operation: Operation = drain(runtime_create(actor=TESTER, tenant=tenant))
    assert operation.error_code == "image_unchecked"
