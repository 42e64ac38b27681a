"""Where the command line keeps a login: the system's keyring, or a file of mode 600. One for each database.

The file says whose session it is and, unless the keyring has it, holds it. `$SEALBAND_SESSION` names another file.
"""

import hashlib
import json
import os
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import platformdirs

from host_tools.cli import CommandFailed
from provisioning import wholefile
from provisioning.signers.secret import read_secret

ENVIRONMENT = "SEALBAND_SESSION"
SERVICE = "sealband"


def path_of(database: str) -> Path:
    """The session file for a database."""
    named = os.environ.get(ENVIRONMENT)
    if named:
        return Path(named)
    return platformdirs.user_state_path(SERVICE) / "sessions" / f"{_identity(database)}.json"


def store(database: str, name: str, text: str) -> str:
    """Keep a session; says where."""
    path = path_of(database)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # a file that is named is wanted as a file
        in_keyring = ENVIRONMENT not in os.environ and _to_keyring(database, text)
        content = {"operator": name, "keyring": True} if in_keyring else {"operator": name, "session": text}
        wholefile.replace(path, (json.dumps(content) + "\n").encode())
    except OSError as error:
        raise CommandFailed(
            f"the session cannot be kept in {path}: {error.strerror}", f"name another file in ${ENVIRONMENT}"
        ) from error
    return "keyring" if in_keyring else str(path)


def load(database: str) -> str | None:
    """The session's text, or None if nobody is logged in.

    Raises:
        SignerError: others can read the file.
        CommandFailed: it is not what `store` wrote.
    """
    path = path_of(database)
    if not path.exists():
        return None
    try:
        content = json.loads(read_secret(path, "session"))
        text = _from_keyring(database) if content.get("keyring") else content["session"]
    except (ValueError, KeyError, AttributeError, TypeError):
        raise CommandFailed(f"{path} is no session", "run: sealband operator login NAME") from None
    return text if isinstance(text, str) else None


def forget(database: str) -> None:
    """Remove what `store` kept."""
    path = path_of(database)
    if path.exists() and '"keyring": true' in path.read_text(errors="replace"):
        _forget_in_keyring(database)
    path.unlink(missing_ok=True)


def _identity(database: str) -> str:
    """A name for the database: its absolute path, or its URL without user and password."""
    if "://" in database:
        url = urlsplit(database)
        host = (url.hostname or "") + (f":{url.port}" if url.port else "")
        plain = urlunsplit((url.scheme, host, url.path, "", ""))
    else:
        plain = str(Path(database).resolve())
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def _to_keyring(database: str, text: str) -> bool:
    """Whether there is a keyring that took it. A backend of priority below 1 is none, or keeps plain text."""
    try:
        import keyring

        if keyring.get_keyring().priority < 1:
            return False
        keyring.set_password(SERVICE, _identity(database), text)
    except Exception:  # backends raise what they like; a file does as well
        return False
    return True


def _from_keyring(database: str) -> str | None:
    try:
        import keyring

        return keyring.get_password(SERVICE, _identity(database))
    except Exception as error:
        raise CommandFailed(
            f"the keyring does not answer: {type(error).__name__}", "unlock it, or log in again"
        ) from error


def _forget_in_keyring(database: str) -> None:
    try:
        import keyring

        keyring.delete_password(SERVICE, _identity(database))
    except Exception:  # it is ended in the database in any case
        return
