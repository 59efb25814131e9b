"""A guest's sealing key and something sealed to it, as an owner's browser would send it."""

from typing import Any

from nacl.public import PrivateKey

from protocol.sealed import key_id, seal
from tenants.models import ConnectorSecret
from tenants.services import secret_put
from tests.tenants.conftest import House

MARKER = b"ghp_marker-7f3a9c51e2d84b06"
GUEST = PrivateKey(bytes(range(32)))
KEY_ID = key_id(bytes(GUEST.public_key))
SEALED = seal(bytes(GUEST.public_key), MARKER)


def put(house: House, name: str = "GITHUB_TOKEN", who: str = "owner", **given: Any) -> ConnectorSecret:
    """Save a sealed secret as that person."""
    defaults = {"connector": "github", "sealing_key": KEY_ID, "sealed": SEALED}
    return secret_put(actor=house.actor(who), tenant=house.tenant, name=name, **{**defaults, **given})
