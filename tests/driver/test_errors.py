"""Failures name what to change, tell whether to try again, and keep secrets."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest

from provisioning.driver import (
    DriverError,
    HostSpec,
    HostUnreachable,
    ImageCorrupt,
    ImageMissing,
    ImageSpec,
    LibvirtDriver,
    RuntimeSpec,
    Unsupported,
    connect,
)
from provisioning.driver import connection as connection_module
from provisioning.driver.connection import open_connection, translate
from provisioning.driver.images import verify
from provisioning.driver.types import Engine
from tests.driver.support import PASSPHRASE


def _uri(path: Path) -> str:
    return f"test+unix:///default?socket={path}"


def test_a_daemon_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(HostUnreachable, match="Start libvirtd") as caught:
        connect(HostSpec(_uri(tmp_path / "none"), Engine.TEST, "dterr", str(tmp_path)))
    assert caught.value.retryable
    assert caught.value.code == "host_unreachable"


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Path]:
    """A socket whose owner accepts and says nothing."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "silent"))
        server.listen(1)
        yield tmp_path / "silent"


def test_a_daemon_that_stays_silent(silent: Path) -> None:
    began = time.monotonic()
    with pytest.raises(HostUnreachable, match="did not answer within"):
        open_connection(_uri(silent), timeout_seconds=0.3)
    assert time.monotonic() - began < 2


def test_a_closed_connection_is_told_so(kept: None) -> None:
    connection = open_connection("test+unix:///default")
    connection.close()
    connection.close()
    with pytest.raises(HostUnreachable, match="closed"):
        _ = connection.raw


def test_a_forked_child_cannot_harm_its_parents_connection(simulated: LibvirtDriver) -> None:
    """It may use neither that one nor one of its own, is told so at once, and its end ends nothing."""
    child = os.fork()
    if child == 0:
        refused = 0
        try:
            for attempt in (simulated.powers, lambda: connect(simulated.host)):
                try:
                    attempt()
                except HostUnreachable:
                    refused += 1
        finally:
            os._exit(refused)
    _pid, ended = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(ended) == 2
    assert simulated.powers() == {}


def test_a_child_of_a_process_without_connections_may_open_one(simulated_host: HostSpec) -> None:
    """What Celery's pool does: its parent imports this code and opens nothing."""
    code = f"""
import os
from provisioning.driver import HostSpec, connect
from provisioning.driver.types import Engine

child = os.fork()
if child == 0:
    with connect({simulated_host!r}) as driver:
        driver.powers()
    os._exit(0)
os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    code = code.replace("<Engine.TEST: 'test'>", "Engine.TEST")
    done = subprocess.run([sys.executable, "-c", code], timeout=60, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_malformed_fleet_is_refused_before_connecting(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fleet id"):
        connect(HostSpec(_uri(tmp_path / "none"), Engine.TEST, "Bad Fleet", str(tmp_path)))


@pytest.mark.parametrize(
    ("code", "words", "expected", "retryable"),
    [
        (libvirt.VIR_ERR_INTERNAL_ERROR, "client socket is closed", "host_unreachable", True),
        (libvirt.VIR_ERR_RPC, "anything", "host_unreachable", True),
        (libvirt.VIR_ERR_SYSTEM_ERROR, "write: No space left on device", "no_space", False),
        (libvirt.VIR_ERR_OPERATION_TIMEOUT, "cannot acquire state change lock", "host_busy", True),
        (
            libvirt.VIR_ERR_INTERNAL_ERROR,
            "Failed to apply firewall rules /usr/sbin/ebtables",
            "host_busy",
            True,
        ),
        (libvirt.VIR_ERR_NO_SUPPORT, "not supported", "unsupported", False),
        (libvirt.VIR_ERR_INTERNAL_ERROR, "QEMU fell over", "call_failed", False),
    ],
)
def test_libvirts_errors_are_sorted(code: int, words: str, expected: str, retryable: bool) -> None:
    error = libvirt.libvirtError("call")
    error.err = (code, 0, words, 0, None, None, None, 0, 0)
    translated = translate(error, "doing a thing")
    assert (translated.code, translated.retryable) == (expected, retryable)
    assert words in translated.message


def test_a_network_in_use_says_which_setting_to_change() -> None:
    error = libvirt.libvirtError("call")
    words = "internal error: Network is already in use by interface br0"
    error.err = (libvirt.VIR_ERR_INTERNAL_ERROR, 0, words, 0, None, None, None, 0, 0)
    translated = translate(error, "preparing the network")
    assert (translated.code, "PORTAL_NETWORK_POOL" in translated.message) == ("call_failed", True)


def test_no_error_repeats_the_passphrase(
    simulated_host: HostSpec, spec: RuntimeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should libvirt ever quote it, we do not."""
    error = libvirt.libvirtError("call")
    error.err = (libvirt.VIR_ERR_INTERNAL_ERROR, 0, f"bad value {PASSPHRASE}", 0, None, None, None, 0, 0)

    def quote(*_args: object) -> bool:
        raise error

    monkeypatch.setattr("provisioning.driver.passphrases.ensure_secret", quote)
    with LibvirtDriver(simulated_host) as driver, pytest.raises(DriverError) as caught:
        driver.ensure_secret(spec, PASSPHRASE)
    assert PASSPHRASE not in str(caught.value)
    assert caught.value.__suppress_context__


def test_the_test_driver_lacks_secrets_and_says_so(simulated_host: HostSpec, spec: RuntimeSpec) -> None:
    """A real driver on the simulated engine's URI: a wrong entry in the hosts' table."""
    with LibvirtDriver(simulated_host) as driver, pytest.raises(Unsupported, match="cannot do it"):
        driver.ensure_secret(spec, PASSPHRASE)


def test_an_image_whose_file_is_missing(simulated: LibvirtDriver, spec: RuntimeSpec, tmp_path: Path) -> None:
    with pytest.raises(ImageMissing, match="Build the image"):
        simulated.verify_image(replace(spec.image, directory=str(tmp_path)))


def test_an_image_with_one_bit_changed(simulated: LibvirtDriver, spec: RuntimeSpec, tmp_path: Path) -> None:
    simulated.verify_image(spec.image)
    for name in spec.image.sha256:
        (tmp_path / name).write_bytes((Path(spec.image.directory) / name).read_bytes())
    with (tmp_path / "root.img").open("r+b") as file:
        file.write(b"\x01")
    with pytest.raises(ImageCorrupt, match=r"root\.img"):
        simulated.verify_image(replace(spec.image, directory=str(tmp_path)))


def test_an_image_without_a_registered_hash(simulated: LibvirtDriver, spec: RuntimeSpec) -> None:
    hashes = {name: digest for name, digest in spec.image.sha256.items() if name != "vmlinuz"}
    with pytest.raises(ImageCorrupt, match="vmlinuz"):
        simulated.verify_image(replace(spec.image, sha256=hashes))


def test_an_image_on_another_machine_cannot_be_checked_from_here(image: ImageSpec) -> None:
    with pytest.raises(Unsupported, match="on its own host"):
        verify("qemu+tls://elsewhere.example/system", image)


def test_the_event_loop_is_started_once(kept: None) -> None:
    before = threading.active_count()
    connection_module._start_event_loop()
    assert threading.active_count() == before
