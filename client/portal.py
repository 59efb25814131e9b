"""The portal's API, with a session that lasts as long as the command."""

import re
from base64 import b64decode, b64encode
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

from client.device import Device
from client.errors import Failure, Refused, WrongAnswer
from client.origins import Origin
from client.overview import Overview, Registered, runtime_origin
from client.reading import HASH, objects, optional, take
from client.wire import Answer, Sink, Wire, as_form, as_json
from protocol.keyrings import Keyring
from protocol.persons import Purpose
from protocol.sealed import key_id

SESSION_COOKIE = "__Host-session"
CSRF_COOKIE = "__Host-csrf"
API = "/api/v1"
_ID = re.compile(r"[1-9][0-9]{0,18}")
_TICKET_PATH = re.compile(r"/\.portal/enter\?ticket=[A-Za-z0-9_.~:%=-]{1,2000}")


class Portal:
    """A person's calls. Leaving it signs out."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._inside = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        try:
            # Whoever presses Ctrl-C wants to be gone; the session lapses by itself.
            if self._inside and kind is not KeyboardInterrupt:
                self._call("POST", "/sign-out/")
        except Failure:
            pass
        finally:
            self._wire.close()

    @property
    def origin(self) -> Origin:
        """Where it is."""
        return self._wire.origin

    def sign_in(self, device: Device) -> None:
        """With a device key.

        Raises:
            Refused: nobody has registered it.
            WrongAnswer: the portal wants a signature that is for another portal.
        """
        asked = self._wire.ask("POST", f"{API}/sign-in/challenge/", **as_json({})).expect(200).json()
        document = {"nonce": take(asked, "nonce", str), "origin": take(asked, "origin", str)}
        # A portal could else pass on another one's challenge, and come in there in our name.
        if document["origin"] != str(self.origin) or not HASH.fullmatch(document["nonce"]):
            raise WrongAnswer("The portal asks for a signature that is not for itself. Check its address.")
        signature = device.sign(Purpose.PORTAL, document)
        answer = {
            "fingerprint": device.key.fingerprint,
            "nonce": document["nonce"],
            "signature": signature,
        }
        self._wire.ask("POST", f"{API}/sign-in/", **as_json(answer)).expect(204)
        self._begun()

    def sign_in_with_password(self, name: str, password: str) -> None:
        """As the sign-in page does.

        Raises:
            Failure: the portal does not take them.
        """
        # The page sets the cookie that its form must come back with.
        self._wire.ask("GET", "/sign-in/").expect(200)
        form = as_form({"username": name, "password": password})
        form["headers"] |= self._csrf()
        answer = self._wire.ask("POST", "/sign-in/", **form)
        if answer.status in {401, 403, 429}:
            raise Failure("The portal does not let this name sign in now. Try again in a quarter of an hour.")
        if answer.status == 200:
            raise Failure("The portal does not know this name with this password.")
        if answer.status != 302:
            answer.expect(302)
        self._begun()

    def overview(self, slug: str) -> Overview:
        """Keys, keyring, consents, and what the guest has stated. Raises Refused, WrongAnswer."""
        document = self._call("GET", f"{API}/tenants/{slug}/keyring/").expect(200).json()
        return Overview.read(document, self.origin, slug)

    def register(self, slug: str, device: Device) -> Registered:
        """Make the device's public key known. Raises Refused, WrongAnswer."""
        wanted = {"kind": "device", "name": device.name, "public_key": device.key.public_key.hex()}
        made = Registered.read(self._post(f"tenants/{slug}/keys/", wanted).expect(201).json())
        if made.key != device.key:
            raise WrongAnswer("The portal registered another key than this device's.")
        return made

    def send_keyring(self, slug: str, keyring: Keyring, signature: dict[str, Any]) -> None:
        """Hand in the next version. Raises Refused, Unanswered, WrongAnswer."""
        wanted = {"document": dict(keyring.document), "signature": signature}
        told = self._post(f"tenants/{slug}/keyring/", wanted).expect(200).json()
        if (take(told, "version", int), take(told, "hash", str)) != (keyring.version, keyring.hash):
            raise WrongAnswer("The portal kept another keyring than the one that was signed.")

    def send_consents(self, slug: str, document: dict[str, Any], signature: dict[str, Any]) -> None:
        """Hand in what an owner agrees to. Raises Refused, WrongAnswer."""
        wanted = {"document": document, "signature": signature}
        told = self._post(f"tenants/{slug}/consents/", wanted).expect(200).json()
        if take(told, "version", int) != document["version"]:
            raise WrongAnswer("The portal kept another consent than the one that was signed.")

    def secrets(self, slug: str) -> list[dict[str, Any]]:
        """Names and states of the connector secrets. Raises Refused, WrongAnswer."""
        found = self._call("GET", f"{API}/tenants/{slug}/secrets/").expect(200).json()
        return objects(found, "secrets")

    def sealing_key(self, slug: str) -> bytes:
        """The key that the portal shows, by its word only. Raises Refused, WrongAnswer."""
        told = self._call("GET", f"{API}/tenants/{slug}/secrets/public-key/").expect(200).json()
        try:
            key = b64decode(take(told, "key", str), validate=True)
        except ValueError:
            raise WrongAnswer("The portal shows a sealing key that cannot be read.") from None
        if len(key) != 32 or key_id(key) != take(told, "key_id", str):
            raise WrongAnswer("The portal shows a sealing key under another key's id. Do not seal anything.")
        return key

    def put_secret(self, slug: str, name: str, key: str, sealed: bytes) -> dict[str, Any]:
        """Hand in a sealed box. Raises Refused, WrongAnswer."""
        wanted = {"encrypted_value": b64encode(sealed).decode(), "key_id": key, "connector": "github"}
        told = self._call("PUT", f"{API}/tenants/{slug}/secrets/{name}/", wanted).expect(200, 201).json()
        if take(told, "name", str) != name or take(told, "key_id", str) != key:
            raise WrongAnswer("The portal kept another secret than the one that was sent.")
        return dict(told)

    def revoke_secret(self, slug: str, name: str) -> dict[str, Any]:
        """Have it erased and forgotten. Raises Refused, WrongAnswer."""
        told = self._call("DELETE", f"{API}/tenants/{slug}/secrets/{name}/").expect(200).json()
        if take(told, "name", str) != name or take(told, "state", str) not in {"revoking", "revoked"}:
            raise WrongAnswer("The portal did not revoke what it was asked to.")
        return dict(told)

    def connectors(self, slug: str) -> list[dict[str, Any]]:
        """What the machine may reach, connector by connector. Raises Refused, WrongAnswer."""
        found = self._call("GET", f"{API}/tenants/{slug}/connectors/").expect(200).json()
        return objects(found, "connectors")

    def switch_connector(self, slug: str, connector: str, enabled: bool) -> dict[str, Any]:
        """Turn one on or off. Raises Refused, WrongAnswer."""
        path = f"{API}/tenants/{slug}/connectors/{connector}/"
        told = self._call("PATCH", path, {"enabled": enabled}).expect(200).json()
        if take(told, "connector", str) != connector or take(told, "enabled", bool) != enabled:
            raise WrongAnswer("The portal did not switch what it was asked to.")
        return dict(told)

    def record(self, slug: str, asked: Mapping[str, Any]) -> tuple[list[dict[str, Any]], int | None]:
        """One page of a tenant's entries, and where the next begins. Raises Refused, WrongAnswer."""
        query = urlencode({name: value for name, value in asked.items() if value})
        told = self._call("GET", f"{API}/tenants/{slug}/record/?{query}").expect(200).json()
        return objects(told, "entries"), optional(told, "next", int)

    def record_entry(self, slug: str, entry: int) -> Any:
        """One entry as the list has it. Raises Refused, WrongAnswer."""
        return self._call("GET", f"{API}/tenants/{slug}/record/{entry}/").expect(200).json()

    def receipt(self, slug: str, entry: int) -> bytes:
        """An entry with its proof. Raises Refused, WrongAnswer."""
        return self._call("GET", f"{API}/tenants/{slug}/record/{entry}/receipt/").expect(200).body

    def receipts(self, slug: str, after: int, sink: Sink) -> int | None:
        """Many of them, one a line; answers where the next part begins. Raises Refused, WrongAnswer."""
        path = f"{API}/tenants/{slug}/record/receipts/"
        answer = self._call("POST", path, {"after": after} if after else {}, sink=sink).expect(200)
        following = answer.headers.get("portal-next", "")
        if not following:
            return None
        if not _ID.fullmatch(following) or int(following) <= after:
            raise WrongAnswer("The portal says in a way that cannot be understood where its record goes on.")
        return int(following)

    def log_head(self, slug: str) -> Any:
        """Newest checkpoint, key and witnesses, by the portal's word. Raises Refused, WrongAnswer."""
        return self._call("GET", f"{API}/tenants/{slug}/record/checkpoint/").expect(200).json()

    def log_consistency(self, slug: str, old: int, size: int | None = None) -> Any:
        """The proof from one size to another, or to the newest. Raises Refused, WrongAnswer."""
        query = urlencode({"old": old} | ({"size": size} if size else {}))
        return self._call("GET", f"{API}/tenants/{slug}/record/consistency/?{query}").expect(200).json()

    def log_dispute(self, slug: str, checkpoint: str) -> None:
        """Show the portal a checkpoint that its log does not continue. Raises Failure."""
        self._post(f"tenants/{slug}/record/checkpoint/", {"checkpoint": checkpoint})

    def tickets(self, slug: str, page: int = 1) -> tuple[list[dict[str, Any]], int | None]:
        """A page of the tenant's tickets of break-glass, and the next one's number. Raises WrongAnswer."""
        told = self._call("GET", f"{API}/tenants/{slug}/break-glass/?page={page}").expect(200).json()
        following = optional(told, "next", int)
        if following is not None and following <= page:
            raise WrongAnswer("The portal says in a way that cannot be understood where its list goes on.")
        return objects(told, "tickets"), following

    def ticket(self, slug: str, ticket: str) -> dict[str, Any]:
        """One of them, with all that was signed. Raises Refused, WrongAnswer."""
        return dict(self._call("GET", f"{API}/tenants/{slug}/break-glass/{ticket}/").expect(200).json())

    def approve_ticket(self, slug: str, ticket: str, revision: int, signature: dict[str, Any]) -> Any:
        """Hand in an owner's signature. Raises Refused."""
        wanted = {"revision": revision, "signature": signature}
        return self._post(f"tenants/{slug}/break-glass/{ticket}/approve/", wanted).expect(200).json()

    def revoke_ticket(self, slug: str, ticket: str, words: str) -> Any:
        """End it. Raises Refused."""
        return self._post(f"tenants/{slug}/break-glass/{ticket}/revoke/", {"words": words}).expect(200).json()

    def access_receipts(self, slug: str, ticket: str, sink: Sink) -> None:
        """The machine's receipts, one a line, with what proves them. Raises Refused."""
        path = f"{API}/tenants/{slug}/break-glass/{ticket}/receipts/"
        self._call("POST", path, {}, sink=sink).expect(200)

    def approvers(self, slug: str) -> Any:
        """The set in force, the naming, the terms, and what the machine states. Raises Refused."""
        return self._call("GET", f"{API}/tenants/{slug}/break-glass/approvers/").expect(200).json()

    def name_approvers(self, slug: str, version: int, signature: dict[str, Any]) -> Any:
        """Hand in an owner's signature over the set in force. Raises Refused."""
        wanted = {"version": version, "signature": signature}
        return self._post(f"tenants/{slug}/break-glass/approvers/", wanted).expect(200).json()

    def send_terms(self, slug: str, document: dict[str, Any], signature: dict[str, Any]) -> Any:
        """Hand in on which terms staff come in. Raises Refused."""
        wanted = {"document": document, "signature": signature}
        return self._post(f"tenants/{slug}/break-glass/terms/", wanted).expect(200).json()

    def enter(self, slug: str) -> tuple[Origin, str]:
        """A runtime's origin, and the path with a ticket that opens the way to it once."""
        told = self._post(f"tenants/{slug}/enter/", {}).expect(200).json()
        origin, url = runtime_origin(take(told, "origin", str), self.origin), take(told, "url", str)
        path = url.removeprefix(str(origin))
        if not url.startswith(str(origin)) or not _TICKET_PATH.fullmatch(path):
            raise WrongAnswer("The portal's way to the runtime does not lead there.")
        return origin, path

    def _post(self, path: str, document: Any) -> Answer:
        return self._call("POST", f"{API}/{path}", document)

    def _call(self, method: str, path: str, document: Any = None, sink: Sink | None = None) -> Answer:
        sent = {} if document is None else as_json(document)
        headers = {**sent.get("headers", {}), **(self._csrf() if method != "GET" else {})}
        return self._wire.ask(method, path, content=sent.get("content", b""), headers=headers, sink=sink)

    def _csrf(self) -> dict[str, str]:
        # Django compares the header with the cookie; signing in gives a new cookie.
        token = self._wire.cookies.get(CSRF_COOKIE)
        if token is None:
            raise WrongAnswer(f"The portal at {self.origin} set no cookie against forged requests.")
        return {"X-CSRFToken": token}

    def _begun(self) -> None:
        if self._wire.cookies.get(SESSION_COOKIE) is None:
            raise WrongAnswer(f"The portal at {self.origin} began no session.")
        self._inside = True


def unknown_key(error: Refused) -> bool:
    """Whether a sign-in failed because the key is not registered, or nobody's any more."""
    return error.status in {401, 403, 404} and error.code != "nonce_unknown"
