"""Django's settings for programs without a web server: the database and the installed apps. Reads no environment.

Importable as it stands (type checkers, `django-admin makemigrations`); programs call `provisioning.registry.setup`.
"""

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

SQLITE_ENGINE = "django.db.backends.sqlite3"
POSTGRESQL_ENGINE = "django.db.backends.postgresql"
BUSY_TIMEOUT_S = 20

INSTALLED_APPS = ["provisioning.registry", "provisioning.operators"]
AUTH_USER_MODEL = "operators.Operator"
# RFC 9106; Django's parameters (100 MiB, 2 passes, 8 lanes) are above OWASP's least
PASSWORD_HASHERS = ["django.contrib.auth.hashers.Argon2PasswordHasher"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False


class DatabaseUrlError(Exception):
    """The text names no database that the registry can use."""


def database(url_or_path: str | Path) -> dict[str, Any]:
    """Django's settings of one database.

    Args:
        url_or_path: a file path or `sqlite:///path`, or `postgresql://user:password@host:port/name?option=value`.

    Raises:
        DatabaseUrlError: another scheme, or a PostgreSQL URL without a database name. The message never repeats the
            URL, which may hold a password.
    """
    text = str(url_or_path)
    if "://" not in text:
        return _sqlite(text)
    url = urlsplit(text)
    if url.scheme == "sqlite":
        if url.netloc or not url.path.strip("/"):
            raise DatabaseUrlError("a sqlite URL is sqlite:///relative/path or sqlite:////absolute/path")
        return _sqlite(unquote(url.path[1:]))
    if url.scheme in ("postgresql", "postgres"):
        name = unquote(url.path.strip("/"))
        if not name or "/" in name:
            raise DatabaseUrlError("a postgresql URL is postgresql://user:password@host:port/name")
        try:
            port = url.port
        except ValueError:
            raise DatabaseUrlError("the port in the postgresql URL is not a number below 65536") from None
        return {
            "ENGINE": POSTGRESQL_ENGINE,
            "NAME": name,
            "USER": unquote(url.username or ""),
            "PASSWORD": unquote(url.password or ""),
            "HOST": url.hostname or "",
            "PORT": str(port or ""),
            "OPTIONS": dict(parse_qsl(url.query)),
        }
    raise DatabaseUrlError(f"database scheme {url.scheme!r} is not known: use a file path or postgresql://…")


def _sqlite(path: str) -> dict[str, Any]:
    return {
        "ENGINE": SQLITE_ENGINE,
        "NAME": path,
        "OPTIONS": {
            "timeout": BUSY_TIMEOUT_S,
            # a transaction takes the write lock when it begins, so two writers wait instead of failing half-way
            "transaction_mode": "IMMEDIATE",
            # synchronous=FULL: what was acknowledged to a broker or a device must survive a power cut of the server
            "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;PRAGMA foreign_keys=ON;"
            # a destroyed ticket key is overwritten in the file, not only unlinked
            "PRAGMA secure_delete=ON",
        },
    }


DATABASES = {"default": database(":memory:")}
