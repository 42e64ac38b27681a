"""The registry of devices and tickets: a Django app without a web server. This file connects Django to a database."""

from collections.abc import Sequence
from pathlib import Path

import django
from django.apps import apps as django_apps
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import connections

from provisioning.registry import settings


def setup(database_url_or_path: str | Path, extra_apps: Sequence[str] = ()) -> None:
    """Connect Django to a database; call it before any models are imported.

    Calling it again switches to another database of the same engine and may add apps: what tests and the demo need.

    Args:
        database_url_or_path: see `provisioning.registry.settings.database`.
        extra_apps: further Django apps by dotted name, such as `host_tools.ingest`.

    Raises:
        DatabaseUrlError: the text names no usable database.
        ImproperlyConfigured: Django was already set up with another database engine.
    """
    database = settings.database(database_url_or_path)
    installed = [*settings.INSTALLED_APPS, *(app for app in extra_apps if app not in settings.INSTALLED_APPS)]
    if not django_settings.configured:
        django_settings.configure(
            DATABASES={"default": database},
            INSTALLED_APPS=installed,
            AUTH_USER_MODEL=settings.AUTH_USER_MODEL,
            PASSWORD_HASHERS=settings.PASSWORD_HASHERS,
            DEFAULT_AUTO_FIELD=settings.DEFAULT_AUTO_FIELD,
            USE_TZ=settings.USE_TZ,
            TIME_ZONE=settings.TIME_ZONE,
            USE_I18N=settings.USE_I18N,
        )
        django.setup()
        return
    if not django_apps.ready:
        django.setup()
    current = connections.settings["default"]
    if current["ENGINE"] != database["ENGINE"]:
        raise ImproperlyConfigured("this process already uses a database of another kind")
    connections.close_all()
    current.update(database)
    missing = [app for app in installed if not django_apps.is_installed(app)]
    if missing:
        django_settings.INSTALLED_APPS = [*django_settings.INSTALLED_APPS, *missing]
        django_apps.set_installed_apps(django_settings.INSTALLED_APPS)


def migrate() -> None:
    """Bring the database to the present schema; creates it when there is none."""
    call_command("migrate", interactive=False, verbosity=0)


def pending_migrations() -> list[str]:
    """The migrations that the connected database lacks; all of them when it is new."""
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connections["default"])
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [f"{migration.app_label}.{migration.name}" for migration, _ in plan]
