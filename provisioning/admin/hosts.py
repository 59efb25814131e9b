"""Hosts and images in the staff's pages."""

from typing import Any

from django.contrib import admin
from django.db.models import F, Q, QuerySet, Sum
from django.http import HttpRequest, HttpResponse

from audit.admin import ReadOnlyAdmin
from audit.context import Actor
from provisioning.models import GuestImage, Host, Runtime
from provisioning.quotas import ROOM
from provisioning.selectors import (
    reserved_on,
    room_of,
    runtimes_for,
)
from provisioning.services import (
    host_enable,
    image_retire,
)

ROOM_LABELS = {"vcpus": "vCPUs", "memory_mib": "Memory (MiB)", "disk_gib": "Disk (GiB)"}


@admin.register(Host)
class HostAdmin(ReadOnlyAdmin[Host]):
    """Hypervisors."""

    list_display = (
        "name",
        "engine",
        "enabled",
        "vcpus_held",
        "memory_held",
        "disk_held",
        "seen_at",
        "problem",
        "way_out",
    )
    change_form_template = "admin/provisioning/host/change_form.html"
    actions = ("open_hosts", "drain_hosts")

    def get_queryset(self, request: HttpRequest) -> Any:
        """With what runtimes hold, in the same query."""
        held = {
            f"held_{name}": Sum(
                F(f"runtimes__{name}") + F(f"runtimes__spare_{name}"),
                filter=Q(runtimes__reserved=True),
                default=0,
            )
            for name in ROOM
        }
        return super().get_queryset(request).annotate(**held)

    @admin.display(description="vCPUs promised")
    def vcpus_held(self, obj: Any) -> str:
        """Of what may be promised, which is more than there are."""
        return f"{obj.held_vcpus} of {room_of(obj)['vcpus']}"

    @admin.display(description="memory promised")
    def memory_held(self, obj: Any) -> str:
        """Of what there is."""
        return f"{obj.held_memory_mib} of {obj.memory_mib} MiB"

    @admin.display(description="disk promised")
    def disk_held(self, obj: Any) -> str:
        """Of what there is."""
        return f"{obj.held_disk_gib} of {obj.disk_gib} GiB"

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """With what is promised there, and to whom of those that this person may know of."""
        host = self.get_object(request, object_id)
        held, room = reserved_on(host), room_of(host)
        known = runtimes_for(request.user).filter(host=host, reserved=True)
        extra = {
            **(extra_context or {}),
            "room": [(ROOM_LABELS[name], held[name], room[name]) for name in ROOM],
            "runtimes": known.order_by("tenant__name"),
            "others": Runtime.objects.filter(host=host, reserved=True).count() - known.count(),
        }
        return super().change_view(request, object_id, form_url, extra)

    @admin.display(description="way out")
    def way_out(self, obj: Host) -> str:
        """Whether its proxy follows the newest rules."""
        if not obj.egress_path:
            return "none"
        if obj.egress_problem:
            return obj.egress_problem
        behind = obj.egress_applied != obj.egress_generation
        return f"rules {obj.egress_applied} of {obj.egress_generation}" if behind else "in force"

    @admin.action(description="Open the chosen hosts for new runtimes", permissions=["operate"])
    def open_hosts(self, request: HttpRequest, chosen: "QuerySet[Host]") -> None:
        """Enable."""
        for host in chosen:
            host_enable(actor=Actor.of(request.user), host=host, enabled=True)

    @admin.action(description="Drain the chosen hosts: place no new runtimes", permissions=["operate"])
    def drain_hosts(self, request: HttpRequest, chosen: "QuerySet[Host]") -> None:
        """Disable."""
        for host in chosen:
            host_enable(actor=Actor.of(request.user), host=host, enabled=False)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Who may open and drain."""
        return request.user.has_perm("provisioning.change_host")


@admin.register(GuestImage)
class GuestImageAdmin(ReadOnlyAdmin[GuestImage]):
    """Images that runtimes boot."""

    list_display = ("version", "checked", "size_bytes", "retired", "registered_at")
    actions = ("retire_images",)

    @admin.action(description="Retire the chosen images", permissions=["operate"])
    def retire_images(self, request: HttpRequest, chosen: "QuerySet[GuestImage]") -> None:
        """No new runtime boots from them."""
        for image in chosen:
            image_retire(actor=Actor.of(request.user), image=image)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Who may retire."""
        return request.user.has_perm("provisioning.change_guestimage")
