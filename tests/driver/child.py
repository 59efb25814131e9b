"""``python -m tests.driver.child build|change|remove FLEET POOL IMAGE-DIR RUNTIME``: to be killed on the way.

Runs on the simulated engine with the same dummy agent as the tests, and knows nothing of what came before.
"""

import sys
from pathlib import Path
from uuid import UUID

from provisioning.driver.types import Engine, HostSpec, ImageSpec
from tests.driver.support import URIS, build, change, open_driver, remove, runtime


def main(what: str, fleet: str, pool: str, directory: str, runtime_id: str) -> None:
    """Build, change or remove one runtime."""
    image = ImageSpec("tiny", str(Path(directory)), {}, "console=ttyS0")
    spec = runtime(image, runtime_id=UUID(runtime_id))
    with open_driver(HostSpec(URIS[Engine.TEST], Engine.TEST, fleet, pool)) as driver:
        {"build": build, "change": change, "remove": remove}[what](driver, spec)


if __name__ == "__main__":
    main(*sys.argv[1:])
