from django.apps import AppConfig


class BreakglassConfig(AppConfig):
    name = "breakglass"
    verbose_name = "Break-glass"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from breakglass import handlers, promises  # noqa: F401 - connects the receivers, registers the promises
