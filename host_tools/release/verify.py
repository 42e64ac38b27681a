"""Whether a release may run on devices: every rule by its name, and whether it holds. Pure, and written apart from the
device's code, on `cbor2` and `cryptography`; so an error in one of them does not hide in the other.

It is stricter than a device in two things that do no harm there: a signature in the name of a release key that is not
by that key, and a second signature by the same key, are errors here; a device does not count them and goes on.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from uuid import UUID

import cbor2

from host_tools.release import archive, manifest, pack, trust
from host_tools.release.cose import CoseError, Sign1
from provisioning import cbor, signers
from sealwire import manifest as wire
from sealwire.update import ENVELOPE_MAX, FULL_NAME

# every rule, in the order in which they are checked
RULES = (
    "trust-list",
    "trust-current",
    "length",
    "deterministic",
    "subset",
    "manifest-digest",
    "delivery",
    "vendor",
    "class",
    "signatures",
    "distinct",
    "threshold",
    "image-size",
    "image-digest",
    "archive-format",
    "archive-names",
    "archive-order",
    "archive-count",
    "archive-modules",
)


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        name: one of `RULES`.
        holds: whether it holds; None if it was not looked at (what it needs was not given, or a rule before it broke).
        text: what was found.
    """

    name: str
    holds: bool | None
    text: str


@dataclass(frozen=True)
class Signature:
    """One signature of an envelope.

    Attributes:
        kid: the key that it names, hex; "" if it is malformed.
        state: "counts", "again" (the same key signed before), "unknown" (no release key), "false" (not by the key that
            it names) or "malformed".
    """

    kid: str
    state: str


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        rules: all of `RULES`, in their order.
        signatures: in their order.
        parsed: what the envelope says, if it could be read.
    """

    rules: tuple[Rule, ...]
    signatures: tuple[Signature, ...] = ()
    parsed: manifest.Parsed | None = None

    @property
    def ok(self) -> bool:
        """Whether no rule is broken, and those that make a release trustworthy were all looked at."""
        states = {rule.name: rule.holds for rule in self.rules}
        return False not in states.values() and all(states[name] for name in ("trust-list", "subset", "threshold"))

    @property
    def broken(self) -> tuple[str, ...]:
        """Names of the rules that do not hold."""
        return tuple(rule.name for rule in self.rules if rule.holds is False)


class _Findings:
    """Rules as they are found; those that were never reached end as not looked at."""

    def __init__(self) -> None:
        self._found: dict[str, Rule] = {}

    def add(self, name: str, holds: bool | None, text: str) -> bool | None:
        self._found[name] = Rule(name, holds, text)
        return holds

    def rules(self) -> tuple[Rule, ...]:
        return tuple(
            self._found.get(name) or Rule(name, None, "not looked at: a rule before it broke") for name in RULES
        )


def verify(
    envelope: bytes,
    trust_list: bytes,
    image: bytes | None = None,
    *,
    vendor: UUID | None = None,
    class_id: UUID | None = None,
    now_s: int | None = None,
) -> Report:
    """Check a signed envelope, and its image if there is one.

    Args:
        envelope: the SUIT envelope (`manifest.suit`).
        trust_list: a trust list's file that is known to be the right one.
        image: the bytes of `app.tar`, or of a firmware image.
        vendor, class_id: whom the release is for, where that is known.
        now_s: seconds since 2025, where the time is known.

    Returns:
        All rules; nothing is raised for what a file may hold.
    """
    found = _Findings()
    trusted = _trust(found, trust_list, now_s)
    parsed = _envelope(found, envelope)
    signatures: tuple[Signature, ...] = ()
    if parsed is None:
        return Report(found.rules())
    _whom(found, parsed.release, vendor, class_id)
    if trusted is not None:
        signatures = _signatures(found, parsed, trusted)
    if image is None:
        for name in RULES[RULES.index("image-size") :]:
            found.add(name, None, "not looked at: no image was named")
    else:
        _image(found, parsed.release, image)
    return Report(found.rules(), signatures, parsed)


def _trust(found: _Findings, data: bytes, now_s: int | None) -> trust.TrustList | None:
    try:
        trusted = trust.decode(data).check_own()
    except trust.TrustError as error:
        found.add("trust-list", False, str(error))
        return None
    found.add("trust-list", True, f"version {trusted.version}, signed by enough of its root keys")
    if now_s is None:
        found.add("trust-current", None if trusted.expires is not None else True, "the time is not known")
    else:
        expired = trusted.expired(now_s)
        found.add("trust-current", not expired, "it has expired" if expired else "it has not expired")
    return trusted


def _envelope(found: _Findings, envelope: bytes) -> manifest.Parsed | None:
    if not found.add("length", len(envelope) <= ENVELOPE_MAX, f"{len(envelope)} of at most {ENVELOPE_MAX} bytes"):
        return None
    try:
        authentication, encoded = _halves(envelope)
    except ValueError as error:
        found.add("deterministic", False, str(error))
        return None
    found.add("deterministic", True, "the envelope, its manifest and their parts")
    digest = sha256(cbor.dumps(encoded)).digest()
    holds = authentication == [wire.ALG_SHA256, digest]
    found.add("manifest-digest", holds, f"{digest.hex()}" + ("" if holds else ", which is not what is signed"))
    try:
        parsed = manifest.decode(envelope)
    except manifest.ManifestError as error:
        found.add("subset", False, str(error))
        return None
    found.add("subset", True, f"release {parsed.release.sequence} of component {_component(parsed.release.component)}")
    expected = FULL_NAME % parsed.release.digest.hex()
    same = parsed.release.uri == expected
    found.add(
        "delivery", same, "beside the manifest, by its digest" if same else f"{parsed.release.uri!r}, not {expected!r}"
    )
    return parsed


def _halves(envelope: bytes) -> tuple[Any, bytes]:
    """The signed digest and the manifest's bytes, after every item in both was found to be deterministic."""
    outer = _loads(envelope, "the envelope")
    if not isinstance(outer, cbor2.CBORTag) or outer.tag != wire.TAG_ENVELOPE or not isinstance(outer.value, Mapping):
        raise ValueError("the envelope is not a SUIT envelope")
    authentication, encoded = outer.value.get(wire.AUTHENTICATION), outer.value.get(wire.MANIFEST)
    if not isinstance(authentication, bytes) or not isinstance(encoded, bytes):
        raise ValueError("the envelope lacks its authentication block or its manifest")
    items = _loads(authentication, "the authentication block")
    if not isinstance(items, list) or not items or not all(isinstance(item, bytes) for item in items):
        raise ValueError("the authentication block is not a list of byte strings")
    signed, *_ = [_loads(item, "a part of the authentication block") for item in items]
    _nested(_loads(encoded, "the manifest"), "the manifest", (wire.COMMON, wire.VALIDATE, wire.INSTALL, wire.TEXT))
    return signed, encoded


