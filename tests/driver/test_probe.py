"""Which engine is believed in: pure cases, and the features of this machine's processor."""

from pathlib import Path

import pytest

from provisioning.driver.probe import Trial, decide
from provisioning.driver.types import Engine

RAN, HUNG = Trial(True, "ran", 0.5), Trial(False, "hangs")


@pytest.mark.parametrize(
    ("flags", "hardware", "translator", "engine"),
    [
        (["vmx"], RAN, RAN, Engine.KVM),
        (["svm"], RAN, HUNG, Engine.KVM),
        # It runs a tiny program by emulation, and dies of a kernel: seen on a busy machine, where it looked fast.
        ([], RAN, Trial(True, "ran", 9.0), Engine.QEMU),
        ([], RAN, HUNG, Engine.TEST),
        (["vmx"], Trial(True, "ran", 5.0), Trial(True, "ran", 0.5), Engine.QEMU),
        (["vmx"], HUNG, RAN, Engine.QEMU),
        (["vmx"], HUNG, HUNG, Engine.TEST),
    ],
)
def test_the_engine(flags: list[str], hardware: Trial, translator: Trial, engine: Engine) -> None:
    """Only KVM on hardware that says it can, that ran the trial, and not slower than emulation."""
    assert decide(flags, hardware, translator) is engine


@pytest.mark.guest
def test_this_machines_processor(real_engine: str) -> None:
    """The flags that libvirt tells are the kernel's own."""
    import libvirt
    from django.conf import settings

    from provisioning.driver.marks import parse
    from provisioning.driver.probe import _features

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next(line for line in lines if line.startswith("flags")).split()
    conn = libvirt.open(settings.LIBVIRT_URI)
    found = _features(conn, parse(conn.getCapabilities()))
    conn.close()
    assert {"vmx", "svm"} & found == {"vmx", "svm"} & set(flags)
    assert "sse2" in found
