"""The tenant's pages of break-glass, below ``/t/<slug>/break-glass/``."""

from django.urls import path

from portal.breakglass import tenant_views as views

urlpatterns = [
    path("", views.tenant_tickets, name="tenant-break-glass"),
    path("live/", views.tenant_tickets_live, name="tenant-break-glass-live"),
    path("approvers/", views.tenant_approvers, name="tenant-break-glass-approvers"),
    path("approvers/name/", views.tenant_approvers_name, name="tenant-break-glass-name"),
    path("approvers/terms/", views.tenant_terms, name="tenant-break-glass-terms"),
    path("<uuid:ticket>/", views.tenant_ticket, name="tenant-break-glass-ticket"),
    path("<uuid:ticket>/live/", views.tenant_ticket_live, name="tenant-break-glass-ticket-live"),
    path("<uuid:ticket>/approve/", views.tenant_ticket_approve, name="tenant-break-glass-approve"),
    path("<uuid:ticket>/revoke/", views.tenant_ticket_revoke, name="tenant-break-glass-revoke"),
    path("<uuid:ticket>/receipts/", views.tenant_ticket_receipts, name="tenant-break-glass-receipts"),
]
