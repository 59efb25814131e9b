"""People and groups, with an audit entry for each change; and the record, in each person's scope."""

from typing import Any

from axes.admin import AccessAttemptAdmin
from axes.models import AccessAttempt, AccessFailureLog, AccessLog
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from audit.admin import PersonalAdmin, RecordedAdmin
from audit.admin_disputes import DisputeAdmin
from audit.admin_witnesses import WitnessAdmin, WitnessRefusalAdmin
from audit.context import Actor
from audit.models import Dispute, Entry, PersonalDatum, Witness, WitnessRefusal
from portal.selectors import disputes_for, personal_for, refusals_for, witnesses_for
from portal.staff_record.admin import StaffRecord
from tenants.services import key_forget, membership_remove

admin.site.unregister(User)
admin.site.unregister(Group)
admin.site.unregister(AccessAttempt)
# Who signed in and who failed is in the record; a second log with the names that were typed is not for pages.
admin.site.unregister(AccessLog)
admin.site.unregister(AccessFailureLog)


@admin.register(User)
class RecordedUserAdmin(RecordedAdmin[Any], UserAdmin[Any]):
    """Django's own page for people."""

    recorded_values = ("is_active", "is_staff", "is_superuser")

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        """Each place in a tenant that ends with the person is an entry of that tenant's, too."""
        actor = Actor.of(request.user)
        for membership in obj.memberships.all():
            membership_remove(actor=actor, membership=membership)
        for key in obj.member_keys.all():
            key_forget(actor=actor, key=key)
        super().delete_model(request, obj)

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


@admin.register(PersonalDatum)
class ScopedPersonalAdmin(PersonalAdmin):
    """What the record's leaves commit to, for those who operate every tenant."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[PersonalDatum]:
        """Only what this person may know of."""
        return personal_for(request.user)


@admin.register(Witness)
class ScopedWitnessAdmin(WitnessAdmin):
    """Witnesses outside, and the guests of the tenants that this person operates."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Witness]:
        """Only what this person may know of."""
        return super().get_queryset(request).filter(pk__in=witnesses_for(request.user))


@admin.register(WitnessRefusal)
class ScopedWitnessRefusalAdmin(WitnessRefusalAdmin):
    """Their refusals."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[WitnessRefusal]:
        """Only what this person may know of."""
        return super().get_queryset(request).filter(pk__in=refusals_for(request.user))


@admin.register(Dispute)
class ScopedDisputeAdmin(DisputeAdmin):
    """Disputes that their tenants' members raised."""

    def get_queryset(self, request: HttpRequest) -> QuerySet[Dispute]:
        """Only what this person may know of."""
        return super().get_queryset(request).filter(pk__in=disputes_for(request.user))
