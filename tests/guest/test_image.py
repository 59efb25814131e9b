"""The image's recipe, as far as it can be tested without building one."""

import io
import stat
import subprocess
from pathlib import Path

import pytest

from guest.image import recipe
from guest.image.initramfs import Entry, archive, directory, program
from guest.image.rootfs import trim_git
from guest.image.tools import BuildError
from guest.image.version import image_version

REQUIREMENTS = Path("requirements.txt")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with one file in each input folder."""
    for name in (
        "guest/agent/server.py",
        "guest/requirements.txt",
        "protocol/enrolment.py",
        "portal/urls.py",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


@pytest.mark.parametrize("name", ["guest/agent/server.py", "guest/requirements.txt", "protocol/enrolment.py"])
def test_version_follows_content(tree: Path, name: str) -> None:
    """A change in any input gives another version; undoing it gives the first one back."""
    before = image_version(tree)
    (tree / name).write_text("changed")
    assert image_version(tree) != before
    (tree / name).write_text(name)
    assert image_version(tree) == before


def test_version_follows_names_and_modes(tree: Path) -> None:
    """Renaming an input or making it executable gives another version."""
    versions = {image_version(tree)}
    (tree / "guest/requirements.txt").rename(tree / "guest/other.txt")
    versions.add(image_version(tree))
    (tree / "guest/other.txt").chmod(0o755)
    versions.add(image_version(tree))
    assert len(versions) == 3


def test_version_ignores_what_is_not_built(tree: Path) -> None:
    """Documentation, compiled files and other rooms do not make an image stale."""
    before = image_version(tree)
    for name in ("guest/README.md", "guest/agent/__pycache__/server.cpython-311.pyc", "portal/urls.py"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("changed")
    assert image_version(tree) == before


def test_version_shape() -> None:
    """The real tree has a version that can be a folder's name."""
    prefix, digits = image_version().split("-")
    assert prefix == "g"
    assert len(digits) == 12
    assert int(digits, 16) >= 0


def test_archive_is_readable(tmp_path: Path) -> None:
    """What we write is an archive that other programs read back, links, devices and modes included."""
    link = Entry("bin/sh", stat.S_IFLNK | 0o777, b"busybox")
    console = Entry("console", stat.S_IFCHR | 0o600, device=(5, 1))
    data = archive([directory("bin"), program("bin/busybox", b"abc"), link, console], epoch=1)
    listing = _members(data)
    assert listing == {
        "bin": (stat.S_IFDIR | 0o755, b""),
        "bin/busybox": (stat.S_IFREG | 0o755, b"abc"),
        "bin/sh": (stat.S_IFLNK | 0o777, b"busybox"),
        "console": (stat.S_IFCHR | 0o600, b""),
        "TRAILER!!!": (0, b""),
    }
    assert archive([directory("bin")], epoch=1) == archive([directory("bin")], epoch=1)


def _members(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Read a "newc" archive by its published layout: 13 fields of 8 hexadecimal digits after the magic."""
    stream, found = io.BytesIO(data), {}
    while header := stream.read(110):
        assert header[:6] == b"070701"
        fields = [int(header[6 + 8 * index : 14 + 8 * index], 16) for index in range(13)]
        name = stream.read(fields[11])[:-1].decode()
        stream.seek(-stream.tell() % 4, io.SEEK_CUR)
        found[name] = (fields[1], stream.read(fields[6]))
        stream.seek(-stream.tell() % 4, io.SEEK_CUR)
    return found


def test_requirements_agree() -> None:
    """The guest's libraries are pinned to the versions that the portal itself is tested with."""
    portal = set((recipe.REPOSITORY / REQUIREMENTS).read_text().splitlines())
    guest = (recipe.REPOSITORY / "guest" / REQUIREMENTS).read_text().splitlines()
    pins = {line for line in guest if line and not line.startswith("#")}
    assert pins
    assert pins <= portal


@pytest.mark.parametrize("script", ["image/init", *[f"image/rootfs/usr/lib/portal/{name}" for name in
    ("boot-report", "data-volume", "gateway-ended", "gateway-start", "network", "power-button")]])  # fmt: skip
def test_scripts_parse(script: str) -> None:
    """Every shell script of the guest is executable and free of syntax errors."""
    path = recipe.REPOSITORY / "guest" / script
    assert path.stat().st_mode & stat.S_IXUSR
    subprocess.run(["/bin/sh", "-n", path], check=True)


def test_no_way_to_log_in() -> None:
    """No unit of the image gives a console login, and the modules it may load are a closed list."""
    assert {"getty@.service", "serial-getty@.service", "debug-shell.service"} <= set(recipe.MASKED)
    assert not [name for name in recipe.KEPT_WANTS if "getty" in name or "logind" in name]
    assert "modules_disabled" in recipe.INIT_SCRIPT.read_text()


# git, unpacked and trimmed


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """A root folder as git's package leaves it, but for the size."""
    home = tmp_path / recipe.GIT_HOME
    for path in (tmp_path / "usr/bin/git", home / "git", *(tmp_path / name for name in recipe.GIT_UNUSED)):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"\x7fELF")
    (home / "git-submodule").write_text("#!/bin/sh\n")
    (home / "git-clone").symlink_to("git")
    (home / "mergetools").mkdir()
    return tmp_path


def test_git_is_left_whole_and_once(unpacked: Path) -> None:
    trim_git(unpacked)
    home = unpacked / recipe.GIT_HOME
    assert {path.name for path in home.iterdir()} == {"git", "git-clone", "git-submodule", "mergetools"}
    assert (home / "git-clone").resolve() == unpacked / "usr/bin/git"
    assert not [name for name in recipe.GIT_UNUSED if (unpacked / name).exists()]


def test_a_git_that_needs_perl_is_not_taken(unpacked: Path) -> None:
    """There is none in the image; a later release may have written another command in it."""
    (unpacked / recipe.GIT_HOME / "git-new").write_bytes(b"#!/usr/bin/perl\nuse strict;\n")
    with pytest.raises(BuildError, match="git-new needs Perl"):
        trim_git(unpacked)


def test_a_git_that_is_elsewhere_is_not_taken(unpacked: Path) -> None:
    (unpacked / "usr/bin/git").unlink()
    with pytest.raises(BuildError, match="where it did"):
        trim_git(unpacked)


@pytest.mark.parametrize(
    "asked", ["git@github.com:", "ssh://git@github.com/", "git://github.com/", "http://github.com/"]
)
def test_whatever_people_copy_is_asked_for_over_https(asked: str) -> None:
    """The proxy takes nothing else. Other places stay as they are written."""

    def meant(url: str) -> str:
        environment = {"GIT_CONFIG_SYSTEM": str(recipe.OVERLAY / "etc/gitconfig"), "PATH": "/usr/bin:/bin"}
        line = ["git", "ls-remote", "--get-url", url]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True, timeout=20)
        return done.stdout.strip()

    assert meant(f"{asked}acme/hello") == "https://github.com/acme/hello"
    elsewhere = asked.replace("github.com", "elsewhere.test")
    assert meant(f"{elsewhere}acme/hello") == f"{elsewhere}acme/hello"
