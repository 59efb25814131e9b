"""What web can write to the database does not steer a worker: hosts and images are believed only sealed."""

import pytest

from provisioning.models import GuestImage, Host
from provisioning.seals import is_sealed
from provisioning.specs import SealBroken, host_spec, image_spec

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("uri", "qemu+ext:///system?command=/srv/mine"),
        ("pool_path", "/etc"),
        ("engine", "qemu"),
        ("name", "other"),
        ("capabilities", ["bandwidth"]),
        ("egress_path", "/etc"),
    ],
)
def test_a_changed_host_is_refused(simulated_host: Host, column: str, value: object) -> None:
    """Each column that a worker acts upon is under the seal."""
    Host.objects.filter(pk=simulated_host.pk).update(**{column: value})
    with pytest.raises(SealBroken, match="host_register --again"):
        host_spec(Host.objects.get(pk=simulated_host.pk))
    Host.objects.filter(pk=simulated_host.pk).update(**{column: getattr(simulated_host, column)})
    host_spec(Host.objects.get(pk=simulated_host.pk))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("directory", "/srv/evil"),
        ("sha256", {}),
        ("cmdline", "init=/bin/sh"),
        ("version", "g-other"),
        ("checked", False),
    ],
)
def test_a_changed_image_is_refused(image: GuestImage, column: str, value: object) -> None:
    """An image from elsewhere, with other hashes or another command line, is not booted."""
    GuestImage.objects.filter(pk=image.pk).update(**{column: value})
    with pytest.raises(SealBroken, match="image_register"):
        image_spec(GuestImage.objects.get(pk=image.pk))


def test_a_seal_is_no_other_rows(image: GuestImage, simulated_host: Host) -> None:
    """A seal moved from another row, or none, does not fit."""
    assert is_sealed(image)
    image.seal = simulated_host.seal
    assert not is_sealed(image)
    image.seal = b""
    assert not is_sealed(image)


def test_draining_needs_no_seal(simulated_host: Host) -> None:
    """What staff may change in the admin is outside the seal."""
    Host.objects.filter(pk=simulated_host.pk).update(enabled=False, build_slots=9)
    host_spec(Host.objects.get(pk=simulated_host.pk))
