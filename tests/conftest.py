"""Fixtures that more than one room uses: people, a plan, a tenant, an image, and hosts of both engines."""

import base64
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from celery import _state
from celery.app import app_or_default
from django.conf import settings as django_settings
from django.contrib.auth.models import Group, Permission, User
from django.db import connection
from django.test import TransactionTestCase, override_settings
from django.utils import timezone

from audit import triggers
from audit.context import Actor, command
from audit.personal import forget
from breakglass import triggers as break_glass_triggers
from portal import streams
from portal.celery import app as celery_app
from portal.management.commands.demo_people import OPERATOR_PERMISSIONS
from provisioning.models import GuestImage, Host
from provisioning.seals import seal
from tenants import key_triggers
from tenants import triggers as signed_triggers
from tenants.models import Membership, Plan, Tenant
from tenants.services import membership_add, plan_save, tenant_create

TESTER = command("test")
if not django_settings.WRAPPING_KEY:  # `make test` gives one; a bare `pytest` makes one
    django_settings.WRAPPING_KEY = os.urandom(32)
    os.environ["PORTAL_WRAPPING_KEY"] = base64.b64encode(django_settings.WRAPPING_KEY).decode()
if not django_settings.ROUTE_KEY:
    django_settings.ROUTE_KEY = os.urandom(32)
    os.environ["PORTAL_ROUTE_KEY"] = base64.b64encode(django_settings.ROUTE_KEY).decode()
# The real hasher is slow on purpose, and nothing here tests it.
django_settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
_TRIGGERS = (triggers, signed_triggers, key_triggers, break_glass_triggers)
_teardown: Callable[[TransactionTestCase], None] = vars(TransactionTestCase)["_fixture_teardown"]


def _teardown_with_triggers_down(self: TransactionTestCase) -> None:
    """Emptying the tables between tests is just what the triggers refuse."""
    for room in _TRIGGERS:
        room.remove(connection)
    try:
        _teardown(self)
    finally:
        for room in _TRIGGERS:
            room.install(connection)


setattr(TransactionTestCase, "_fixture_teardown", _teardown_with_triggers_down)  # noqa: B010 - unknown to the stubs


def empty_tables() -> None:
    """After a file whose tests share rows that were committed for all of them."""
    _teardown_with_triggers_down(TransactionTestCase())


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> None:
    """``migrate`` leaves an entry that it ran: only the first test would find it, so no test does."""
    with django_db_blocker.unblock():
        triggers.remove(connection)
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM audit_entry")
        triggers.install(connection)


@pytest.fixture(autouse=True)
def fresh_counters() -> Iterator[None]:
    """Web processes count requests in Redis, by ids that come again in the next test, and in the next run.

    Not through pytest-django's ``settings``: whoever asks for that first has it undone last, and a test that takes
    a key away would leave its own fixtures to clean up without it.
    """
    shared = {**django_settings.CACHES["shared"], "KEY_PREFIX": f"test-{uuid.uuid4().hex}"}
    streams.forget()
    with override_settings(CACHES={**django_settings.CACHES, "shared": shared}):
        yield


@pytest.fixture(autouse=True)
def one_application() -> Iterator[None]:
    """A test that leaves another Celery application behind sends the messages of all later ones to its broker."""
    yield
    assert app_or_default() is _state.default_app is celery_app  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def fresh_sequencer(tmp_path: Path) -> Iterator[None]:
    """What a sequencer remembers outlives the tables that a test leaves empty: each test has its own memory."""
    with override_settings(SEQUENCER_DIR=tmp_path / "sequencer"):
        yield


@pytest.fixture
def sequence() -> Callable[[], int]:
    """Gives all committed entries their leaves and signs, in this process. Answers how many there were."""
    from audit.sequencer import sequence_once

    return sequence_once


@pytest.fixture(autouse=True)
def fresh_commitments() -> None:
    """A process remembers commitments whose rows the next test has not."""
    forget()


def new_plan() -> Plan:
    return plan_save(
        actor=TESTER,
        plan=Plan(slug="small", name="Small", vcpus=1, memory_mib=512, disk_gib=1, cost_floor_cents=4900),
    )


@pytest.fixture
def plan(db: None) -> Plan:
    return new_plan()


def new_user(name: str, **more: Any) -> User:
    return User.objects.create_user(name, password="correct horse battery", **more)


@pytest.fixture
def make_user(db: None) -> Callable[..., User]:
    return new_user


def new_operator() -> User:
    group = Group.objects.create(name="operators")
    group.permissions.set(Permission.objects.filter(codename__in=OPERATOR_PERMISSIONS))
    user = new_user("operator", is_staff=True)
    user.groups.add(group)
    return user


@pytest.fixture
def operator(db: None) -> User:
    return new_operator()


@pytest.fixture
def as_operator(operator: User) -> Actor:
    return Actor.of(operator)


def new_tenant(plan: Plan, slug: str = "acme", **more: Any) -> Tenant:
    given = {"name": slug.title(), "plan": plan, "price_cents": 5000, **more}
    return tenant_create(actor=TESTER, slug=slug, **given)


