"""What a request is answered when something breaks inside."""

import asyncio
import errno
import json
import sqlite3
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from guest.agent.answers import errors_as_json


def answered(failure: Exception) -> tuple[int, str]:
    async def handler(_request: web.Request) -> web.StreamResponse:
        raise failure

    answer = asyncio.run(errors_as_json(make_mocked_request("GET", "/v1/jobs"), handler))
    assert isinstance(answer, web.Response)
    assert answer.text is not None
    return answer.status, json.loads(answer.text)["error"]


def full_database(folder: Path) -> sqlite3.OperationalError:
    """As SQLite itself says it."""
    database = sqlite3.connect(folder / "small.sqlite3", isolation_level=None)
    database.execute("PRAGMA max_page_count = 1")
    with pytest.raises(sqlite3.OperationalError) as caught:
        database.execute("CREATE TABLE wanted (space TEXT)")
    database.close()
    return caught.value


def test_a_full_volume_is_told_whoever_meets_it(tmp_path: Path) -> None:
    """Also where a record is only read: SQLite needs room for that."""
    assert answered(full_database(tmp_path)) == (507, "disk_full")
    for number in (errno.ENOSPC, errno.EDQUOT):
        assert answered(OSError(number, "full")) == (507, "disk_full")


def test_any_other_failure_tells_nothing() -> None:
    for failure in (OSError(errno.EIO, "a path"), sqlite3.OperationalError("no such table"), KeyError("x")):
        assert answered(failure) == (500, "internal")
