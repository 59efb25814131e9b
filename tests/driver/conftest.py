"""Hosts and images for the driver's tests. Every test has a fleet of its own and leaves nothing behind."""

import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from provisioning.driver import DriverError, HostSpec, ImageSpec, LibvirtDriver, RuntimeSpec
from provisioning.driver.connection import open_connection
from provisioning.driver.probe import slow_host
from provisioning.driver.types import Engine
from tests.driver.kernel import write_image
from tests.driver.support import URIS, engine_host, open_driver, remove, runtime


def _open_to_qemu() -> Path:
    """A directory that QEMU's user can reach, which pytest's own are not."""
    directory = Path(tempfile.mkdtemp(prefix="portal-driver-", dir="/var/tmp"))
    directory.chmod(0o755)
    return directory


@pytest.fixture(scope="session")
def image() -> Iterator[ImageSpec]:
    directory = _open_to_qemu()
    yield write_image(directory)
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def kept() -> Iterator[None]:
    """One connection that keeps the simulated driver's state, as `keeper` does in an installation."""
    try:
        connection = open_connection(URIS[Engine.TEST])
    except DriverError as error:
        pytest.skip(error.message)
    yield
    connection.close()


@pytest.fixture
def place() -> Iterator[Path]:
    directory = _open_to_qemu()
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def simulated_host(kept: None, place: Path) -> HostSpec:
    return engine_host(Engine.TEST, "dt" + secrets.token_hex(3), str(place / "pool"))


@pytest.fixture
def spec(image: ImageSpec) -> RuntimeSpec:
    return runtime(image)


@pytest.fixture
def simulated(simulated_host: HostSpec, spec: RuntimeSpec) -> Iterator[LibvirtDriver]:
    with open_driver(simulated_host) as driver:
        yield driver
        remove(driver, spec)


@pytest.fixture
def real(place: Path, spec: RuntimeSpec) -> Iterator[LibvirtDriver]:
    slow = slow_host(URIS[Engine.QEMU])
    if slow:
        pytest.skip(slow)
    host = engine_host(Engine.QEMU, "dt" + secrets.token_hex(3), str(place / "pool"))
    try:
        driver = open_driver(host)
    except DriverError as error:
        pytest.skip(error.message)
    with driver:
        yield driver
        remove(driver, spec)


@pytest.fixture(params=["simulated", pytest.param("real", marks=pytest.mark.guest)])
def driver(request: pytest.FixtureRequest) -> LibvirtDriver:
    """The contract holds for both kinds of host."""
    chosen: LibvirtDriver = request.getfixturevalue(request.param)
    return chosen
