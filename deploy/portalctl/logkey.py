"""The audit log's key pair: made once, by the first `make up`. Only the sequencer gets the secret half."""

import json
import sys
from pathlib import Path

from deploy.portalctl.commands import output
from deploy.portalctl.places import CHECKOUT, Places

_MAKE = """
import base64, json, sys
from protocol.notes import new_key
seed, vkey = new_key(sys.argv[1])
print(json.dumps([base64.b64encode(seed).decode(), str(vkey)]))
"""


def pair(places: Places, origin: str) -> dict[str, str]:
    """A new pair for the log of this name. The virtual environment does it: Python alone knows no Ed25519."""
    python = places.python if places.python.exists() else Path(sys.executable)
    secret, public = json.loads(output([str(python), "-B", "-c", _MAKE, origin], cwd=CHECKOUT))
    return {"PORTAL_LOG_KEY": secret, "PORTAL_LOG_VKEY": public}
