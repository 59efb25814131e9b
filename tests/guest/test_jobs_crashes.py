"""The agent dies at each single write of its record, and at each call of a backend: nothing lost or done twice."""

import asyncio
import uuid
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from guest.agent.jobs import runner as running
from guest.agent.jobs.records import Asked, Job, Kind, Outcome, State
from guest.agent.jobs.runner import Runner
from guest.agent.jobs.store import Store
from protocol.enrolment import Limits
from tests.guest.test_jobs_record import OLGA

LIMITS = Limits(memory_mib=512, processes=512, jobs_running=1, jobs_waiting=9, gateway_idle_seconds=1800)


class Dead(BaseException):
    """The process is no more: nothing of it may catch this, and nothing of it is done afterwards."""


@dataclass
class Fate:
    """Lets so many deeds be done; at the next the process dies, before it or just after."""

    deeds: int
    after: bool
    dead: bool = False

    def comes(self) -> None:
        """Before a deed."""
        if self.dead:
            raise Dead
        self.deeds -= 1
        if self.deeds < 0 and not self.after:
            self.dead = True
            raise Dead

    def came(self) -> None:
        """After it."""
        if self.deeds < 0:
            self.dead = True
            raise Dead


@dataclass
class Machine:
    """What outlives the agent: begins each job once, as the launcher does, and lets it run for two looks."""

    fate: Fate
    runs: Counter[str] = field(default_factory=Counter)
    looks: Counter[str] = field(default_factory=Counter)
    gone: list[str] = field(default_factory=list)
    survives: bool = True

    def check(self) -> None:
        pass

    async def start(self, job: Job) -> None:
        self.fate.comes()
        assert job.id not in self.gone, "begun after it was forgotten"
        if job.id not in self.looks:
            self.runs[job.id] += 1
            self.looks[job.id] = 0
        self.fate.came()

    async def look(self, job: Job) -> Outcome | None:
        self.fate.comes()
        assert self.runs[job.id] == 1
        self.looks[job.id] += 1
        self.fate.came()
        return Outcome(State.SUCCEEDED) if self.looks[job.id] > 2 else None

    def left(self, _job: Job) -> Outcome | None:
        return None

    async def stop(self, _job: Job) -> None:
        raise AssertionError("nobody cancelled")

    async def forget(self, job: Job) -> None:
        self.fate.comes()
        self.gone.append(job.id)
        self.fate.came()

    def log(self, job: Job) -> Path:
        return Path("/nonexistent") / job.id


async def life(folder: Path, machine: Machine, asked: list[Asked]) -> bool:
    """One process's: submit ``asked``, which empties as answers come, and wait for the end. False: it died."""
    store = Store(folder)
    runner = Runner(store, LIMITS, "boot", suspended=lambda: False, is_member=lambda _: True)
    runner.register(Kind.COMMAND, machine)
    try:
        runner.begin()
        while asked:
            runner.submit(asked[0], OLGA)
            del asked[0]
        while not machine.fate.dead:
            jobs = runner.page(None)
            if len(jobs) == 2 and all(job.state.over for job in jobs) and machine.gone and not store.hidden():
                return True
            await asyncio.sleep(0.005)
    except Dead:
        pass
    finally:
        await runner.close()
    return False


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("deeds", range(26))
def test_dead_at_any_deed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deeds: int, after: bool) -> None:
    """Three jobs, one place, two kept: the first is forgotten in the end, and each ran once."""
    machine = Machine(Fate(deeds, after))
    update = Store._update

    def fated(self: Store, change: str, *given: Any) -> bool:
        if change.lstrip().startswith("UPDATE job SET hidden") and "ORDER BY" in change:
            return update(self, change, *given)
        machine.fate.comes()
        done = update(self, change, *given)
        machine.fate.came()
        return done

    monkeypatch.setattr(Store, "_update", fated)
    for name, value in (("LOOK_SECONDS", 0.002), ("IDLE_SECONDS", 0.01), ("KEPT_JOBS", 2)):
        monkeypatch.setattr(running, name, value)
    asked = [Asked(str(uuid.uuid4()), Kind.COMMAND, ("true",)) for _ in range(3)]

    unanswered = list(asked)

    async def case() -> None:
        async with asyncio.timeout(20):
            lived = await life(tmp_path, machine, unanswered)
            assert not lived, "this fate never came: too many deeds"
            machine.fate = Fate(10**6, after)
            assert await life(tmp_path, machine, unanswered)

    asyncio.run(case())
    assert machine.runs == Counter(each.id for each in asked)
    assert set(machine.gone) == {asked[0].id}
