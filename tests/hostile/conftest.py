"""The pair of guests, booted once for the whole file that attacks them."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from deploy.portalctl import walls
from provisioning.purge import purge
from provisioning.specs import host_spec
from tests.conftest import empty_tables, register_built
from tests.egress.on_host import HostWorld, host_world
from tests.egress.world import KeeperProcess
from tests.hostile.image import hostile_image
from tests.hostile.world import HERE, World, booted, plan, real_host


@pytest.fixture(scope="module")
def alone() -> Iterator[None]:
    """One file at a time: some of their tests change the walls of the whole host."""
    with walls.RULES.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        walls.ensure()
        yield


@pytest.fixture(scope="module")
def internet(alone: None) -> Iterator[HostWorld]:
    """A small internet behind this machine."""
    with host_world() as made:
        yield made


@pytest.fixture(scope="module")
def keeper(internet: HostWorld) -> Iterator[KeeperProcess]:
    """The egress keeper of this machine."""
    made = KeeperProcess.fresh(internet, PORTAL_FLEET_ID=settings.FLEET_ID)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def world(
    django_db_setup: None,
    django_db_blocker: Any,
    real_engine: str,
    real_image_directory: Path,
    internet: HostWorld,
    keeper: KeeperProcess,
) -> Iterator[World]:
    """A hostile guest and its neighbour. The database stays open to the whole module, and is emptied after it."""
    folder = Path(tempfile.mkdtemp(prefix="portal-hostile-", dir="/var/tmp"))  # QEMU's user must get there
    with django_db_blocker.unblock():
        try:
            host, small = real_host(real_engine, keeper), plan()
            try:
                register_built(real_image_directory)
                neighbour = booted(small, host, "neighbour")
                neighbour.put("authority.pem", internet.outside.authority.read_bytes())
                hostile_image(real_image_directory, folder)
                attacker = booted(small, host, "attacker")
                for program in (HERE / "inside").glob("[a-z]*.py"):
                    attacker.put(program.name, program.read_bytes())
                yield World(host, internet, keeper, attacker, neighbour)
            finally:
                purge(host_spec(host))
        finally:
            empty_tables()
            shutil.rmtree(folder)
