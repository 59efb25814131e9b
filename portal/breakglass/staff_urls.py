"""The staff's pages of tickets, below ``/break-glass/``."""

from django.urls import path

from portal.breakglass import deed_views, staff_views

DEEDS = {
    "approve": deed_views.approve,
    "reject": deed_views.reject,
    "withdraw": deed_views.withdraw,
    "start": deed_views.start,
    "open": deed_views.open_machine,
    "end": deed_views.end,
    "revoke": deed_views.revoke,
    "review": deed_views.review,
}
"""Each takes POST only, and is named ``break-glass-<deed>``."""

urlpatterns = [
    path("", staff_views.inbox, name="break-glass"),
    path("live/", staff_views.inbox_live, name="break-glass-live"),
    path("new/", staff_views.new, name="break-glass-new"),
    path("<uuid:ticket>/", staff_views.ticket_view, name="break-glass-ticket"),
    path("<uuid:ticket>/live/", staff_views.ticket_live, name="break-glass-ticket-live"),
    path("<uuid:ticket>/edit/", staff_views.edit, name="break-glass-edit"),
    *(path(f"<uuid:ticket>/{deed}/", view, name=f"break-glass-{deed}") for deed, view in DEEDS.items()),
]
