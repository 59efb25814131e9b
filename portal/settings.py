"""Settings, all from the environment. docs/settings.md lists every variable; a test keeps it complete.

Five kinds of process read this file (``PORTAL_ROLE``): ``web`` must not hold what opens anything, so it
refuses to start with the wrapping key or a libvirt address in its environment; ``worker`` and ``manage``
hold both; ``beat`` holds neither. ``sequencer`` alone holds the key that signs the audit log, and none of
the others' keys.
"""

from pathlib import Path
from urllib.parse import urlsplit

import django_stubs_ext
from django.core.exceptions import ImproperlyConfigured
from environs import Env

from audit.log_keys import log_keys
from portal.keys import thirty_two_bytes

# Lets `ModelAdmin[Runtime]` and the like be written at run time; the type checker reads them.
django_stubs_ext.monkeypatch()

env = Env()
BASE_DIR = Path(__file__).resolve().parent.parent

PRODUCTION = env.bool("PORTAL_PRODUCTION", False)
DEBUG = env.bool("DEBUG", False)
PORTAL_ROLE = env.str("PORTAL_ROLE", "manage")
STATE_DIR = Path(env.str("PORTAL_STATE_DIR", str(BASE_DIR / "var")))
IMAGES_DIR = Path(env.str("PORTAL_IMAGES_DIR", str(STATE_DIR / "images")))
POOL_DIR = Path(env.str("PORTAL_POOL_DIR", str(STATE_DIR / "volumes")))
EGRESS_DIR = env.str("PORTAL_EGRESS_DIR", "")
FLEET_ID = env.str("PORTAL_FLEET_ID", "local")
BASE_URL = env.str("PORTAL_BASE_URL", "http://portal.localhost:8000")
PORTAL_PILOT = env.bool("PORTAL_PILOT", True)
PILOT_TENANT_CAP = env.int("PILOT_TENANT_CAP", 5)
NETWORK_POOL = env.str("PORTAL_NETWORK_POOL", "10.83.0.0/16")
AGENT_PORT = env.int("PORTAL_AGENT_PORT", 8443)
EGRESS_PORT = env.int("PORTAL_EGRESS_PORT", 3128)
GATEWAY_IDLE_SECONDS = env.int("PORTAL_GATEWAY_IDLE_SECONDS", 1800)
LEASE_SECONDS = env.float("PORTAL_LEASE_SECONDS", 30.0)
BOOT_TIMEOUT_SECONDS = env.float("PORTAL_BOOT_TIMEOUT_SECONDS", 300.0)
SHUTDOWN_TIMEOUT_SECONDS = env.float("PORTAL_SHUTDOWN_TIMEOUT_SECONDS", 60.0)
EGRESS_TIMEOUT_SECONDS = env.float("PORTAL_EGRESS_TIMEOUT_SECONDS", 15.0)
EGRESS_RETENTION_DAYS = env.int("PORTAL_EGRESS_RETENTION_DAYS", 30)
EGRESS_RECORDS = env.int("PORTAL_EGRESS_RECORDS", 100_000)

_DEVELOPMENT_KEY = "development-only-" + "0" * 40
SECRET_KEY = env.str("SECRET_KEY", "" if PRODUCTION else _DEVELOPMENT_KEY)
_HOST = urlsplit(BASE_URL).hostname or ""
# With a dot: each runtime has an origin below the portal's. They get URLs of their own (OriginMiddleware).
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", [_HOST, f".{_HOST}", "localhost", "127.0.0.1"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", [BASE_URL])

ROLES_WITH_KEYS = {"worker", "manage"}
WRAPPING_KEY = b""
ROUTE_KEY = b""
EXTRA_ROUTE_KEYS: list[str] = []
LIBVIRT_URI = ""
if PORTAL_ROLE in ROLES_WITH_KEYS:
    LIBVIRT_URI = env.str("LIBVIRT_URI", "qemu:///system")
    EXTRA_ROUTE_KEYS = env.list("PORTAL_EXTRA_ROUTE_KEYS", [])
    WRAPPING_KEY = thirty_two_bytes("PORTAL_WRAPPING_KEY", env.str("PORTAL_WRAPPING_KEY", ""))
elif env.str("PORTAL_WRAPPING_KEY", "") or env.str("LIBVIRT_URI", ""):
    raise ImproperlyConfigured(
        f"The {PORTAL_ROLE} process must not hold PORTAL_WRAPPING_KEY or LIBVIRT_URI. "
        "Remove them from its environment."
    )
