"""Where passphrases and PINs come from: a terminal, or a file that only its owner can read. Never an argument, which
every process of the machine can see, and never the value of an environment variable, which children inherit.

`SEALBAND_PASSPHRASE_FILE` names the file for passphrases of key files; `/dev/fd/3` hands one over without a file.
"""

import getpass
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

from provisioning.signers.key import SignerError

ENVIRONMENT = "SEALBAND_PASSPHRASE_FILE"
SECRET_MAX = 1024  # bytes

# asks a person; None if nobody can be asked
Ask = Callable[[str], str | None]


def ask_terminal(prompt: str) -> str | None:
    """What a person types, unseen; None if this process has no terminal to ask on."""
    if sys.stdin is None or not sys.stdin.isatty():
        return None
    return getpass.getpass(f"{prompt}: ", stream=sys.stderr)


def passphrase_from_file() -> str | None:
    """The passphrase in the file that `SEALBAND_PASSPHRASE_FILE` names, or None if it names none."""
    name = os.environ.get(ENVIRONMENT)
    return read_secret(Path(name), "passphrase") if name else None


def read_secret(path: Path, what: str) -> str:
    """The first line of a file that nobody but its owner can read, or of a pipe.

    Args:
        path: the file.
        what: what it holds, for messages ("PIN", "passphrase").

    Raises:
        SignerError: it is missing, readable by others, empty, too long or no text.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            # a pipe has no name that another user could open
            if not stat.S_ISFIFO(status.st_mode) and status.st_mode & 0o077:
                raise SignerError(
                    f"others can read the {what} in {path} (mode {stat.S_IMODE(status.st_mode):03o})",
                    f"chmod 600 {path}; if others may have read it, change the {what}",
                )
            line = file.readline(SECRET_MAX + 2).rstrip(b"\r\n")
    except OSError as error:
        raise SignerError(f"the {what} file {path} cannot be read: {error.strerror}", "check the path") from None
    if not line or len(line) > SECRET_MAX:
        raise SignerError(f"the {what} file {path} holds none", f"write the {what} into its first line")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise SignerError(f"the {what} file {path} is not UTF-8", f"write the {what} into its first line") from None
