"""The trust list: who may sign releases (release keys), and who may say so in the next list (root keys).

    [bstr .cbor { 1: version, 2: release threshold, 3: [release keys x‖y], 4: root threshold, 5: [root keys],
                  ? 6: expires }, [COSE_Sign1 …]]          detached payload: what the byte string contains

A list stands on its own when enough of its own root keys signed it; more can't be said of the first one, which is put
on boards by hand. Version n+1 also needs enough root keys of version n. Signatures of other keys count for nothing and
harm nothing. Written apart from the device's code for the same bytes. No IO.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from host_tools.release.cose import CoseError, Sign1, sign1
from provisioning import cbor, signers
from sealwire import manifest as wire
from sealwire.update import SIGNATURES_MAX, TRUST_KEYS_MAX, TRUST_MAX

_REQUIRED = {
    wire.LIST_VERSION,
    wire.LIST_THRESHOLD,
    wire.LIST_RELEASE_KEYS,
    wire.LIST_ROOT_THRESHOLD,
    wire.LIST_ROOT_KEYS,
}


class TrustError(Exception):
    """A trust list is not what it should be; the text says what is wrong."""

    def __init__(self, what: str, remedy: str = "get the list anew from whoever keeps it") -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True)
class TrustList:
    """What a trust list says; made only if it can hold.

    Attributes:
        version: from 1 on, one more with each list.
        threshold: how many different release keys must sign a release.
        release_keys: 64 bytes each, x and y; 1 to 16.
        root_threshold: how many different root keys must sign this list and the next.
        root_keys: as the release keys.
        expires: seconds since 2025 from when on nothing is accepted by this list, or None.

    Raises:
        TrustError: a number is out of its range, a threshold can't be reached, or a key is none or stands there twice.
    """

    version: int
    threshold: int
    release_keys: tuple[bytes, ...]
    root_threshold: int
    root_keys: tuple[bytes, ...]
    expires: int | None = None

    def __post_init__(self) -> None:
        if type(self.version) is not int or not 1 <= self.version <= wire.NUMBER_MAX:
            raise TrustError("the trust list's version is not a whole number from 1 on")
        _check_keys("release", self.threshold, self.release_keys)
        _check_keys("root", self.root_threshold, self.root_keys)
        if self.expires is not None and (type(self.expires) is not int or not 0 <= self.expires <= wire.NUMBER_MAX):
            raise TrustError("the trust list's expiry is not a time")

    def expired(self, now_s: int) -> bool:
        """Whether nothing is accepted by this list any more, at a time in seconds since 2025."""
        return self.expires is not None and now_s >= self.expires


@dataclass(frozen=True)
class SignedTrust:
    """A trust list with its signatures, which `decode` read and did not verify.

    Attributes:
        trust: what it says.
        payload: the signed bytes; the device keeps these.
        signatures: as they stand in the file.
    """

    trust: TrustList
    payload: bytes
    signatures: tuple[Sign1, ...] = field(default=())

    def signed_by(self, keys: Iterable[bytes]) -> set[bytes]:
        """Those of the keys (64 bytes each) by which there is a valid signature."""
        return {key for key in keys for one in self.signatures if signs(one, key, self.payload)}

    def check_own(self) -> TrustList:
        """The list, if enough of its own root keys signed it.

        Raises:
            TrustError: too few did.
        """
        count = len(self.signed_by(self.trust.root_keys))
        if count < self.trust.root_threshold:
            raise TrustError(
                f"trust list {self.trust.version} is signed by {count} of its root keys, "
                f"{self.trust.root_threshold} are needed",
                "let the others sign it: sealband trust add FILE --key URI",
            )
        return self.trust


def encode_payload(trust: TrustList) -> bytes:
    """The bytes that root keys sign."""
    fields: dict[int, object] = {
        wire.LIST_VERSION: trust.version,
        wire.LIST_THRESHOLD: trust.threshold,
        wire.LIST_RELEASE_KEYS: list(trust.release_keys),
        wire.LIST_ROOT_THRESHOLD: trust.root_threshold,
        wire.LIST_ROOT_KEYS: list(trust.root_keys),
    }
    if trust.expires is not None:
        fields[wire.LIST_EXPIRES] = trust.expires
    return cbor.dumps(fields)


def decode_payload(payload: bytes) -> TrustList:
    """The list that signed bytes hold.

    Raises:
        TrustError: they are no trust list, or one that cannot hold.
    """
    fields = _loads(payload, "the trust list's payload")
    if not isinstance(fields, Mapping) or any(type(label) is not int for label in fields):
        raise TrustError("the trust list's payload is not a map by number")
    if not _REQUIRED <= set(fields) <= _REQUIRED | {wire.LIST_EXPIRES}:
        raise TrustError("the trust list's payload lacks a field or has one that is not known")
    if wire.LIST_EXPIRES in fields and fields[wire.LIST_EXPIRES] is None:
        raise TrustError("the trust list's expiry is not a time")
    return TrustList(
        version=fields[wire.LIST_VERSION],
        threshold=fields[wire.LIST_THRESHOLD],
        release_keys=_keys(fields[wire.LIST_RELEASE_KEYS]),
        root_threshold=fields[wire.LIST_ROOT_THRESHOLD],
        root_keys=_keys(fields[wire.LIST_ROOT_KEYS]),
        expires=fields.get(wire.LIST_EXPIRES),
    )


def draft(trust: TrustList) -> bytes:
    """The file of a list that nobody has signed yet."""
    return _encode(encode_payload(trust), [])


def decode(data: bytes) -> SignedTrust:
    """Parse a trust list's file; its signatures are not verified.

    Raises:
        TrustError: it is none.
    """
    if len(data) > TRUST_MAX:
        raise TrustError(f"a trust list of {len(data)} bytes is longer than {TRUST_MAX}")
    parts = _loads(data, "the trust list")
    if not isinstance(parts, list | tuple) or len(parts) != 2:
        raise TrustError("the trust list is not a payload and its signatures")
    payload, items = parts
    if not isinstance(payload, bytes) or not isinstance(items, list | tuple):
        raise TrustError("the trust list is not a payload and its signatures")
    if len(items) > SIGNATURES_MAX:
        raise TrustError(f"the trust list has more than {SIGNATURES_MAX} signatures")
    try:
        signatures = tuple(Sign1.from_item(item) for item in items)
    except CoseError as error:
        raise TrustError(f"the trust list: {error}") from None
    return SignedTrust(decode_payload(payload), payload, signatures)


def sign(signed: bytes, signer: signers.Signer, previous: TrustList | None = None) -> bytes:
    """The same list with one more signature.

    Args:
        signed: a trust list's file.
        signer: a root key of the list itself or of `previous`.
        previous: the list before it.

    Raises:
        TrustError: the list can't follow `previous`, or the key is no root key of either or has signed already.
        signers.SignerError: the key cannot be used.
    """
    now = decode(signed)
    if previous is not None:
        check_follows(previous, now.trust)
    key = signer.public_key[1:]
    name = signers.kid(signer.public_key).hex()
    if key not in (*now.trust.root_keys, *(previous.root_keys if previous else ())):
        raise TrustError(
            f"the key {name} is a root key neither of trust list {now.trust.version} nor of the one before it",
            "use a root key; sealband trust show lists them",
        )
    if now.signed_by([key]):
        raise TrustError(
            f"the key {name} has signed trust list {now.trust.version} already", "nothing is left to do with it"
        )
    added = sign1(signer, now.payload)
    if not Sign1.from_bytes(added).signed_by(signer.public_key, now.payload):
        raise TrustError(f"the key {name} made a signature that does not verify", "check the key")
    parts = cbor.loads(signed)
    return _encode(now.payload, [*parts[1], cbor.loads(added)])


def check_rotation(old: TrustList, new_signed: bytes, now_s: int | None = None) -> SignedTrust:
    """Check that a list may take the place of another one.

    Args:
        old: the list that holds.
        new_signed: the file of the next one.
        now_s: seconds since 2025, where the time is known.

    Returns:
        The new list.

    Raises:
        TrustError: it does not follow, too few root keys of the old or of the new list signed it, or it has expired.
    """
    new = decode(new_signed)
    check_follows(old, new.trust)
    count = len(new.signed_by(old.root_keys))
    if count < old.root_threshold:
        raise TrustError(
            f"trust list {new.trust.version} is signed by {count} root keys of list {old.version}, "
            f"{old.root_threshold} are needed",
            "let the others sign it: sealband trust add FILE --previous OLD --key URI",
        )
    new.check_own()
    if now_s is not None and new.trust.expired(now_s):
        raise TrustError(f"trust list {new.trust.version} has expired", "make the next one: sealband trust rotate")
    return new


def check_follows(old: TrustList, new: TrustList) -> None:
    """Check the order of two lists.

    Raises:
        TrustError: the new one's version is not the next.
    """
    if new.version != old.version + 1:
        raise TrustError(
            f"trust list {new.version} does not follow list {old.version}",
            "versions go up by one: name the list that comes right before it",
        )


def successor(old: TrustList, **changes: Any) -> TrustList:
    """The next version of a list; `changes` replace its fields.

    Raises:
        TrustError: what comes out cannot hold.
    """
    return replace(old, version=old.version + 1, **changes)


def signs(one: Sign1, key: bytes, payload: bytes) -> bool:
    """Whether a signature names this key (64 bytes) and is by it."""
    point = b"\x04" + key
    return one.kid == signers.kid(point) and one.signed_by(point, payload)


def _check_keys(what: str, threshold: int, keys: tuple[bytes, ...]) -> None:
    if not 1 <= len(keys) <= TRUST_KEYS_MAX:
        raise TrustError(f"a trust list has 1 to {TRUST_KEYS_MAX} {what} keys, not {len(keys)}", "change their number")
    for key in keys:
        if not isinstance(key, bytes) or len(key) != wire.KEY_LEN:
            raise TrustError(f"a {what} key of the trust list is not {wire.KEY_LEN} bytes")
        try:
            signers.check_point(b"\x04" + key)
        except signers.SignerError:
            raise TrustError(f"a {what} key of the trust list is not a point on the curve P-256") from None
    # by their x: a point and its opposite (x, p − y) are one secret. By their short names, for people and headers
    if len({key[:32] for key in keys}) != len(keys) or len({signers.kid(b"\x04" + key) for key in keys}) != len(keys):
        raise TrustError(f"a {what} key stands in the trust list twice", "name each key once")
    if type(threshold) is not int or not 1 <= threshold <= len(keys):
        raise TrustError(
            f"the {what} threshold is not a number from 1 to that of the {what} keys, {len(keys)}",
            "change the threshold",
        )


def _keys(value: Any) -> tuple[bytes, ...]:
    if not isinstance(value, list | tuple):
        raise TrustError("the trust list's keys are not a list")
    return tuple(value)


def _encode(payload: bytes, signatures: list[Any]) -> bytes:
    data = cbor.dumps([payload, signatures])
    if len(data) > TRUST_MAX or len(signatures) > SIGNATURES_MAX:
        raise TrustError(
            f"the trust list would have {len(data)} bytes and {len(signatures)} signatures; devices take {TRUST_MAX} "
            f"and {SIGNATURES_MAX}",
            "use fewer keys",
        )
    return data


def _loads(data: bytes, what: str) -> Any:
    try:
        return cbor.loads(data)
    except ValueError as error:
        raise TrustError(f"{what} is {error}") from None
