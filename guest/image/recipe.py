"""What goes into the guest image: names, lists and fixed values. No code runs from here."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
OVERLAY = Path(__file__).resolve().parent / "rootfs"
INIT_SCRIPT = Path(__file__).resolve().parent / "init"

SUITE = "bookworm"
ARCHITECTURE = "amd64"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

PACKAGES = (
    *("systemd", "systemd-sysv", "python3", "e2fsprogs", "iproute2", "util-linux"),
    *("ca-certificates", "curl", "libcurl3-gnutls"),
)
"""Installed in the root file system, on top of Debian's essential set. The last is git's own."""

GIT_PACKAGE = "git"
"""Unpacked into the root, not installed: that would bring all of Perl, for commands that nobody misses."""
GIT_HOME = "usr/lib/git-core"
GIT_UNUSED = (
    *("etc/bash_completion.d", "usr/bin/git-shell", "usr/bin/scalar"),
    *("usr/share/git-core/contrib", "usr/share/gitweb", "usr/share/perl5"),
    *(f"{GIT_HOME}/git-{name}" for name in ("add--interactive", "daemon", "http-backend", "http-fetch")),
    *(f"{GIT_HOME}/git-{name}" for name in ("http-push", "imap-send", "instaweb", "shell")),
    f"{GIT_HOME}/scalar",
)
"""Servers, mail, web pages, and what is written in Perl."""

KERNEL_PACKAGE = "linux-image-cloud-amd64"
"""Unpacked beside the root, never installed in it: the running guest needs no kernel files."""

BUSYBOX_PACKAGE = "busybox-static"

MODULES = (
    "kernel/drivers/virtio/virtio_ring.ko",
    "kernel/drivers/virtio/virtio.ko",
    "kernel/drivers/virtio/virtio_pci_legacy_dev.ko",
    "kernel/drivers/virtio/virtio_pci_modern_dev.ko",
    "kernel/drivers/virtio/virtio_pci.ko",
    "kernel/drivers/block/virtio_blk.ko",
    "kernel/net/core/failover.ko",
    "kernel/drivers/net/net_failover.ko",
    "kernel/drivers/net/virtio_net.ko",
    "kernel/drivers/virtio/virtio_balloon.ko",
    "kernel/drivers/char/hw_random/virtio-rng.ko",
    "kernel/drivers/firmware/qemu_fw_cfg.ko",
    "kernel/drivers/acpi/button.ko",
    "kernel/drivers/input/evdev.ko",
    "kernel/lib/libcrc32c.ko",
    "kernel/fs/erofs/erofs.ko",
    "kernel/fs/overlayfs/overlay.ko",
)
"""Every kernel module that a guest ever loads, in order. The initramfs then closes the door to others."""

CMDLINE = " ".join(
    (
        "console=ttyS0",
        "quiet",
        "panic=1",
        "oops=panic",
        "ipv6.disable=1",
        "cryptomgr.notests",
        "8250.nr_uarts=1",
        "systemd.show_status=no",
    )
)

KEPT_WANTS = frozenset(
    {
        "systemd-journald.service",
        "systemd-journald.socket",
        "systemd-journald-dev-log.socket",
        "systemd-sysctl.service",
    }
)
"""The stock units that may start by themselves; every other ``*.wants`` entry is removed."""

MASKED = (
    "autovt@.service",
    "console-getty.service",
    "container-getty@.service",
    "ctrl-alt-del.target",
    "debug-shell.service",
    "emergency.service",
    "getty.target",
    "getty@.service",
    "rescue.service",
    "serial-getty@.service",
    "systemd-logind.service",
)
"""Units that nothing may start: every way to a login or a shell on the console."""

PRUNED = (
    "boot",
    "etc/apt",
    "etc/cron.daily",
    "etc/cron.hourly",
    "etc/hostname",
    "etc/resolv.conf",
    "etc/systemd/system/multi-user.target.wants",
    "etc/systemd/system/getty.target.wants",
    "etc/systemd/system/timers.target.wants",
    "lib/modules",
    "usr/lib/apt",
    "usr/lib/systemd/system-generators",
    "usr/lib/systemd/system-environment-generators",
    "usr/lib/udev",
    "usr/share/bash-completion",
    "usr/share/doc",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/zoneinfo",
    "var/cache",
    "var/lib/apt",
    "var/log",
)
"""Removed from the root: bulky, random from build to build, or of use only to a package manager."""

USERS = {"agent": (990, "Tenant agent"), "gateway": (991, "Gateway"), "tenant": (992, "Jobs and files")}
"""Users, each with a group of its own: the same numbers in every image, for the data volume outlives it."""

WORKSPACE_GROUP = ("workspace", 993, ("agent", "gateway", "tenant"))

AGENT_HOME = "opt/agent"
GATEWAY_HOME = "opt/gateway"
EPOCH = 1_700_000_000
"""SOURCE_DATE_EPOCH: every time stamp in the image, in seconds since 1970."""

ROOT_UUID = "6f1f4e0e-5d6f-4f7c-9b7d-9d5d3f0b6a11"
