from django.contrib import admin
from django.urls import include, path

from portal import (
    connectors_views,
    log_views,
    metrics_views,
    outside_views,
    quotas_views,
    record_views,
    secrets_views,
    views,
)

urlpatterns = [
    path("", views.home, name="home"),
    path("sign-in/", views.SignIn.as_view(), name="sign-in"),
    path("sign-out/", views.SignOut.as_view(), name="sign-out"),
    path("t/<slug:slug>/", views.tenant, name="tenant"),
    path("t/<slug:slug>/live/", views.tenant_live, name="tenant-live"),
    path("t/<slug:slug>/operations/", views.tenant_operation, name="tenant-operation"),
    path("t/<slug:slug>/access/", views.tenant_access, name="tenant-access"),
    path("t/<slug:slug>/open/", views.tenant_open, name="tenant-open"),
    path("t/<slug:slug>/members/", views.tenant_members, name="tenant-members"),
    path("t/<slug:slug>/secrets/", secrets_views.tenant_secrets, name="tenant-secrets"),
    path("t/<slug:slug>/secrets/live/", secrets_views.tenant_secrets_live, name="tenant-secrets-live"),
    path("t/<slug:slug>/connectors/", connectors_views.tenant_connectors, name="tenant-connectors"),
    path(
        "t/<slug:slug>/connectors/live/",
        connectors_views.tenant_connectors_live,
        name="tenant-connectors-live",
    ),
    path(
        "t/<slug:slug>/connectors/switch/",
        connectors_views.tenant_connector_switch,
        name="tenant-connector-switch",
    ),
    path("t/<slug:slug>/outside/", outside_views.tenant_outside, name="tenant-outside"),
    path("t/<slug:slug>/quotas/", quotas_views.tenant_quotas, name="tenant-quotas"),
    path("t/<slug:slug>/quotas/live/", quotas_views.tenant_quotas_live, name="tenant-quotas-live"),
    path("t/<slug:slug>/break-glass/", include("portal.breakglass.tenant_urls")),
    path("t/<slug:slug>/record/", record_views.tenant_record, name="tenant-record"),
    path("t/<slug:slug>/record/<int:entry>/", record_views.tenant_record_entry, name="tenant-record-entry"),
    path(
        "t/<slug:slug>/record/<int:entry>/receipt/",
        record_views.tenant_record_receipt,
        name="tenant-record-receipt",
    ),
    path(
        "t/<slug:slug>/record/checkpoint/",
        record_views.tenant_record_checkpoint,
        name="tenant-record-checkpoint",
    ),
    path(
        "t/<slug:slug>/record/download/", record_views.tenant_record_download, name="tenant-record-download"
    ),
    path("t/<slug:slug>/record/export/", record_views.tenant_record_export, name="tenant-record-export"),
    path("break-glass/", include("portal.breakglass.approver_urls")),
    path("break-glass/", include("portal.breakglass.staff_urls")),
    path("log/checkpoint", log_views.checkpoint, name="log-checkpoint"),
    path("log/tile/<path:where>", log_views.tile, name="log-tile"),
    path("healthz", views.healthz, name="healthz"),
    path("metrics", metrics_views.metrics, name="metrics"),
    path("api/v1/", include("portal.api")),
    path("admin/", admin.site.urls),
]
