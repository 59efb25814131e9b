"""The walk uses the world of the portal's tests, under the net."""

from tests.net import net
from tests.portal.conftest import make_place, world

__all__ = ["make_place", "net", "world"]
