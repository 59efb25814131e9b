"""A guest image whose launcher starts jobs as root with nothing around them: a tenant who owns their whole machine.

Everything else is the built image, bit for bit. It is for a test's own fleet and stays in a temporary folder.
"""

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from provisioning.models import GuestImage
from tests.conftest import sealed_image

UNITS = "opt/agent/guest/launcher/units.py"
_CLOSED_IN = re.compile(r"^_CLOSED_IN = \(.*?^\)$", re.DOTALL | re.MULTILINE)
_OPEN = '_CLOSED_IN = ("Type=exec", "KillMode=control-group", "TimeoutStopSec=5", "WorkingDirectory=/root")'
_USER = '"--uid=tenant", "--gid=workspace"'


def opened(units: str) -> str:
    """The launcher's module with a root job's properties."""
    text, count = _CLOSED_IN.subn(_OPEN, units)
    assert count == 1, "the launcher's list of properties has moved"
    assert text.count(_USER) == 1, "the launcher names a job's user elsewhere"
    return text.replace(_USER, '"--uid=root", "--gid=root"')


def hostile_image(built: Path, folder: Path) -> GuestImage:
    """Register the hostile variant of the image in ``built``, made in ``folder``. Some three seconds."""
    root, made = folder / "root", folder / "image"
    made.mkdir()
    _run("fsck.erofs", f"--extract={root}", "--overwrite", str(built / "root.img"))
    (root / UNITS).write_text(opened((root / UNITS).read_text()))
    for compiled in (root / UNITS).parent.glob("__pycache__/units.*.pyc"):
        compiled.unlink()
    _run("mkfs.erofs", "--quiet", str(made / "root.img"), str(root))
    shutil.rmtree(root)
    for name in ("vmlinuz", "initrd.img"):
        shutil.copy(built / name, made)
    for path in (folder, made):
        path.chmod(0o755)
    manifest: Any = json.loads((built / "manifest.json").read_text())
    files = sorted(made.iterdir())
    return sealed_image(
        version=f"{manifest['version']}-hostile",
        directory=str(made),
        sha256={path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
        cmdline=manifest["cmdline"],
        checked=True,
        size_bytes=sum(path.stat().st_size for path in files),
    )


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=120)
