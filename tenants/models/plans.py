"""What a tenant may use, and the least it must pay for that."""

from django.core.validators import BaseValidator, MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from protocol.enrolment import LIMIT_RANGES

RESERVED_SLUGS = frozenset({"admin", "api", "www", "static", "portal", "status", "mail"})


slug_validator = RegexValidator(
    r"\A[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?\Z",
    "Use 1 to 32 small letters, digits and hyphens; begin with a letter, end with a letter or digit.",
)


REQUESTS_RANGE = (30, 1_000_000)
"""A minute; fewer would lock people out of the page that tells them so."""


def _between(limits: tuple[int, int]) -> list[BaseValidator]:
    least, most = limits
    return [MinValueValidator(least), MaxValueValidator(most)]


def _within(name: str) -> list[BaseValidator]:
    """What a guest takes as this limit; it would refuse its papers otherwise."""
    return _between(LIMIT_RANGES[name])


class Plan(models.Model):
    """What a tenant may use, and the least it must pay for that."""

    slug = models.CharField(max_length=32, unique=True, validators=[slug_validator])
    name = models.CharField(max_length=80)
    vcpus = models.PositiveSmallIntegerField("vCPUs", default=1, validators=[MinValueValidator(1)])
    cpu_percent = models.PositiveSmallIntegerField(
        "CPU cap (% of a core, each vCPU)", default=100, validators=[MinValueValidator(5)]
    )
    memory_mib = models.PositiveIntegerField("memory (MiB)", default=512, validators=[MinValueValidator(384)])
    disk_gib = models.PositiveIntegerField("disk (GiB)", default=2, validators=[MinValueValidator(1)])
    iops = models.PositiveIntegerField(
        "disk operations per second", null=True, blank=True, validators=[MinValueValidator(1)]
    )
    bandwidth_mbit = models.PositiveIntegerField(
        "bandwidth (Mbit/s, each way)",
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(100_000)],
        help_text="Empty: no limit. Only hosts whose kernel can shape traffic enforce it.",
    )
    processes = models.PositiveSmallIntegerField(
        default=512,
        validators=_within("processes"),
        help_text="Processes and threads of the gateway, and the most that one job may have.",
    )
    jobs_running = models.PositiveSmallIntegerField(
        "jobs at once", default=2, validators=_within("jobs_running")
    )
    jobs_waiting = models.PositiveSmallIntegerField(
        "jobs waiting", default=20, validators=_within("jobs_waiting")
    )
    api_per_minute = models.PositiveIntegerField(
        "API requests a minute",
        default=600,
        validators=_between(REQUESTS_RANGE),
        help_text="Of all the tenant's members together, at the portal's API.",
    )
    routed_per_minute = models.PositiveIntegerField(
        "routed requests a minute",
        default=1200,
        validators=_between(REQUESTS_RANGE),
        help_text="Of all the tenant's members together, to the machine's own address.",
    )
    cost_floor_cents = models.PositiveIntegerField("cost floor (cents a month)")

    class Meta:
        ordering = ["cost_floor_cents", "slug"]
        constraints = [
            models.CheckConstraint(
                condition=Q(vcpus__gte=1, memory_mib__gte=384, disk_gib__gte=1, cpu_percent__gte=5),
                name="plan_has_room_for_a_guest",
            ),
            models.CheckConstraint(
                condition=Q(
                    **{
                        f"{name}__range": LIMIT_RANGES[name]
                        for name in ("processes", "jobs_running", "jobs_waiting")
                    }
                ),
                name="plan_limits_a_guest_takes",
            ),
            models.CheckConstraint(
                condition=Q(api_per_minute__range=REQUESTS_RANGE, routed_per_minute__range=REQUESTS_RANGE),
                name="plan_lets_some_requests_through",
            ),
            models.CheckConstraint(
                condition=Q(bandwidth_mbit=None) | Q(bandwidth_mbit__range=(1, 100_000)),
                name="plan_bandwidth_is_a_rate",
            ),
            models.CheckConstraint(
                condition=Q(iops=None) | Q(iops__gte=1), name="plan_lets_a_guest_use_its_disk"
            ),
        ]

    def __str__(self) -> str:
        return self.name
