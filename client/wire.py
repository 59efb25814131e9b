"""One origin, spoken to over HTTP: time-outs everywhere, answers bounded, redirects never followed."""

import json
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlencode

import httpx

from client.cookies import Cookies
from client.errors import Refused, Unanswered, Unreachable, WrongAnswer
from client.origins import Origin
from client.screen import plain

TIMEOUT = httpx.Timeout(15.0, connect=5.0)
"""Seconds for each step of an exchange."""
SLOW = httpx.Timeout(330.0, connect=5.0)
"""For what a machine thinks about."""
DEADLINE_SECONDS = 45.0
"""For a whole answer, however steadily it trickles in."""
MAX_ANSWER_BYTES = 1024 * 1024
Sink = Callable[[int, bytes], None]
"""Gets status and a piece of a body that is too long to hold."""
SAFE_METHODS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    who: str
    status: int
    body: bytes = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Their names in small letters."""

    def json(self) -> Any:
        """The document in it.

        Raises:
            WrongAnswer: there is none.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise WrongAnswer(f"{self.who} answered with something that is not JSON.") from None

    def expect(self, *statuses: int) -> Self:
        """The same, if it has one of these statuses.

        Raises:
            Refused: the other side said no, with its reason.
            WrongAnswer: it said something else.
        """
        if self.status in statuses:
            return self
        if self.status >= 400:
            raise self._refusal()
        if 300 <= self.status < 400:
            raise WrongAnswer(f"{self.who} answered with a redirect, which is not followed.")
        raise WrongAnswer(f"{self.who} answered with status {self.status}, which was not to be expected.")

    def _refusal(self) -> Refused:
        try:
            document = json.loads(self.body)
        except (ValueError, RecursionError):
            document = None
        code, reason = _reason(document)
        said = plain(reason).rstrip(".") or f"status {self.status}"
        return Refused(self.status, plain(code, 40), f"{self.who} refuses: {said}.")


class Wire:
    """Requests to one origin, with that origin's cookies."""

    def __init__(self, who: str, origin: Origin, told: Callable[[str], None]) -> None:
        """``who``: what messages call the other side. ``told``: gets one line about each request."""
        self.who, self.origin, self.cookies = who, origin, Cookies()
        self._told = told
        # The system's certificates, and no proxy from the environment: what we send is for this origin alone.
        self._client = httpx.Client(
            verify=ssl.create_default_context(), timeout=TIMEOUT, trust_env=False, follow_redirects=False
        )

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        content: bytes | Iterable[bytes] = b"",
        headers: Mapping[str, str] | None = None,
        sink: Sink | None = None,
        timeout: httpx.Timeout | None = None,
    ) -> Answer:
        """Send one request. ``path``: with its query, already escaped. ``sink``: gets the body of a success.

        Raises:
            Unreachable: it was not sent. Unanswered: nobody knows. WrongAnswer: too long, or not HTTP.
        """
        began = time.monotonic()
        try:
            answer = self._exchange(method, path, content, headers or {}, sink, timeout or TIMEOUT)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unreachable(f"{self.who} at {self.origin} cannot be reached: {_why(error)}.") from None
        except httpx.TimeoutException:
            raise Unanswered(f"{self.who} at {self.origin} did not answer in time.") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            # Only the kind: the text could repeat what was sent.
            kind = type(error).__name__
            raise Unanswered(f"{self.who} at {self.origin} broke the connection off ({kind}).") from None
        spent = round(1000 * (time.monotonic() - began))
        # Without the query, which may be a ticket.
        self._told(f"{method} {self.origin}{path.partition('?')[0]} {answer.status} {spent} ms")
        return answer

    def _exchange(
        self,
        method: str,
        path: str,
        content: bytes | Iterable[bytes],
        headers: Mapping[str, str],
        sink: Sink | None,
        timeout: httpx.Timeout,
    ) -> Answer:
        url = f"{self.origin.scheme}://{self.origin.address}:{self.origin.port}{path}"
        sent = {
            "Host": self.origin.netloc,
            "Accept": "application/json",
            "Accept-Encoding": "identity",
            "User-Agent": "managed-host-portal-client",
            **self._from_here(method),
            **self.cookies.header(),
            **headers,
        }
        name = {"sni_hostname": self.origin.host}
        with self._client.stream(
            method, url, content=content, headers=sent, extensions=name, timeout=timeout
        ) as response:
            body, until = bytearray(), time.monotonic() + DEADLINE_SECONDS
            for part in response.iter_raw():
                if sink is not None and response.status_code < 300:
                    sink(response.status_code, part)
                    continue
                body += part
                if len(body) > MAX_ANSWER_BYTES:
                    raise WrongAnswer(f"{self.who} sent more than {MAX_ANSWER_BYTES} bytes.")
                if time.monotonic() > until:
                    raise Unanswered(f"{self.who} at {self.origin} did not answer in time.")
            for header in response.headers.get_list("set-cookie"):
                self.cookies.take(header)
        return Answer(self.who, response.status_code, bytes(body), dict(response.headers))

    def _from_here(self, method: str) -> dict[str, str]:
        # What a page of this very origin would send: Django looks at Origin, and over https at Referer.
        if method in SAFE_METHODS:
            return {}
        return {"Origin": str(self.origin), "Referer": f"{self.origin}/"}


def as_json(document: Any) -> dict[str, Any]:
    """The arguments of :meth:`Wire.ask` that send ``document``."""
    return {"content": json.dumps(document).encode(), "headers": {"Content-Type": "application/json"}}


def as_form(fields: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of :meth:`Wire.ask` that send a form."""
    kind = "application/x-www-form-urlencoded"
    return {"content": urlencode(fields).encode(), "headers": {"Content-Type": kind}}


def _why(error: Exception) -> str:
    # Of a connection that was never made there is nothing secret to tell.
    return plain(str(error)).rstrip(".") or type(error).__name__


def _reason(document: Any) -> tuple[str, str]:
    """Code and text of a refusal: the portal's shape, the guest's, or a form's complaint about a field."""
    if not isinstance(document, dict):
        return "", ""
    code, text = (
        document.get("code", document.get("error", "")),
        document.get("detail", document.get("message")),
    )
    if text is None:
        text = "; ".join(f"{name}: {' '.join(map(str, _listed(told)))}" for name, told in document.items())
    return str(code), str(text)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
