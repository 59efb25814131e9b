"""The portal's settings, and django-auditlog beside it to compare with."""

from portal.settings import *  # noqa: F403
from portal.settings import INSTALLED_APPS as _OURS

INSTALLED_APPS = [*_OURS, "auditlog"]
AUDITLOG_DISABLE_REMOTE_ADDR = False
