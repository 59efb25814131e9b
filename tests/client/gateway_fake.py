"""The fake guest's gateway, as far as the command line sees it."""

import json
from dataclasses import dataclass, field
from typing import Any

CHAT = "/gateway-api/v1/chat/completions"


@dataclass
class FakeGateway:
    told: dict[str, Any] = field(
        default_factory=lambda: {"state": "ready", "reason": "", "model": None, "idle_seconds_left": None}
    )
    coming: list[dict[str, Any]] = field(default_factory=list)
    """What it tells next, before ``told``."""
    says: str | None = "hello"
    sleeps: int = 0
    heard: str = ""

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/v1/gateway/model":
            if method == "PUT":
                self.told["model"] = json.loads(body)["model"]
            return 200, {"model": self.told["model"]}
        if path == CHAT:
            if self.sleeps:
                self.sleeps -= 1
                return 503, {
                    "error": "gateway_starting",
                    "message": "the gateway is starting; ask again soon",
                }
            self.heard = json.loads(body)["messages"][0]["content"]
            choices = [] if self.says is None else [{"message": {"content": self.says}}]
            return 200, {"choices": choices}
        if method == "POST":
            return 202, self.told
        return 200, self.coming.pop(0) if self.coming else self.told
