"""Running other programs: quietly, into a log with a heartbeat, or streamed to the terminal."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.portalctl.terminal import Stop, elapsed, progress, say, tail

HEARTBEAT_SECONDS = 10.0
# What a `sudo` run keeps of the caller's environment: our own settings, and how to reach package registries.
_KEPT_PREFIXES = ("PORTAL_", "PIP_", "npm_config_", "NPM_CONFIG_", "PYTEST_")
_KEPT = {
    "CI",
    "LIBVIRT_URI",
    "REDIS_URL",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
}


def is_root() -> bool:
    return os.geteuid() == 0


def as_root(argv: Sequence[str]) -> list[str]:
    """The command, through sudo where we are not root."""
    return list(argv) if is_root() else ["sudo", *_kept_environment(os.environ), *argv]


def become_root(argv: Sequence[str], *, why: str) -> None:
    """Run this command again through sudo, unless we are root already."""
    if is_root():
        return
    if shutil.which("sudo") is None:
        raise Stop(
            f"this needs root ({why}), and there is no sudo here", todo="run it as root, or install sudo"
        )
    say(f"This needs root ({why}): going on through sudo.")
    os.execvp("sudo", as_root(argv))  # noqa: S606 - a list, no shell


def _kept_environment(environ: Mapping[str, str]) -> list[str]:
    names = [name for name in environ if name in _KEPT or name.startswith(_KEPT_PREFIXES)]
    return [f"--preserve-env={','.join(sorted(names))}"] if names else []


def answers(argv: Sequence[str], *, timeout: float = 20, env: Mapping[str, str] | None = None) -> bool:
    """Whether the command succeeds within `timeout` seconds; its output is dropped."""
    try:
        done = subprocess.run(argv, capture_output=True, timeout=timeout, env=env, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def output(argv: Sequence[str], *, cwd: Path | None = None, timeout: float = 120) -> str:
    """What the command prints, stripped. Stops with its complaint if it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, cwd=cwd, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Stop(f"«{' '.join(argv)}» did not run: {error}") from error
    if done.returncode != 0:
        complaint = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it says nothing"]
        raise Stop(f"«{' '.join(argv)}» failed: {complaint[0]}")
    return done.stdout.strip()


def logged(
    stage: str, argv: Sequence[str], log: Path, *, env: Mapping[str, str] | None = None, todo: str = ""
) -> None:
    """Run a long command with its output in `log`; every ten seconds say that it is still at work, and on
    what.
    """
    with log.open("w") as sink:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, env=env
        )
        began = time.monotonic()
        while True:
            try:
                code = process.wait(timeout=HEARTBEAT_SECONDS)
                break
            except subprocess.TimeoutExpired:
                last = (tail(log, 1) or [""])[0].strip()[:80]
                progress(stage, f"still at work ({time.monotonic() - began:.0f} s) … {last}")
            except BaseException:
                end(process)
                raise
    if code != 0:
        raise Stop(f"{stage}: «{' '.join(argv[:4])} …» ended with code {code}", log=log, todo=todo)


def streamed(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    umask: int = -1,
    dated: bool = False,
) -> tuple[int, str]:
    """Run a command and show each line as it comes (with the time, if `dated`).

    Answers its code and its output.
    """
    process = subprocess.Popen(
        argv,
        cwd=cwd,
        env=env,
        umask=umask,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None  # noqa: S101 - for the type checker: PIPE was asked for
    seen = []
    try:
        for line in process.stdout:
            seen.append(line)
            sys.stdout.write(f"[{elapsed():5.1f}s]   {line}" if dated else line)
            sys.stdout.flush()
        return process.wait(), "".join(seen)
    except BaseException:
        end(process)
        raise


def end(process: subprocess.Popen[str] | subprocess.Popen[bytes], *, patience: float = 10) -> None:
    """End a child politely, then for good."""
    process.terminate()
    try:
        process.wait(timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
