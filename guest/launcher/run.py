"""``python -m guest.launcher.run LOG_BYTES COMMAND…``: run a command and pass on so much of its output.

What is over the limit, or finds the volume full, is read and dropped: a job neither fills the volume nor
stands still.
Ends as the command ended.
"""

import os
import sys

BLOCK = 64 * 1024
NOT_FOUND = 127
NOTE = b"\n[the log is full; the rest of the output was dropped]\n"


def main(arguments: list[str]) -> int:
    """Run it; returns the exit status, or ends by the command's own signal."""
    limit, command = int(arguments[0]), arguments[1:]
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        os.close(reader)
        os.close(writer)
        try:
            os.execvp(command[0], command)  # noqa: S606 - a list, and no shell is the point
        except OSError as error:
            os.write(2, f"cannot run the command: {error.strerror}\n".encode())
            os._exit(NOT_FOUND)
    os.close(writer)
    _copy(reader, limit)
    _, ended = os.waitpid(child, 0)
    if os.WIFSIGNALED(ended):
        os.kill(os.getpid(), os.WTERMSIG(ended))
    return os.waitstatus_to_exitcode(ended)


def _copy(reader: int, limit: int) -> None:
    left, told = limit, False
    while block := os.read(reader, BLOCK):
        kept = block[:left]
        note = NOTE if len(block) > left and not told else b""
        told = told or bool(note)
        left -= len(kept)
        try:
            _write(kept + note)
        except OSError:  # the volume is full: the job goes on
            left, told = 0, True


def _write(block: bytes) -> None:
    while block:
        block = block[os.write(1, block) :]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
