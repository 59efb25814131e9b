"""Which model the gateway asks: an owner's choice, kept on the data volume."""

import json
from pathlib import Path
from typing import Any

from guest.agent.files import FileDamaged, read_optional, write_atomically
from guest.agent.gateway.errors import GatewayRefused
from guest.gateway.config import GatewayConfigError, Model
from guest.gateway.rehearsal import NAME as REHEARSAL
from protocol.canonical import canonical

MODEL_FILE = "gateway-model.json"
_REQUIRED = {"base_url", "name", "api"}
_MEMBERS = _REQUIRED | {"secret"}


class ModelFileError(FileDamaged):
    """The record of the choice is damaged. The agent stops rather than send a key somewhere else."""


class ModelChoice:
    """The choice in force: None, ``"rehearsal"``, or a document with the members of ``config.Model``."""

    def __init__(self, folder: Path, rehearsal_port: int) -> None:
        """Raises ModelFileError."""
        self._path = folder / MODEL_FILE
        self._rehearsal = f"http://127.0.0.1:{rehearsal_port}/v1"
        stored = read_optional(self._path)
        self.document: Any = None
        try:
            if stored is not None:
                self.document = json.loads(stored)["model"]
            self._read(self.document)
        except (ValueError, TypeError, KeyError, RecursionError):
            raise ModelFileError("the record of the gateway's model is damaged") from None

    @property
    def model(self) -> Model | None:
        """What goes into the gateway's configuration."""
        return self._read(self.document)

    @property
    def rehearses(self) -> bool:
        """Whether the gateway asks the stand-in that the agent itself serves."""
        model = self.model
        return model is not None and model.base_url.rstrip("/") == self._rehearsal

    @property
    def secret(self) -> str | None:
        """The one secret that the gateway may have, by name."""
        model = self.model
        return None if model is None else model.secret

    def choose(self, document: Any) -> None:
        """Put ``document`` in force, durably.

        Raises:
            GatewayRefused: 422 ``malformed``.
        """
        try:
            self._read(document)
        except GatewayConfigError as error:
            raise GatewayRefused(422, "malformed", str(error)) from None
        write_atomically(self._path, canonical({"model": document}))
        self.document = document

    def _read(self, document: Any) -> Model | None:
        if document is None:
            return None
        if document == REHEARSAL:
            return Model(self._rehearsal, REHEARSAL, "openai-completions")
        if not isinstance(document, dict) or not _REQUIRED <= document.keys() <= _MEMBERS:
            raise GatewayConfigError(
                f'model must be null, "{REHEARSAL}" or an object with base_url, name, api and perhaps secret'
            )
        texts = {name: value for name, value in document.items() if value is not None or name != "secret"}
        if not all(isinstance(value, str) for value in texts.values()):
            raise GatewayConfigError("base_url, name, api and secret must be texts")
        return Model(**texts)