ROLES_WITH_ROUTE_KEY = {"web", "worker", "manage"}
if PORTAL_ROLE in ROLES_WITH_ROUTE_KEY:
    ROUTE_KEY = thirty_two_bytes("PORTAL_ROUTE_KEY", env.str("PORTAL_ROUTE_KEY", ""))
# Signs who asked in messages between these processes (audit/carrying.py). SECRET_KEY differs by role.
ROLES_WITH_CONTEXT_KEY = {"web", "worker", "beat", "manage"}
CONTEXT_KEY = thirty_two_bytes("PORTAL_CONTEXT_KEY", env.str("PORTAL_CONTEXT_KEY", ""))
if PORTAL_ROLE not in ROLES_WITH_CONTEXT_KEY and CONTEXT_KEY:
    raise ImproperlyConfigured(
        f"The {PORTAL_ROLE} process must not hold PORTAL_CONTEXT_KEY. Remove it from its environment."
    )
_DEVELOPMENT_CONTEXT_KEY = b"development only: who has asked."
if PORTAL_ROLE in ROLES_WITH_CONTEXT_KEY and not PRODUCTION:
    CONTEXT_KEY = CONTEXT_KEY or _DEVELOPMENT_CONTEXT_KEY
if not 1 <= GATEWAY_IDLE_SECONDS <= 7 * 24 * 3600:
    raise ImproperlyConfigured("PORTAL_GATEWAY_IDLE_SECONDS must be from 1 to 604800 (a week).")
if EGRESS_RETENTION_DAYS < 1 or EGRESS_RECORDS < 1:
    raise ImproperlyConfigured("PORTAL_EGRESS_RETENTION_DAYS and PORTAL_EGRESS_RECORDS must be 1 or more.")
if PORTAL_ROLE not in {"web", "worker", "beat", "manage", "sequencer"}:
    raise ImproperlyConfigured("PORTAL_ROLE must be web, worker, beat, manage or sequencer.")

LOG_ORIGIN = f"{_HOST}/log/{FLEET_ID}"
LOG_KEY, LOG_VKEY = log_keys(
    role=PORTAL_ROLE,
    secret=env.str("PORTAL_LOG_KEY", ""),
    public=env.str("PORTAL_LOG_VKEY", ""),
    origin=LOG_ORIGIN,
    production=PRODUCTION,
)
SEQUENCE_SECONDS = env.float("PORTAL_SEQUENCE_SECONDS", 1.0)
SEQUENCER_DIR = STATE_DIR / "sequencer"
WITNESS_SECONDS = env.float("PORTAL_WITNESS_SECONDS", 30.0)
if not 1 <= WITNESS_SECONDS <= 3600:
    raise ImproperlyConfigured("PORTAL_WITNESS_SECONDS must be from 1 to 3600.")
if not 0.05 <= SEQUENCE_SECONDS <= 60:
    raise ImproperlyConfigured("PORTAL_SEQUENCE_SECONDS must be from 0.05 to 60.")

if PRODUCTION:
    if len(SECRET_KEY) < 40 or SECRET_KEY == _DEVELOPMENT_KEY or len(set(SECRET_KEY)) < 10:
        raise ImproperlyConfigured("SECRET_KEY is missing or weak. Set 40 or more random characters.")
    if PORTAL_ROLE in ROLES_WITH_KEYS and (not WRAPPING_KEY or len(set(WRAPPING_KEY)) < 8):
        raise ImproperlyConfigured("PORTAL_WRAPPING_KEY is missing or weak. Set 32 random bytes as base64.")
    if PORTAL_ROLE in ROLES_WITH_ROUTE_KEY and (not ROUTE_KEY or len(set(ROUTE_KEY)) < 8):
        raise ImproperlyConfigured("PORTAL_ROUTE_KEY is missing or weak. Set 32 random bytes as base64.")
    if PORTAL_ROLE in ROLES_WITH_CONTEXT_KEY and (
        len(set(CONTEXT_KEY)) < 8 or CONTEXT_KEY == _DEVELOPMENT_CONTEXT_KEY
    ):
        raise ImproperlyConfigured("PORTAL_CONTEXT_KEY is missing or weak. Set 32 random bytes as base64.")
    if DEBUG:
        raise ImproperlyConfigured("DEBUG must be off in production.")
    if env.bool("PORTAL_ALLOW_FAULTS", False):
        raise ImproperlyConfigured("PORTAL_ALLOW_FAULTS is for tests only. Remove it in production.")

