from collections.abc import Mapping

from django import template

register = template.Library()


@register.filter
def lookup(mapping: Mapping[str, str], key: str) -> str:
    """``mapping[key]``, or the key itself."""
    return mapping.get(key, key)
