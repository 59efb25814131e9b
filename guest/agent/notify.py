"""Telling the service manager where we are (sd_notify); silent where there is none."""

import os
import socket


def notify(state: str) -> None:
    """Send ``state``, for instance ``READY=1``, to the socket that systemd named, if it named one."""
    name = os.environ.get("NOTIFY_SOCKET")
    if not name:
        return
    address = "\0" + name[1:] if name.startswith("@") else name
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(address)
        sender.send(state.encode())
