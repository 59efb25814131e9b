"""Runs in the guest, as root: ``send.py FILE [TIMES [PAUSE]]`` writes the frames in FILE, one a line in hexadecimal."""

import socket
import sys
import time

NIC = next(name for _, name in socket.if_nameindex() if name != "lo")


def main(path: str, times: str = "1", pause: str = "0.001") -> None:
    with open(path) as file:
        frames = [bytes.fromhex(line) for line in file]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind((NIC, 0))
        for _ in range(int(times)):
            for frame in frames:
                try:
                    wire.send(frame)
                except OSError as failure:
                    print("not sent:", failure, frame.hex())
                time.sleep(float(pause))
    print("sent", len(frames) * int(times))


if __name__ == "__main__":
    main(*sys.argv[1:])
