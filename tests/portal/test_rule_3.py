"""Rule 3 on the web: no answer carries a secret, whoever asks for whatever."""

import base64
import os

import pytest
from django.conf import settings
from django.utils import timezone

from provisioning.models import FleetKey
from tests.portal.conftest import SEALED, SECRETS, Kind, State, World, make_operation
from tests.portal.routes import body, routes

pytestmark = pytest.mark.django_db


def disguises(secret: bytes) -> set[bytes]:
    """The forms in which bytes may slip into a page."""
    text = secret.decode("latin-1")
    plain = {secret, secret.hex().encode(), base64.b64encode(secret), base64.urlsafe_b64encode(secret)}
    return plain | {repr(secret).encode(), repr(secret)[2:-1].encode(), text.encode("utf-8"), secret[1:]}


@pytest.mark.parametrize("role", ["owner", "half staff", "operator", "superuser"])
def test_no_answer_holds_a_secret(world: World, role: str) -> None:
    """Wrapped or not: volume keys, enrolment secrets, the fleet's private keys, the portal's own keys."""
    private = os.urandom(32)
    now = timezone.now()
    FleetKey.objects.create(use="ca", certificate="PEM", private_key=private, expires_at=now)
    operation = make_operation(world.mine.runtime, Kind.RESTART, State.RUNNING, done=2)
    secrets = [*SECRETS.values(), private, settings.WRAPPING_KEY, settings.SECRET_KEY.encode(), SEALED]
    for place in (world.mine, world.other):
        secrets += [bytes(place.tenant_key.private_key or b""), bytes(place.secret.wrapped or b"")]
    needles = {form for secret in secrets for form in disguises(secret) if len(form) > 8}
    client = world.client(role)
    urls = [route.url(place) for route in routes() for place in (world.mine, world.other)]
    for url in [*urls, f"/admin/provisioning/operation/{operation.pk}/change/"]:
        if "logout" in url:
            continue
        for response in (client.get(url), client.post(url, {"action": "request_delete"})):
            told = body(response) + repr(sorted(response.headers.items())).encode()
            for needle in needles:
                assert needle not in told, url
            assert b"volume_key" not in told, url
            assert b"enrolment_secret" not in told, url
            assert b"private_key" not in told, url
        if "sign-out" in url or "logout" in url:
            client = world.client(role)
