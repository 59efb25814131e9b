"""The root file system: Debian's packages, our units and the agent, pruned and packed read-only."""

import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from guest.image import recipe
from guest.image.tools import BuildError, apt_sources, run


@dataclass(frozen=True)
class Tree:
    """A bootstrapped system and what was fetched beside it."""

    root: Path
    kernel: Path
    """The kernel package, unpacked."""
    busybox: Path
    packages: dict[str, str]
    """Debian package to version, the kernel included."""

    @property
    def kernel_image(self) -> Path:
        return _only(self.kernel / "boot", "vmlinuz-*")

    @property
    def modules(self) -> Path:
        return _only(self.kernel / "lib/modules", "*")


def bootstrap(work: Path) -> Tree:
    """Install Debian in ``work/root`` and unpack the kernel and busybox beside it.

    Raises:
        BuildError: a tool failed, or the archive lacks a package.
    """
    root, debs = work / "root", work / "debs"
    debs.mkdir()
    # The chroot's own apt resolves and checks the packages that are not installed.
    fetch = (
        f"cd {debs} && kernel=$(apt-cache depends --important {recipe.KERNEL_PACKAGE}"
        " | sed -n 's/^ *Depends: //p' | head -n 1) && test -n \"$kernel\" &&"
        f' apt-get -o APT::Sandbox::User=root download "$kernel"'
        f" {recipe.BUSYBOX_PACKAGE} {recipe.GIT_PACKAGE}"
    )
    run(
        [
            "mmdebstrap",
            "--quiet",
            "--mode=root",
            "--variant=minbase",
            f"--architectures={recipe.ARCHITECTURE}",
            f"--include={','.join(recipe.PACKAGES)}",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            f'--customize-hook=export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"; {fetch}',
            recipe.SUITE,
            root,
            *apt_sources(),
        ]
    )
    packages = _versions(run(["dpkg-query", f"--admindir={root}/var/lib/dpkg", "-W"]))
    places = {"linux-image": work / "linux-image", "busybox-static": work / "busybox-static", "git": root}
    for name, place in places.items():
        deb = _only(debs, f"{name}[-_]*.deb")
        run(["dpkg-deb", "-x", deb, place])
        packages |= _versions(run(["dpkg-deb", "-W", deb]))
    trim_git(root)
    return Tree(root, work / "linux-image", work / "busybox-static/bin/busybox", packages)


def trim_git(root: Path) -> None:
    """Leave of git what a clone, a commit and a push need.

    Raises:
        BuildError: the package is laid out otherwise, or something of it needs Perl all the same.
    """
    for name in recipe.GIT_UNUSED:
        _remove(root / name)
    program, copy = root / "usr/bin/git", root / recipe.GIT_HOME / "git"
    if not program.is_file() or not copy.is_file():
        raise BuildError("git's package does not hold git where it did")
    copy.unlink()
    copy.symlink_to("../../bin/git")
    for path in sorted((root / recipe.GIT_HOME).iterdir()):
        if path.is_file() and path.open("rb").readline(64).rstrip().endswith(b"perl"):
            raise BuildError(f"{path.name} needs Perl; name it in GIT_UNUSED")


def install_agent(root: Path) -> None:
    """Put the agent, the protocol and their libraries into ``root``."""
    home = root / recipe.AGENT_HOME
    requirements = recipe.REPOSITORY / "guest/requirements.txt"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    only_wheels = ["--only-binary=:all:", "--implementation=cp", "--python-version=3.11"]
    run([*pip, *only_wheels, "--no-compile", "--target", home, "--requirement", requirements])
    shutil.rmtree(home / "bin", ignore_errors=True)
    for source in ("protocol", "guest/agent", "guest/gateway", "guest/launcher"):
        unwanted = shutil.ignore_patterns("__pycache__")
        shutil.copytree(recipe.REPOSITORY / source, home / source, ignore=unwanted)
    (home / "guest/__init__.py").touch()