@pytest.fixture
def make_tenant(plan: Plan) -> Callable[..., Tenant]:
    return partial(new_tenant, plan)


@pytest.fixture
def tenant(make_tenant: Callable[..., Tenant]) -> Tenant:
    return make_tenant()


@pytest.fixture
def owner(make_user: Callable[..., User], tenant: Tenant) -> User:
    user = make_user("owner")
    membership_add(actor=TESTER, tenant=tenant, user=user, role=Membership.Role.OWNER)
    return user


def new_image_files(folder: Path) -> Path:
    """A directory that looks like an image. Only libvirt's simulated driver can 'boot' it."""
    directory = folder / "image"
    directory.mkdir()
    for name in ("vmlinuz", "initrd.img", "root.img"):
        (directory / name).write_bytes(name.encode() * 100)
    return directory


@pytest.fixture
def image_files(tmp_path: Path) -> Path:
    return new_image_files(tmp_path)


def sealed_image(**fields: Any) -> GuestImage:
    """A registered image."""
    image = GuestImage(**fields)
    image.seal = seal(image)
    image.save()
    return image


def new_image(files: Path) -> GuestImage:
    return sealed_image(
        version="g-test",
        directory=str(files),
        sha256={p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files.iterdir()},
        size_bytes=3000,
        checked=True,
    )


@pytest.fixture
def image(db: None, image_files: Path) -> GuestImage:
    return new_image(image_files)


def new_host(pool: Path, **given: Any) -> Host:
    name = given.pop("name", f"host-{uuid.uuid4().hex[:6]}")
    defaults = {
        "uri": f"test+unix:///default?{name}",
        "engine": Host.Engine.TEST,
        "pool_path": str(pool),
        "vcpus": 4,
        "memory_mib": 8192,
        "disk_gib": 50,
        "build_slots": 4,
        "probed_at": timezone.now(),
    }
    host = Host(name=name, **{**defaults, **given})
    host.seal = seal(host)
    host.save()
    return host


@pytest.fixture
def make_host(db: None, tmp_path: Path) -> Callable[..., Host]:
    return partial(new_host, tmp_path / "pool")


@pytest.fixture(scope="session")
def keeper() -> Iterator[None]:
    """libvirt's simulated hypervisor lives as long as one connection to it is open."""
    import libvirt

    connection = libvirt.open("test+unix:///default")
    yield
    connection.close()


@pytest.fixture
def simulated_host(keeper: None, make_host: Callable[..., Host], tmp_path: Path) -> Iterator[Host]:
    """libvirt's test driver in the running libvirtd, with the agent as a local process."""
    from provisioning.purge import purge
    from provisioning.specs import host_spec

    host = make_host(name="simulated", uri="test+unix:///default", egress_path=str(tmp_path / "egress"))
    yield host
    purge(host_spec(host))


@pytest.fixture(scope="session")
def real_image_directory() -> Path:
    """The image that `make test` has built. Its absence is a failure, not a reason to skip."""
    from guest.image.version import image_version

    directory = Path(django_settings.IMAGES_DIR) / image_version()
    assert (directory / "manifest.json").is_file(), "no current guest image: run `make image`"
    return directory


@pytest.fixture(scope="session")
def real_engine() -> str:
    """The best engine that really runs guests here. Without one this tier is skipped; under CI it fails."""
    from provisioning.driver.probe import probe_host

    found = probe_host(django_settings.LIBVIRT_URI, str(django_settings.POOL_DIR), django_settings.FLEET_ID)
    if found.engine == "test":
        reason = "no engine runs guests here: " + " ".join(found.evidence)
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found.engine


@pytest.fixture
def real_host(real_engine: str, make_host: Callable[..., Host]) -> Iterator[Host]:
    """This machine, with guests that really run."""
    from provisioning.purge import purge
    from provisioning.specs import host_spec

    host = make_host(
        name="real",
        uri=django_settings.LIBVIRT_URI,
        engine=real_engine,
        pool_path=str(django_settings.POOL_DIR),
    )
    yield host
    purge(host_spec(host))


@pytest.fixture
def real_image(db: None, real_image_directory: Path) -> GuestImage:
    return register_built(real_image_directory)


def register_built(real_image_directory: Path) -> GuestImage:
    """The image that was built, registered."""
    manifest = json.loads((real_image_directory / "manifest.json").read_text())
    return sealed_image(
        version=manifest["version"],
        directory=str(real_image_directory),
        sha256=manifest["sha256"],
        cmdline=manifest["cmdline"],
        checked=True,
        size_bytes=sum(manifest["size"].values()),
    )


def environment_of_children() -> dict[str, str]:
    """What a process started by a test needs to see the same database."""
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        url = f"sqlite:///{database['NAME']}"
    else:
        url = (
            f"postgres://{database['USER']}:{database['PASSWORD']}@{quote(database['HOST'] or '', safe='')}"
            f":{database['PORT'] or 5432}/{database['NAME']}"
        )
    return {**os.environ, "DATABASE_URL": url, "PORTAL_ALLOW_FAULTS": "1"}


@pytest.fixture
def children_environment() -> dict[str, str]:
    """What a process started by a test needs to see the same database."""
    return environment_of_children()
