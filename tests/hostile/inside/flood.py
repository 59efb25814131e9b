"""Runs in the guest, as root: ``flood.py KIND SECONDS [FRAMES]`` takes all that the machine gives, and then some.

Prints JSON: what it got.
"""

import contextlib
import json
import mmap
import os
import random
import socket
import sys
import time
from collections.abc import Callable

NIC = next(name for _, name in socket.if_nameindex() if name != "lo")
CGROUP = "/sys/fs/cgroup/cgroup.procs"
PLACE = "/var/lib/portal/workspace"
BLOCK = 1 << 20
GO = f"{PLACE}/go"


def main(kind: str, seconds: str, *more: str) -> None:
    with open(CGROUP, "w") as file:  # out of every bound that the job was given
        file.write("0")
    print("ready", flush=True)
    # The word comes by this machine's agent, which may not be heard once the harm is being done.
    while not os.path.exists(GO):
        time.sleep(0.02)
    os.unlink(GO)
    time.sleep(1)  # the answer to it goes first
    print(json.dumps(KINDS[kind](time.monotonic() + float(seconds), *more)))


def packets(until: float, path: str) -> dict[str, int]:
    """The given frames as fast as they go."""
    with open(path) as file:
        frames = [bytes.fromhex(line) for line in file]
    sent = 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((NIC, 0))
        while time.monotonic() < until:
            for frame in frames:
                with contextlib.suppress(OSError):
                    wire.send(frame)
            sent += len(frames)
    return {"frames": sent}


def forks(until: float) -> dict[str, int]:
    """Processes that make processes, and all of them busy. They end by themselves, or nothing here could."""
    children = 0
    while time.monotonic() < until:
        try:
            if os.fork() == 0:
                while time.monotonic() < until:
                    with contextlib.suppress(OSError):
                        if os.fork() == 0:
                            continue
                    sum(range(100_000))
                os._exit(0)
            children += 1
        except OSError:
            time.sleep(0.01)
    return {"children": children}


def memory(until: float) -> dict[str, int]:
    """All memory, written to, again and again; without a balloon. Another process of ours is killed before us."""
    unbound = 0
    for each in os.listdir("/sys/bus/virtio/drivers/virtio_balloon"):
        if each.startswith("virtio"):
            with open("/sys/bus/virtio/drivers/virtio_balloon/unbind", "w") as file:
                file.write(each)
            unbound += 1
    most = 0
    while time.monotonic() < until:
        child = os.fork()
        if child == 0:
            with open("/proc/self/oom_score_adj", "w") as file:
                file.write("1000")
            held = []
            while time.monotonic() < until:
                held.append(b"x" * (16 << 20))
            os._exit(0)
        _, ended = os.waitpid(child, 0)
        most += os.WIFSIGNALED(ended)
    return {"balloons": unbound, "killed": most}


def disk(until: float) -> dict[str, int]:
    """One file until the volume is full, kept so until the time is up; then the room is given back."""
    written, path = 0, f"{PLACE}/fill"
    handle = os.open(path, os.O_WRONLY | os.O_CREAT)
    block = os.urandom(BLOCK)
    try:
        while time.monotonic() < until:
            written += os.write(handle, block)
        full = 0
    except OSError:
        full = 1
        time.sleep(max(0.0, until - time.monotonic()))
    os.close(handle)
    os.unlink(path)
    return {"bytes": written, "full": full}


def operations(until: float) -> dict[str, int]:
    """Small writes past every cache, at random places of a file."""
    size = 32 << 20
    handle = os.open(f"{PLACE}/random", os.O_RDWR | os.O_CREAT | os.O_DIRECT)
    os.ftruncate(handle, size)
    page = mmap.mmap(-1, 4096)
    page.write(os.urandom(4096))
    done = 0
    while time.monotonic() < until:
        os.pwritev(handle, [page], random.randrange(size // 4096) * 4096)
        done += 1
    os.close(handle)
    os.unlink(f"{PLACE}/random")
    return {"operations": done}


KINDS: dict[str, Callable[..., dict[str, int]]] = {
    "packets": packets,
    "forks": forks,
    "memory": memory,
    "disk": disk,
    "operations": operations,
}

if __name__ == "__main__":
    main(*sys.argv[1:])
