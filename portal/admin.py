"""People and groups, with an audit entry for each change; and the record, in each person's scope."""

from typing import Any

from axes.admin import AccessAttemptAdmin
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.http import HttpRequest, HttpResponse

from audit.admin import RecordedAdmin
from audit.models import Entry
from portal.staff_record.admin import StaffRecord

admin.site.unregister(User)
admin.site.unregister(Group)
admin.site.unregister(AccessAttempt)
# Who signed in and who failed is in the record; a second log with the names that were typed is not for pages.
admin.site.unregister(AccessLog)
admin.site.unregister(AccessFailureLog)


@admin.register(User)
class RecordedUserAdmin(RecordedAdmin[Any], UserAdmin[Any]):
    """Django's own page for people."""

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        """Django's own view has no transaction: a password would change without its entry."""
        with transaction.atomic():
            return super().user_change_password(request, id, form_url)


@admin.register(Group)
class RecordedGroupAdmin(RecordedAdmin[Any], GroupAdmin):
    """Django's own page for groups."""


@admin.register(AccessAttempt)
class RecordedAttemptAdmin(RecordedAdmin[Any], AccessAttemptAdmin):  # type: ignore[misc]
    """Failed sign-ins that count towards a lock. Deleting a row lets its person try again."""


admin.site.register(Entry, StaffRecord)
