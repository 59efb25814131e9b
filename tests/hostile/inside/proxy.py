"""Runs in the guest, as root: ``proxy.py ADDRESS PORT FILE`` says what is in FILE to the proxy, attack by attack.

FILE is JSON: a list of name, request and what follows, both in hexadecimal. Prints JSON: name to the status of the
answer (0: none) and the bytes that came after its head. ``proxy.py ADDRESS PORT tunnels NUMBER TARGET`` opens many.
"""

import contextlib
import json
import resource
import select
import socket
import sys
import threading
import time

SECONDS = 25.0
AT_ONCE = 8
HELD_SECONDS = 30.0


def main(address: str, port: str, path: str, *more: str) -> None:
    place = (address, int(port))
    if path == "tunnels":
        print(json.dumps(tunnels(place, int(more[0]), more[1])))
        return
    with open(path) as file:
        todo = json.load(file)
    found: dict[str, list[object]] = {}

    def work() -> None:
        with contextlib.suppress(IndexError):
            while True:
                name, request, then = todo.pop()
                found[name] = said(place, bytes.fromhex(request), bytes.fromhex(then))

    threads = [threading.Thread(target=work) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(found))


def said(place: tuple[str, int], request: bytes, then: bytes) -> list[object]:
    """The status, and what came after the answer's head."""
    answer = b""
    with contextlib.suppress(OSError), socket.create_connection(place, SECONDS) as line:
        line.sendall(request)
        while b"\r\n\r\n" not in answer and (more := line.recv(65536)):
            answer += more
        line.sendall(then)
        while len(answer) < 1 << 20 and (more := line.recv(65536)):
            answer += more
    head, _, rest = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    status = int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
    return [status, rest[:200].hex()]


def ended(line: socket.socket) -> bool:
    """Whether the proxy has closed it already."""
    with contextlib.suppress(BlockingIOError):
        return line.recv(1, socket.MSG_PEEK) == b""
    return False


def tunnels(place: tuple[str, int], number: int, target: str) -> dict[str, int]:
    """As many connections as go, each asking for a tunnel and holding it; how many stood at once."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (number + 100, number + 100))
    request = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()
    poll, lines, tried, open_ = select.poll(), {}, 0, set()
    until, most, refused = time.monotonic() + HELD_SECONDS, 0, 0
    print("begun", flush=True)
    while time.monotonic() < until:
        for _ in range(min(500, number - tried)):
            line = socket.socket()
            line.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                line.connect(place)
            lines[line.fileno()] = line
            poll.register(line, select.POLLOUT)
            tried += 1
        for handle, event in poll.poll(50):
            line = lines[handle]
            try:
                if event & select.POLLOUT and handle not in open_:
                    line.send(request)
                    poll.modify(line, select.POLLIN)
                    continue
                answer = line.recv(4096)
                if answer.startswith(b"HTTP/1.1 200") and not ended(line):
                    open_.add(handle)
                    continue
            except OSError:
                pass
            refused += 1
            open_.discard(handle)
            poll.unregister(line)
            line.close()
        # Only here: a slow guest reads a new tunnel's answer beside the ends of older ones.
        most = max(most, len(open_))
    return {"tried": tried, "stood": most, "refused": refused}


if __name__ == "__main__":
    main(*sys.argv[1:])