def _nested(value: Any, what: str, holders: tuple[int, ...]) -> None:
    """Check what lies as byte strings in a map's fields that hold CBOR."""
    for label in holders:
        inner = value.get(label) if isinstance(value, Mapping) else None
        if isinstance(inner, bytes):
            _nested(_loads(inner, f"part {label} of {what}"), f"part {label} of {what}", (wire.SHARED_SEQUENCE,))


def _loads(data: bytes, what: str) -> Any:
    try:
        return cbor.loads(data)
    except ValueError as error:
        raise ValueError(f"{what} is {error}") from None


def _whom(found: _Findings, release: manifest.Release, vendor: UUID | None, class_id: UUID | None) -> None:
    for name, says, wanted in (("vendor", release.vendor, vendor), ("class", release.class_id, class_id)):
        if wanted is None:
            found.add(name, None, f"{says}; no model was named to compare it with")
        else:
            found.add(name, says == wanted, f"{says}" + ("" if says == wanted else f", not {wanted}"))


def _signatures(found: _Findings, parsed: manifest.Parsed, trusted: trust.TrustList) -> tuple[Signature, ...]:
    by_kid = {signers.kid(b"\x04" + key): key for key in trusted.release_keys}
    listed: list[Signature] = []
    signing: list[bytes] = []
    for encoded in parsed.signatures:
        try:
            one = Sign1.from_bytes(encoded)
        except CoseError:
            listed.append(Signature("", "malformed"))
            continue
        key = by_kid.get(one.kid)
        if key is None:
            state = "unknown"
        elif not trust.signs(one, key, parsed.payload):
            state = "false"
        else:
            state = "again" if key in signing else "counts"
            signing.append(key)
        listed.append(Signature(one.kid.hex(), state))
    states = Counter(signature.state for signature in listed)
    bad = states["false"] + states["malformed"]
    found.add("signatures", not bad, ", ".join(f"{s.kid or 'no name'} {s.state}" for s in listed) or "there are none")
    found.add("distinct", not states["again"], f"{states['again']} by a key that had signed already")
    found.add(
        "threshold",
        states["counts"] >= trusted.threshold,
        f"{states['counts']} different release keys signed, {trusted.threshold} are needed",
    )
    return tuple(listed)


def _image(found: _Findings, release: manifest.Release, image: bytes) -> None:
    same_size = len(image) == release.size
    found.add("image-size", same_size, f"{len(image)} bytes" + ("" if same_size else f", not {release.size}"))
    digest = sha256(image).digest()
    same = digest == release.digest
    found.add("image-digest", same, digest.hex() + ("" if same else f", not {release.digest.hex()}"))
    if release.component != wire.COMPONENT_APP:
        for name in RULES[RULES.index("archive-format") :]:
            found.add(name, None, "not looked at: a firmware image is no archive")
        return
    read = archive.parse(image)
    for name, wrong, fine in (
        ("archive-format", read.format, "ustar in its only form"),
        ("archive-names", read.names, "every name may stand in a slot"),
        ("archive-order", read.order, "sorted, none twice"),
        ("archive-count", read.count, f"{len(read.entries)} files"),
    ):
        found.add(name, wrong is None, wrong or fine)
    try:
        pack.contents(image)
        found.add("archive-modules", True, "index, modules and names agree")
    except pack.PackRefused as error:
        found.add("archive-modules", False, str(error))


def _component(name: bytes) -> str:
    return {wire.COMPONENT_APP: "app", wire.COMPONENT_FW: "fw"}.get(name, name.hex())
