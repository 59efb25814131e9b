"""The cache that web processes share: Redis, and each process's own memory while Redis does not answer.

It holds counters and nothing else of worth. A request never waits long for it and never fails because of it.
"""

import json
import logging
import time
from collections.abc import Callable
from typing import Any, ClassVar

from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache
from redis import ConnectionPool
from redis.exceptions import RedisError

log = logging.getLogger(__name__)
RETRY_SECONDS = 5.0
"""For how long Redis is left alone after it did not answer."""


class JsonSerializer:
    """Values as JSON. Django's own way is pickle, which runs whatever somebody puts into Redis."""

    def dumps(self, value: Any) -> int | bytes:
        """An integer as it is, so that Redis can count with it."""
        return value if type(value) is int else json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        """What `dumps` has written; None for what it has not."""
        try:
            return json.loads(data)
        except ValueError:
            return None


class ProcessPool(ConnectionPool):
    """One pool of connections for all threads of a process. Django's own way is one for each thread's cache,
    which nobody closes when the thread ends."""

    _pools: ClassVar[dict[Any, "ProcessPool"]] = {}

    @classmethod
    def from_url(cls, url: str, **options: Any) -> "ProcessPool":
        """The process's pool for this server and these options."""
        key = (url, *sorted(options.items()))
        return cls._pools.get(key) or cls._pools.setdefault(key, super().from_url(url, **options))


class SharedCache(BaseCache):
    """Django's cache interface over both."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        super().__init__(params)
        options = {
            "serializer": "portal.shared_cache.JsonSerializer",
            "socket_timeout": 0.5,
            "socket_connect_timeout": 0.5,
            "pool_class": ProcessPool,
        }
        self._redis = RedisCache(server, {**params, "OPTIONS": options})
        self._own = LocMemCache(f"own {server}", params)
        self._down_until = 0.0

    def _ask(self, name: str, *given: Any, **more: Any) -> Any:
        if time.monotonic() >= self._down_until:
            method: Callable[..., Any] = getattr(self._redis, name)
            try:
                return method(*given, **more)
            except (RedisError, OSError) as error:
                self._down_until = time.monotonic() + RETRY_SECONDS
                log.warning("Redis does not answer, each process counts alone: %s", type(error).__name__)
        return getattr(self._own, name)(*given, **more)

    def add(self, key: Any, value: Any, *given: Any, **more: Any) -> bool:
        """Set what is not there yet."""
        return bool(self._ask("add", key, value, *given, **more))

    def get(self, key: Any, *given: Any, **more: Any) -> Any:
        """What is there."""
        return self._ask("get", key, *given, **more)

    def get_many(self, keys: Any, *given: Any, **more: Any) -> Any:
        """The same for several."""
        return self._ask("get_many", keys, *given, **more)

    def set(self, key: Any, value: Any, *given: Any, **more: Any) -> None:
        """Set."""
        self._ask("set", key, value, *given, **more)

    def touch(self, key: Any, *given: Any, **more: Any) -> bool:
        """Keep it longer."""
        return bool(self._ask("touch", key, *given, **more))

    def delete(self, key: Any, *given: Any, **more: Any) -> bool:
        """Forget."""
        return bool(self._ask("delete", key, *given, **more))

    def incr(self, key: Any, delta: int = 1, *given: Any, **more: Any) -> int:
        """Count on.

        Raises:
            ValueError: there is no such key.
        """
        return int(self._ask("incr", key, delta, *given, **more))

    def has_key(self, key: Any, *given: Any, **more: Any) -> bool:
        """Whether it is there."""
        return bool(self._ask("has_key", key, *given, **more))

    def clear(self) -> None:
        """Forget what this process holds alone. What others share stays: it is not ours alone to forget."""
        self._own.clear()

    def close(self, **more: Any) -> None:
        """Both."""
        self._redis.close(**more)
        self._own.close(**more)
