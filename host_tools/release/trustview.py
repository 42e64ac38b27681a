"""A trust list explained: whose keys, what changes, whose signatures are there, and whether it holds. Pure."""

from dataclasses import dataclass

from host_tools.release.trust import SignedTrust, TrustError, TrustList, check_follows
from provisioning import signers


@dataclass(frozen=True)
class Key:
    """One key of a list or of the one before it.

    Attributes:
        role: "root" or "release".
        kid: its short name, 16 hex digits.
        change: "added", "removed" or "" against the list before.
        signed: whether a root key signed this list; None for release keys.
        text: the key's text form.
    """

    role: str
    kid: str
    change: str
    signed: bool | None
    text: str


@dataclass(frozen=True)
class View:
    """A list in the eyes of whoever must decide about it.

    Attributes:
        trust: the list.
        before: the list before it, if that is known.
        keys: of both, root keys first.
        missing: how many signatures of root keys are missing: of its own, of the list before it.
        holds: whether it may be used: as the first list, as the successor of `before`, or, without `before`, by itself.
        verdict: the same in a sentence.
        remarks: what deserves a second look.
    """

    trust: TrustList
    before: TrustList | None
    keys: tuple[Key, ...]
    missing: tuple[int, int]
    holds: bool
    verdict: str
    remarks: tuple[str, ...]


def view(signed: SignedTrust, before: TrustList | None, now_s: int) -> View:
    """Explain a list.

    Args:
        signed: the list with its signatures.
        before: the list that it follows, known to be right, or None.
        now_s: seconds since 2025.
    """
    new = signed.trust
    missing = (_lacking(signed, new), _lacking(signed, before) if before else 0)
    holds, verdict = _verdict(new, before, missing, now_s)
    keys = _keys("root", new.root_keys, before.root_keys if before else None, signed)
    keys += _keys("release", new.release_keys, before.release_keys if before else None, None)
    return View(new, before, tuple(keys), missing, holds, verdict, tuple(_remarks(new, before, now_s)))


def _lacking(signed: SignedTrust, of: TrustList) -> int:
    return max(0, of.root_threshold - len(signed.signed_by(of.root_keys)))


def _verdict(new: TrustList, before: TrustList | None, missing: tuple[int, int], now_s: int) -> tuple[bool, str]:
    if before:
        try:
            check_follows(before, new)
        except TrustError as error:
            return False, f"Not valid: {error}."
    if any(missing):
        wanted = [f"{missing[0]} of its own root keys"] if missing[0] else []
        wanted += [f"{missing[1]} of the root keys of list {before.version}"] if before and missing[1] else []
        return False, f"Not valid yet. Signatures that are missing: {' and '.join(wanted)}."
    if new.expired(now_s):
        return False, "Not valid any more: it has expired."
    if before:
        return True, f"Valid as the successor of list {before.version}."
    if new.version == 1:
        return True, "Valid as the first list."
    return True, f"Signed by its own root keys. Whether it may follow list {new.version - 1} needs that list."


def _keys(role: str, now: tuple[bytes, ...], before: tuple[bytes, ...] | None, signed: SignedTrust | None) -> list[Key]:
    every = tuple(dict.fromkeys((*now, *(before or ()))))
    signing = signed.signed_by(every) if signed else set()
    keys = []
    for key in every:
        change = "" if before is None or (key in now) == (key in before) else "added" if key in now else "removed"
        point = b"\x04" + key
        did = key in signing if signed else None
        keys.append(Key(role, signers.kid(point).hex(), change, did, signers.public_text(point)))
    return keys


def _remarks(new: TrustList, before: TrustList | None, now_s: int) -> list[str]:
    remarks = []
    if set(new.root_keys) & set(new.release_keys):
        remarks.append("A key is root key and release key at once: whoever has it can do both.")
    if new.threshold == 1:
        remarks.append("One release key alone can sign a release.")
    if new.root_threshold == 1:
        remarks.append("One root key alone can change this list.")
    if new.root_threshold == len(new.root_keys):
        remarks.append("All root keys are needed: if one is lost, no further list can be made.")
    if before:
        if new.threshold < before.threshold:
            remarks.append(f"Fewer release keys are needed than before: {new.threshold} instead of {before.threshold}.")
        if new.root_threshold < before.root_threshold:
            remarks.append(f"Fewer root keys are needed: {new.root_threshold} instead of {before.root_threshold}.")
        if new.expires != before.expires:
            remarks.append("It expires at another time than the list before.")
    if new.expires is not None and new.expires <= now_s:
        remarks.append("It has expired.")
    return remarks
