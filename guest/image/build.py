"""Build the guest image: ``python -m guest.image.build --out DIR``.

Leaves ``DIR/<version>/`` with the kernel, the initramfs, the root image and a manifest, or nothing at all.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from guest.image import gateway_tree, recipe
from guest.image.initramfs import archive, initramfs_entries
from guest.image.rootfs import Tree, bootstrap, configure, install_agent, install_gateway, pack
from guest.image.tools import BuildError, check_host
from guest.image.version import image_version

FILES = ("vmlinuz", "initrd.img", "root.img")
MANIFEST = "manifest.json"

Progress = Callable[[str], None]


def build(out: Path, progress: Progress) -> Path:
    """Build the image that the current tree describes and return its folder.

    An image that is already there is left alone: its name tells what it holds.

    Raises:
        BuildError: the host lacks a tool, or a step failed; ``out`` then holds nothing new.
    """
    check_host()
    version = image_version()
    target = out / version
    if (target / MANIFEST).exists():
        progress(f"{version} is built already")
        return target
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=out) as name:
        work = Path(name)
        # mmdebstrap's helpers and QEMU run as other users and must get through.
        work.chmod(0o755)
        gateway = gateway_tree.ensure(out / ".gateway", progress)
        finished = _build_in(work, version, gateway, progress)
        if image_version() != version:
            raise BuildError("the recipe's files changed during the build; build again")
        finished.rename(target)
    return target


def _build_in(work: Path, version: str, gateway: Path, progress: Progress) -> Path:
    started = time.monotonic()
    progress(f"{version}: installing Debian {recipe.SUITE}")
    tree = bootstrap(work)
    progress(f"{version}: installing the agent")
    install_agent(tree.root)
    install_gateway(tree.root, gateway)
    configure(tree.root, version)
    progress(f"{version}: packing")
    image = work / "image"
    image.mkdir(mode=0o755)
    shutil.copyfile(tree.kernel_image, image / "vmlinuz")
    entries = initramfs_entries(tree.busybox, recipe.INIT_SCRIPT, tree.modules, recipe.MODULES)
    (image / "initrd.img").write_bytes(archive(entries, recipe.EPOCH))
    pack(tree.root, image / "root.img")
    _write_manifest(image, version, tree, gateway, round(time.monotonic() - started, 1))
    for path in image.iterdir():
        path.chmod(0o644)
    return image


def _write_manifest(image: Path, version: str, tree: Tree, gateway: Path, seconds: float) -> None:
    manifest = {
        "version": version,
        "sha256": {name: _sha256(image / name) for name in FILES},
        "size": {name: (image / name).stat().st_size for name in FILES},
        "cmdline": recipe.CMDLINE,
        "built_seconds": seconds,
        "gateway": json.loads((gateway / gateway_tree.REPORT).read_text()),
        "packages": dict(sorted(tree.packages.items())),
    }
    (image / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")


def _sha256(path: Path) -> str:
    total = sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
    return total.hexdigest()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Build the guest image.")
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--out", type=Path, help="folder that holds one folder per image version")
    action.add_argument("--print-version", action="store_true", help="say which version this tree gives")
    arguments = parser.parse_args()
    if arguments.print_version:
        _say(image_version())
        return 0
    try:
        _say(f"built {build(arguments.out.resolve(), _say)}")
    except BuildError as error:
        sys.stderr.write(f"guest image: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
