from django.apps import AppConfig


class BreakglassConfig(AppConfig):
    name = "breakglass"
    verbose_name = "Break-glass"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from breakglass import alerts, handlers, notice_alerts, promises  # noqa: F401 - connects receivers, registers the rest