INSTALLED_APPS = [
    "portal.apps.PortalConfig",
    "portal.apps.PortalAdminConfig",
    "breakglass.apps.BreakglassConfig",
    "provisioning.apps.ProvisioningConfig",
    "tenants.apps.TenantsConfig",
    "audit.apps.AuditConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "guardian",
    "axes",
    "django_htmx",
    "rest_framework",
    "django_structlog",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "portal.middleware.ProxyMiddleware",
    "portal.middleware.OriginMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_structlog.middlewares.RequestMiddleware",
    "portal.middleware.AuditContextMiddleware",
    "portal.refusals.RefusalMiddleware",
    "portal.sensitive.ViewMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
]

ROOT_URLCONF = "portal.urls"
RUNTIME_URLCONF = "portal.runtime_urls"
WSGI_APPLICATION = "portal.wsgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "portal.breakglass.counts.break_glass",
            ]
        },
    }
]

DATABASES = {
    "default": env.dj_db_url(
        "DATABASE_URL", f"sqlite:///{STATE_DIR}/db/portal.sqlite3", conn_health_checks=True
    )
}
if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        # IMMEDIATE: a transaction takes the write lock when it begins, so that what it read stays true.
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        # FULL: an audit entry that was acknowledged survives a power cut.
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
    }
    # A file, not memory: tests fork processes and kill them.
    DATABASES["default"]["TEST"] = {"NAME": str(STATE_DIR / "test" / f"test-{FLEET_ID}.sqlite3")}
else:
    DATABASES["default"]["CONN_MAX_AGE"] = 60
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.str("REDIS_URL", "redis://127.0.0.1:6379/0")
CELERY_BROKER_URL = REDIS_URL
CELERY_TASK_DEFAULT_QUEUE = f"portal-{FLEET_ID}"
URGENT_QUEUE = f"{CELERY_TASK_DEFAULT_QUEUE}-urgent"
URGENT_TASKS = [
    "breakglass.tasks.access_sweep",
    "breakglass.tasks.grant_apply",
    "breakglass.tasks.receipts_fetch",
    "breakglass.notice_tasks.emergency_send",
    "provisioning.tasks.access_apply",
]
CELERY_TASK_ROUTES = {name: {"queue": URGENT_QUEUE} for name in URGENT_TASKS}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_PUBLISH_RETRY = False
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 10,
    "socket_connect_timeout": 2,
    # A web request does not wait for a broker that is down; the sweeper sends the operation later.
    "max_retries": 1,
    "interval_start": 0,
    "interval_step": 0,
    "interval_max": 0,
}
CACHES = {
    "default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
    # What all web processes count together; each alone while Redis does not answer.
    "shared": {
        "BACKEND": "portal.shared_cache.SharedCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": f"portal-{FLEET_ID}",
    },
}
SWEEP_SECONDS = env.float("PORTAL_SWEEP_SECONDS", 5.0)
BREAK_GLASS_SECONDS = env.float("PORTAL_BREAK_GLASS_SECONDS", 2.0)
if not 0.5 <= BREAK_GLASS_SECONDS <= 60:
    raise ImproperlyConfigured("PORTAL_BREAK_GLASS_SECONDS must be from 0.5 to 60.")
OBSERVE_SECONDS = env.float("PORTAL_OBSERVE_SECONDS", 15.0)
EGRESS_SECONDS = env.float("PORTAL_EGRESS_SECONDS", 5.0)
DRIFT_SECONDS = env.float("PORTAL_DRIFT_SECONDS", 60.0)
CELERY_BEAT_SCHEDULE = {
    "operations-sweep": {"task": "provisioning.tasks.operations_sweep", "schedule": SWEEP_SECONDS},
    "approvers-sweep": {"task": "breakglass.pushing_tasks.approvers_sweep", "schedule": SWEEP_SECONDS},
    "powers-observe": {"task": "provisioning.tasks.powers_observe", "schedule": OBSERVE_SECONDS},
    "drift-check": {"task": "provisioning.tasks.drift_check", "schedule": DRIFT_SECONDS},
    "usage-observe": {"task": "provisioning.tasks.usage_observe", "schedule": 2 * OBSERVE_SECONDS},
    "certificates-renew": {"task": "provisioning.tasks.certificates_renew", "schedule": 900.0},
    "egress-collect": {"task": "provisioning.tasks.egress_collect", "schedule": EGRESS_SECONDS},
    "egress-purge": {"task": "provisioning.tasks.egress_purge", "schedule": 600.0},
    "refusals-count": {"task": "portal.tasks.refusals_count", "schedule": 60.0},
    "witness-round": {"task": "provisioning.tasks.witness_round", "schedule": WITNESS_SECONDS},
    "notices-send": {"task": "breakglass.notice_tasks.notices_send", "schedule": SWEEP_SECONDS},
    "access-sweep": {"task": "breakglass.tasks.access_sweep", "schedule": BREAK_GLASS_SECONDS},
}
# A sweep that waited behind a stopped broker is worth nothing: the next one does its work.
for _entry in CELERY_BEAT_SCHEDULE.values():
    _entry["options"] = {"expires": 2 * OBSERVE_SECONDS}
