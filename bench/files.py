"""Files through an agent with every check on, against a plain copy on the same disk."""

import http.client
import os
import shutil
import time
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

from protocol.sessions import PROOF_HEADER, SESSION_HEADER, Request, prove
from protocol.tokens import sign
from tests.guest import fleet
from tests.protocol.people import OWNER

SIZE = 64 << 20
PATH = f"/v1/workspace/files?path={quote('bench.bin')}"


def measure(folder: Path, line: http.client.HTTPSConnection, session: str, counter: int) -> dict[str, float]:
    """MiB a second up and down, and how many times as long as a copy with fsync each takes."""
    body = os.urandom(SIZE)
    (folder / "plain.bin").write_bytes(body)
    began = time.perf_counter()
    shutil.copyfile(folder / "plain.bin", folder / "copy.bin")
    with (folder / "copy.bin").open("rb+") as file:
        os.fsync(file.fileno())
    copied = time.perf_counter() - began
    up = _ask(line, session, "PUT", body, counter + 1)
    down = _ask(line, session, "GET", b"", counter + 2)
    mebibytes = SIZE / 2**20
    return {
        "upload_mib_per_second": mebibytes / up,
        "download_mib_per_second": mebibytes / down,
        "upload_to_copy_ratio": up / copied,
        "download_to_copy_ratio": down / copied,
    }


def _ask(line: http.client.HTTPSConnection, session: str, method: str, body: bytes, counter: int) -> float:
    stated = sha256(body).hexdigest()
    text = sign(fleet.token(method, PATH, body, sub="member:files"), fleet.TOKEN_SEED)
    shown = prove(OWNER.seed, session, Request(method, PATH, stated), counter)
    headers = {"Authorization": f"Bearer {text}", SESSION_HEADER: session, PROOF_HEADER: shown}
    if body:
        headers["X-Content-SHA256"] = stated
    began = time.perf_counter()
    line.request(method, PATH, body or None, headers)
    answer = line.getresponse()
    while answer.read(1 << 20):
        pass
    if answer.status not in {200, 201}:
        raise RuntimeError(f"{method} answered {answer.status}")
    return time.perf_counter() - began
