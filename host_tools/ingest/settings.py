"""Django's settings with the tables of all apps beside the registry's, for type checkers and `makemigrations`."""

from provisioning.registry.settings import (
    AUTH_USER_MODEL,
    DATABASES,
    DEFAULT_AUTO_FIELD,
    PASSWORD_HASHERS,
    TIME_ZONE,
    USE_I18N,
    USE_TZ,
)
from provisioning.registry.settings import INSTALLED_APPS as REGISTRY_APPS

__all__ = [
    "AUTH_USER_MODEL",
    "DATABASES",
    "DEFAULT_AUTO_FIELD",
    "INSTALLED_APPS",
    "PASSWORD_HASHERS",
    "TIME_ZONE",
    "USE_I18N",
    "USE_TZ",
]

INSTALLED_APPS = [*REGISTRY_APPS, "host_tools.ingest", "host_tools.rollout"]