CELERY_BEAT_SCHEDULE["access-sweep"]["options"] = {"expires": 2 * BREAK_GLASS_SECONDS}

# Mail leaves by the worker only. Without a server it goes into files, to be read on this machine.
MAIL_HOST = env.str("PORTAL_MAIL_HOST", "")
EMAIL_BACKEND = f"django.core.mail.backends.{'smtp' if MAIL_HOST else 'filebased'}.EmailBackend"
EMAIL_FILE_PATH = str(STATE_DIR / "mail")
EMAIL_HOST = MAIL_HOST
EMAIL_PORT = env.int("PORTAL_MAIL_PORT", 587)
EMAIL_USE_TLS = env.bool("PORTAL_MAIL_TLS", True)
EMAIL_HOST_USER = env.str("PORTAL_MAIL_USER", "")
EMAIL_HOST_PASSWORD = env.str("PORTAL_MAIL_PASSWORD", "")
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = env.str("PORTAL_MAIL_FROM", f"portal@{_HOST}")

AUTHENTICATION_BACKENDS = [
    "axes.backends.AxesStandaloneBackend",
    "django.contrib.auth.backends.ModelBackend",
    "guardian.backends.ObjectPermissionBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
GUARDIAN_RAISE_403 = False
ANONYMOUS_USER_NAME = None
LOGIN_URL = "sign-in"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "sign-in"

AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = 0.25  # hours; django-axes' own default never expires
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_RESET_ON_SUCCESS = True
AXES_LOCKOUT_TEMPLATE = "locked_out.html"

# Browsers treat http://*.localhost as a secure context and keep Secure cookies there.
SESSION_COOKIE_NAME = "__Host-session"
SESSION_COOKIE_SECURE = True
SESSION_COOKIE_AGE = 8 * 3600
CSRF_COOKIE_NAME = "__Host-csrf"
CSRF_COOKIE_SECURE = True
CSRF_FAILURE_VIEW = "portal.refusals.without_token"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_REFERRER_POLICY = "same-origin"
SECURE_CROSS_ORIGIN_OPENER_POLICY = "same-origin"
SECURE_HSTS_SECONDS = 31536000 if PRODUCTION else 0
SECURE_SSL_REDIRECT = PRODUCTION and env.bool("PORTAL_SSL_REDIRECT", True)
SECURE_REDIRECT_EXEMPT = [r"^metrics$"]  # asked on the machine itself, past nginx, where there is no TLS
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if PRODUCTION else None
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 500
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        # Opening a machine is a form that leads on to the runtime's origin.
        "form-action": ["'self'", BASE_URL.replace("://", "://*.", 1)],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["rest_framework.authentication.SessionAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_PAGINATION_CLASS": "rest_framework.pagination.CursorPagination",
    "PAGE_SIZE": 50,
    "DEFAULT_THROTTLE_CLASSES": [
        # In this order: who is refused as a person costs the tenant nothing.
        "portal.throttles.PersonThrottle",
        "portal.throttles.TenantRateThrottle",
    ],
    "DEFAULT_THROTTLE_RATES": {
        "user": "120/min",
        "sign_in": "20/min",
        "secrets": "30/min",
        "connectors": "30/min",
    },
    # Nobody's word counts for their address but the connection's own.
    "NUM_PROXIES": 0,
}

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False
STATIC_URL = "static/"
STATIC_ROOT = STATE_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static", BASE_DIR / "static-built"]
WHITENOISE_USE_FINDERS = not PRODUCTION

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": env.str("LOG_LEVEL", "INFO")},
    "loggers": {
        # httpx logs each request's URL at INFO; the agent's are not for the log.
        "httpx": {"level": "WARNING"},
        "axes": {"level": "WARNING"},
    },
}
