"""A guest's jobs, as far as the client sees them. Each look at a log shows the next piece of its output."""

import base64
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

MEL = {"name": "Mel", "fingerprint": "b" * 64}
Answered = tuple[int, Any]


@dataclass
class JobsFake:
    """Jobs end when their output has been read, as ``ends`` says."""

    output: list[bytes] = field(default_factory=lambda: [b"one\n", b"two\n"])
    ends: dict[str, Any] = field(default_factory=lambda: {"state": "succeeded", "exit_code": 0})
    cut: bool = False
    jobs: list[dict[str, Any]] = field(default_factory=list)
    page: int = 50

    def add(self, asked: dict[str, Any]) -> dict[str, Any]:
        title = " ".join(asked.get("argv", [])) or asked["text"]
        started = {"reason": None, "exit_code": None, "signal": None, "cancelled_by": None}
        times = {"submitted_at": 1_700_000_000, "started_at": 1_700_000_001, "ended_at": None}
        job = {"seconds": 3600, **asked, "title": title, "state": "running", "by": MEL, **started, **times}
        self.jobs.insert(0, job)
        return job

    def answer(self, method: str, path: str, body: bytes) -> Answered:
        place, query = urlsplit(path).path, {n: v[0] for n, v in parse_qs(urlsplit(path).query).items()}
        document = json.loads(body) if body else {}
        match method, place:
            case "POST", "/v1/jobs":
                known = next((job for job in self.jobs if job["id"] == document["id"]), None)
                return (200, known) if known else (201, self.add(document))
            case "GET", "/v1/jobs":
                first = int(query.get("after", "0"))
                shown = self.jobs[first : first + self.page]
                more = first + self.page < len(self.jobs)
                told = {"jobs": shown, "complete": not more}
                return 200, told | ({"next": str(first + self.page)} if more else {})
        name = document.get("id", query.get("id"))
        job = next((job for job in self.jobs if job["id"] == name), None)
        if job is None:
            return 404, {"error": "no_such_job", "message": "there is no such job, or it was forgotten"}
        match method, place:
            case "GET", "/v1/jobs/item":
                return 200, job
            case "GET", "/v1/jobs/log":
                return 200, self._piece(job, int(query["offset"]))
            case "POST", "/v1/jobs/cancel":
                job["cancelled_by"] = MEL
                return 200, job
            case "DELETE", "/v1/jobs/item":
                self.jobs.remove(job)
                return 204, None
        return 405, {"error": "method_not_allowed", "message": "Method Not Allowed"}

    def _piece(self, job: dict[str, Any], offset: int) -> dict[str, Any]:
        whole, at = b"".join(self.output), 0
        for data in self.output:
            if at == offset:
                break
            at += len(data)
        else:
            data = b""
        after = offset + len(data)
        if after >= len(whole):
            job |= self.ends
        return {
            "offset": offset,
            "next": after,
            "size": len(whole),
            "end": after >= len(whole),
            "cut": self.cut,
            "data": base64.b64encode(data).decode(),
        }
