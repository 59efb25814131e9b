"""``python -m tests.driver.child build|change|remove|set_aside FLEET POOL IMAGE-DIR RUNTIME``: to be killed on the way.

Runs on the simulated engine with the same dummy agent as the tests, and knows nothing of what came before.
"""

import sys
from pathlib import Path
from uuid import UUID

from provisioning.driver.types import Engine, ImageSpec
from tests.driver.support import build, change, engine_host, open_driver, remove, runtime, set_aside


def main(what: str, fleet: str, pool: str, directory: str, runtime_id: str) -> None:
    """Build, change, remove or set aside one runtime."""
    image = ImageSpec("tiny", str(Path(directory)), {}, "console=ttyS0")
    spec = runtime(image, runtime_id=UUID(runtime_id))
    with open_driver(engine_host(Engine.TEST, fleet, pool)) as driver:
        {"build": build, "change": change, "remove": remove, "set_aside": set_aside}[what](driver, spec)


if __name__ == "__main__":
    main(*sys.argv[1:])
