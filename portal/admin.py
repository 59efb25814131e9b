"""People and groups, with an audit entry for each change."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User

from audit.admin import RecordedAdmin

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class RecordedUserAdmin(RecordedAdmin[Any], UserAdmin[Any]):
    """Django's own page for people."""


@admin.register(Group)
class RecordedGroupAdmin(RecordedAdmin[Any], GroupAdmin):
    """Django's own page for groups."""
