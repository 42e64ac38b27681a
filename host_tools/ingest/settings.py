"""Django's settings with the tables of all apps beside the registry's, for type checkers and `makemigrations`."""

from provisioning.registry.settings import DATABASES, DEFAULT_AUTO_FIELD, TIME_ZONE, USE_I18N, USE_TZ
from provisioning.registry.settings import INSTALLED_APPS as REGISTRY_APPS

__all__ = ["DATABASES", "DEFAULT_AUTO_FIELD", "INSTALLED_APPS", "TIME_ZONE", "USE_I18N", "USE_TZ"]

INSTALLED_APPS = [*REGISTRY_APPS, "host_tools.ingest", "host_tools.rollout"]
