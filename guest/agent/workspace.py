"""The tenant's files. Content: only behind a member's session."""

import os
import stat
from pathlib import Path
from typing import Any

MAX_ENTRIES = 1000


def listing(folder: Path) -> dict[str, Any]:
    """Names, kinds and sizes (bytes) of what stands in ``folder``, by name; links are not followed."""
    entries = []
    with os.scandir(folder) as found:
        for entry in found:
            facts = entry.stat(follow_symlinks=False)
            entries.append({"name": entry.name, "kind": _kind(facts.st_mode), "size": facts.st_size})
            if len(entries) > MAX_ENTRIES:
                break
    entries.sort(key=lambda entry: str(entry["name"]))
    return {"entries": entries[:MAX_ENTRIES], "complete": len(entries) <= MAX_ENTRIES}


def _kind(mode: int) -> str:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"
