from collections.abc import Mapping
from datetime import datetime

from django import template
from django.utils import timezone

register = template.Library()


@register.filter
def lookup(mapping: Mapping[str, str], key: str) -> str:
    """``mapping[key]``, or the key itself."""
    return mapping.get(key, key)


@register.filter
def elapsed(since: datetime) -> str:
    """The time from ``since`` until now, in its largest unit: ``40 s``, ``3 min``, ``2 h``, ``5 days``."""
    seconds = max(0, int((timezone.now() - since).total_seconds()))
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
