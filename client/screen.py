"""What the person sees and is asked. Nothing that came from elsewhere reaches the terminal as it is."""

import codecs
import getpass
import sys
from collections.abc import Sequence

from client.errors import Failure


def plain(text: str, limit: int = 300) -> str:
    """``text`` on one line, without anything that a terminal would obey."""
    shown = "".join(character if character.isprintable() else "?" for character in text)
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def say(*lines: str) -> None:
    """To standard output."""
    for line in lines:
        print(line)


def warn(text: str) -> None:
    """To standard error."""
    print(text, file=sys.stderr)


class Output:
    """A program's output, as it comes, to standard output: whole into a file or pipe, tamed on a terminal."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace") if sys.stdout.isatty() else None

    def write(self, data: bytes) -> None:
        """The next piece."""
        if self._decoder is not None:
            self._show(self._decoder.decode(data))
        else:
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def close(self) -> None:
        """There is no more."""
        if self._decoder is not None:
            self._show(self._decoder.decode(b"", final=True))

    def _show(self, text: str) -> None:
        tamed = "".join(each if each.isprintable() or each in "\n\t" else "?" for each in text)
        print(tamed, end="", flush=True)


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with the columns one below the other; the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def confirm(question: str, *, yes: bool) -> None:
    """Go on only after a yes.

    Raises:
        Failure: any other answer, or nobody there to give one.
    """
    if not yes and _ask(f"{question} [y/N] ").strip().lower() not in {"y", "yes"}:
        raise Failure("Nothing was changed.")


def credentials() -> tuple[str, str]:
    """A user name and a password. Raises Failure if nobody is there to give them."""
    name = _ask("User name at the portal: ").strip()
    try:
        return name, getpass.getpass("Password: ")
    except EOFError:
        raise Failure("No password was given.") from None


def hidden(prompt: str, limit: int) -> bytes:
    """What is sent to standard input, or typed unseen; without the line ends at its end.

    A little more than ``limit`` bytes at most. Raises Failure if nobody is there to type.
    """
    if sys.stdin.isatty():
        try:
            return getpass.getpass(prompt).encode()
        except EOFError:
            raise Failure("No value was given.") from None
    raw = getattr(sys.stdin, "buffer", None)
    sent = raw.read(limit + 64) if raw is not None else sys.stdin.read(limit + 64).encode()
    return bytes(sent).rstrip(b"\r\n")


def _ask(prompt: str) -> str:
    # Prompts go where warnings go, so that output can be piped.
    print(prompt, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise Failure("No answer was given. Use --yes where there is nobody to ask.")
    return line
