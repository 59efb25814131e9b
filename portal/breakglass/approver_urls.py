"""The staff's pages of passkeys and approvers, below ``/break-glass/``."""

from django.urls import path

from portal.breakglass import approver_views, key_views

urlpatterns = [
    path("keys/", key_views.keys, name="break-glass-keys"),
    path("keys/options/", key_views.options, name="break-glass-key-options"),
    path("keys/<int:key>/retire/", key_views.retire, name="break-glass-key-retire"),
    path("approvers/", approver_views.approvers, name="break-glass-approvers"),
    path("approvers/new/", approver_views.propose, name="break-glass-approvers-new"),
    path("approvers/<int:proposal>/sign/", approver_views.sign, name="break-glass-set-sign"),
    path("approvers/<int:proposal>/withdraw/", approver_views.withdraw, name="break-glass-set-withdraw"),
]
