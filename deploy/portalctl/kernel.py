"""Bridged frames must pass the host's filters, or libvirt's nwfilter rules about addresses never see them."""

from pathlib import Path

from deploy.portalctl.commands import answers, as_root
from deploy.portalctl.terminal import progress, warn

_STAGE = "bridge filtering"
_OFF = (
    "cannot turn on {names}: tenants' network filters may not hold on this host. "
    "Load the kernel module br_netfilter and set net.bridge.bridge-nf-call-iptables=1"
)
_SWITCHES = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")


def ensure(folder: Path = Path("/proc/sys/net/bridge")) -> None:
    """Load br_netfilter and turn it on where we may; say so where we may not."""
    if not folder.is_dir():
        answers(["modprobe", "br_netfilter"])
    failed = [name for name in _SWITCHES if not _on(folder / name)]
    if failed:
        warn(_STAGE, _OFF.format(names=", ".join(failed)))
    else:
        progress(_STAGE, "on")


def _on(switch: Path) -> bool:
    try:
        if switch.read_text().strip() != "1":
            switch.write_text("1\n")
        return switch.read_text().strip() == "1"
    except OSError:
        return False


def open_kvm(device: Path = Path("/dev/kvm")) -> None:
    """Give /dev/kvm the group and mode that Debian's udev rule gives it, where no udev has done so.

    QEMU runs as a user of its own; if only root may open the device, libvirt examines QEMU anew on every
    call that concerns a machine, which takes up to a minute.
    """
    if not device.exists() or device.stat().st_mode & 0o066:
        return
    if not (
        answers(as_root(["chown", "root:kvm", str(device)]))
        and answers(as_root(["chmod", "0660", str(device)]))
    ):
        warn(
            "KVM", f"{device} is for its owner only, so libvirt will be slow. Give it to root:kvm, mode 0660"
        )