def install_gateway(root: Path, tree: Path) -> None:
    """Put the gateway's files, as ``gateway_tree`` made them, into ``root``."""
    run(["cp", "--archive", tree, root / recipe.GATEWAY_HOME])


def configure(root: Path, version: str) -> None:
    """Lay our files over ``root`` and take away all that a guest does not need."""
    _prune(root)
    shutil.copytree(recipe.OVERLAY, root, dirs_exist_ok=True)
    for folder in ("var/log", "var/cache", "var/lib/portal"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, target in _links().items():
        link = root / number
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    _add_users(root)
    (root / "etc/hostname").write_text("runtime\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost runtime\n")
    (root / "etc/machine-id").write_text("")
    (root / "etc/portal-image").write_text(f"{version}\n")
    _compile(root)
    _drop_setuid(root)


def pack(root: Path, image: Path) -> None:
    """Write ``root`` as a compressed, read-only erofs image."""
    fixed = [f"-T{recipe.EPOCH}", f"-U{recipe.ROOT_UUID}", "-x-1"]
    run(["mkfs.erofs", "--quiet", "-zlz4hc", *fixed, image, root])


def _links() -> dict[str, str]:
    units = "etc/systemd/system"
    masked = {f"{units}/{unit}": "/dev/null" for unit in recipe.MASKED}
    return masked | {f"{units}/default.target": "portal.target"}


def _prune(root: Path) -> None:
    for name in recipe.PRUNED:
        _remove(root / name)
    for link in (root / "usr/lib/systemd/system").glob("*.wants/*"):
        if link.name not in recipe.KEPT_WANTS:
            link.unlink()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _add_users(root: Path) -> None:
    for user, (number, words) in recipe.USERS.items():
        _append(root, "passwd", f"{user}:x:{number}:{number}:{words}:/nonexistent:/usr/sbin/nologin")
        _append(root, "group", f"{user}:x:{number}:")
        _append(root, "shadow", f"{user}:!:1::::::")
        _append(root, "gshadow", f"{user}:!::")
    group, number, members = recipe.WORKSPACE_GROUP
    _append(root, "group", f"{group}:x:{number}:{','.join(members)}")
    _append(root, "gshadow", f"{group}:!::{','.join(members)}")
    shadow = root / "etc/shadow"
    fields = [line.split(":") for line in shadow.read_text().splitlines()]
    # The third field is the day of the last change: the only part that differs from day to day.
    shadow.write_text("".join(":".join([name, "*", "1", *rest]) + "\n" for name, _, _, *rest in fields))


def _append(root: Path, name: str, line: str) -> None:
    path = root / "etc" / name
    path.write_text(path.read_text() + line + "\n")
    Path(f"{path}-").unlink(missing_ok=True)


def _compile(root: Path) -> None:
    """Compile every module, bound to no time stamp: packing changes them, so a check would always fail."""
    for stale in list(root.rglob("__pycache__")):
        shutil.rmtree(stale)
    mode = ["--invalidation-mode", "unchecked-hash"]
    compiler = ["/usr/bin/python3", "-m", "compileall", "-q", "-j", "0", *mode]
    run(["chroot", root, *compiler, "-x", "/lib2to3/tests/", "/usr/lib/python3.11", f"/{recipe.AGENT_HOME}"])


def _drop_setuid(root: Path) -> None:
    for path in root.rglob("*"):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
            path.chmod(stat.S_IMODE(mode) & ~(stat.S_ISUID | stat.S_ISGID))


def _versions(listing: str) -> dict[str, str]:
    return dict(_pairs(listing))


def _pairs(listing: str) -> Iterator[tuple[str, str]]:
    for line in listing.splitlines():
        name, version = line.split("\t")
        yield name.partition(":")[0], version


def _only(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise BuildError(f"expected one {pattern} in {folder.name}, found {len(found)}")
    return found[0]
