"""Recovery shares: a data key as n lists of words of which any k give it back (SLIP-0039, by `shamir-mnemonic`).

What is shared is the data key itself, so that a lost master key, be it a file or a token, can be replaced. k - 1 shares
say nothing of it, whatever one has besides. Shares stay good through every change of the master key; whoever holds k of
an earlier split can open what the present ones open.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from django.db import transaction
from shamir_mnemonic import MnemonicError, combine_mnemonics, generate_mnemonics
from shamir_mnemonic.share import Share

from provisioning import wholefile
from provisioning.registry import audit, keyring
from provisioning.registry.vault import MASTER_KEY_LEN, Vault

SHARES_MAX = 16  # SLIP-0039
THRESHOLD_MIN = 2
FILE_MAX = 4096


class SharesRefused(Exception):
    """Shares that do not give a key; never holds their words."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


def split(key: bytes, threshold: int, count: int) -> list[str]:
    """The texts of `count` share files, any `threshold` of which give the key back.

    Raises:
        SharesRefused: not 2 <= threshold <= count <= 16.
    """
    if not THRESHOLD_MIN <= threshold <= count <= SHARES_MAX:
        raise SharesRefused(
            f"{threshold} of {count} shares can't be made",
            f"choose {THRESHOLD_MIN} <= threshold <= shares <= {SHARES_MAX}",
        )
    (words,) = generate_mnemonics(1, [(threshold, count)], key)
    name = keyring.fingerprint(Vault(key))
    return [
        f"# Sealband recovery share {number} of {count}. Any {threshold} of them open the registry {name}.\n{line}\n"
        for number, line in enumerate(words, 1)
    ]


def issue(
    folder: Path,
    key: bytes,
    threshold: int,
    count: int,
    *,
    actor: str = "system",
    clock: Callable[[], float] = time.time,
) -> list[Path]:
    """Write the shares of the connected registry's data key, each into a file of its own, mode 600; all or none.

    Args:
        folder: is made if it is not there.

    Raises:
        SharesRefused: there are shares in it already, or the numbers are out of bounds.
    """
    texts = split(key, threshold, count)
    with ExitStack() as undo:
        if not folder.exists():
            folder.mkdir(mode=0o700)
            undo.callback(folder.rmdir)
        with transaction.atomic():
            audit.append(
                Vault(key),
                "key_created",
                subject="recovery shares",
                actor=actor,
                clock=clock,
                shares=count,
                threshold=threshold,
            )
            paths = [folder / f"share-{number}-of-{count}.txt" for number in range(1, count + 1)]
            for path, text in zip(paths, texts, strict=True):
                _write_new(path, text)
                undo.callback(path.unlink)
        undo.pop_all()  # committed
    return paths


def _write_new(path: Path, text: str) -> None:
    try:
        wholefile.create(path, text.encode())
    except FileExistsError:
        raise SharesRefused(f"{path} exists already", "name another folder") from None


def read(paths: Sequence[Path]) -> list[str]:
    """The words of share files; raises SharesRefused."""
    found = []
    for path in paths:
        try:
            with open(path, "rb") as file:
                text = file.read(FILE_MAX + 1).decode("ascii", errors="replace")
        except OSError as error:
            raise SharesRefused(f"the share {path} cannot be read: {error.strerror}", "check the path") from None
        words = " ".join(line for line in text.splitlines() if not line.startswith("#")).split()
        if len(text) > FILE_MAX or not words:
            raise SharesRefused(f"{path} holds no share", "name a file that key split wrote")
        found.append(" ".join(words))
    return found


def combine(words: Sequence[str]) -> bytes:
    """The key, 32 bytes, that shares were made of.

    Args:
        words: the words of each share; more than are needed do no harm.

    Raises:
        SharesRefused: too few, of several splits, or one that was mistyped.
    """
    shares: dict[int, tuple[Share, str]] = {}
    for number, line in enumerate(words, 1):
        try:
            share = Share.from_mnemonic(line)
        except (MnemonicError, ValueError):
            raise SharesRefused(
                f"the share given as number {number} is not one: its checksum is wrong", "compare its words"
            ) from None
        shares[share.index] = share, line
    first = next(iter(shares.values()), None)
    if first is None:
        raise SharesRefused("no share was given", "name each file with --share")
    if any(share.identifier != first[0].identifier for share, _ in shares.values()):
        raise SharesRefused("these shares are not of one split", "give shares that were made together")
    needed = first[0].member_threshold
    if len(shares) < needed:
        raise SharesRefused(f"{len(shares)} different shares were given, {needed} are needed", "ask more holders")
    try:
        key: bytes = combine_mnemonics([line for _, line in shares.values()][:needed])
    except MnemonicError:
        raise SharesRefused("these shares do not fit together", "give shares that were made together") from None
    if len(key) != MASTER_KEY_LEN:
        raise SharesRefused("these shares are of something else", "give shares that key split wrote")
    return key
