"""A database of a test's own on the server that the tests use: whole, with other owners, and gone afterwards."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

import psycopg
from django.db import connection
from psycopg import sql


def connect(name: str, **other: Any) -> psycopg.Connection:
    """As the tests' superuser, or as ``user`` with ``password``; every statement stands for itself."""
    given = connection.settings_dict
    parts = {
        "host": given["HOST"],
        "port": given["PORT"],
        "user": given["USER"],
        "password": given["PASSWORD"],
    }
    wanted = {key: value for key, value in {**parts, **other}.items() if value}
    return psycopg.connect(dbname=name, autocommit=True, connect_timeout=10, **wanted)


def url(name: str, **other: str) -> str:
    """The same as a DATABASE_URL."""
    given = connection.settings_dict
    user, password = other.get("user", given["USER"]), other.get("password", given["PASSWORD"])
    place = quote(given["HOST"] or "", safe="") + (f":{given['PORT']}" if given["PORT"] else "")
    return f"postgres://{user}:{password}@{place}/{name}"


@contextmanager
def own_database(template: str = "template1") -> Iterator[str]:
    """The name of a new database, a copy of ``template``, whose sessions are ended: only a quiet one is copied."""
    name = f"own_{os.getpid()}_{secrets.token_hex(4)}"
    server = connect("postgres")
    try:
        server.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            [template],
        )
        server.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        )
        yield name
    finally:
        server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        server.close()
