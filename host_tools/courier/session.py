"""The courier's half of a visit (`sealwire.ble`): messages in, messages out. Pure: no radio, no clock, no file.

The order is begin → challenge → proven, then seal and open by turns. Neither half tells the other more than random
bytes before the other has proved that it holds the label's secret: the courier first, so that a device answers no
stranger; the device after it, so that nobody can stand in for one.
"""

import hmac
import os
from collections.abc import Callable, Iterator
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from host_tools.courier.errors import NotTheDevice, VisitEnded
from provisioning.labels import Label
from sealwire import ble, visits
from sealwire.frame import CTR_MAX, nonce


class Session:
    """One visit to the device of a label.

    Args:
        label: of the device.
        random: so many unpredictable bytes.
    """

    def __init__(self, label: Label, random: Callable[[int], bytes] = os.urandom) -> None:
        self._label = label
        self._nonce = random(ble.NONCE_LEN)
        self._keys: tuple[bytes, bytes, bytes, bytes, bytes] | None = None
        self._proven = False
        self._count = 0

    def begin(self) -> bytes:
        """The first message."""
        return bytes((ble.VERSION,)) + self._nonce

    def challenge(self, message: bytes) -> bytes:
        """The proof of this half, from the device's nonce.

        Raises:
            NotTheDevice: the message is none of this version.
        """
        if len(message) != 1 + ble.NONCE_LEN or message[0] != ble.VERSION:
            raise _stranger("what answered does not speak this version")
        prk = _extract(self._nonce + message[1:], _base(self._label.claim))
        self._keys = ble.split(_expand(prk, ble.KEYS_LABEL + self._label.eui, ble.KEYS_LEN))
        return _mac(self._keys[4], visits.PROOF_COURIER)[: ble.PROOF_LEN]

    def proven(self, message: bytes) -> None:
        """Take the device's proof.

        Raises:
            NotTheDevice: it is wrong.
        """
        keys = self._taken_keys()
        if not hmac.compare_digest(message, _mac(keys[4], visits.PROOF_DEVICE)[: ble.PROOF_LEN]):
            raise _stranger("what answered does not hold the label's secret")
        self._proven = True

    def seal(self, request: bytes) -> bytes:
        """A request, sealed; its reply is to be opened before the next one."""
        keys = self._taken_keys()
        if not self._proven or self._count > CTR_MAX:
            raise VisitEnded("this visit is over", "begin another one")
        return AESCCM(keys[0], tag_length=ble.TAG_LEN).encrypt(nonce(keys[2], self._count), request, b"")

    def open(self, reply: bytes) -> bytes:
        """The reply to the last request.

        Raises:
            NotTheDevice: its tag is wrong: changed, repeated or out of order.
        """
        keys = self._taken_keys()
        try:
            plaintext = AESCCM(keys[1], tag_length=ble.TAG_LEN).decrypt(nonce(keys[3], self._count), reply, b"")
        except (InvalidTag, ValueError):
            raise _stranger("a reply was changed on the way") from None
        self._count += 1
        return plaintext

    def _taken_keys(self) -> tuple[bytes, bytes, bytes, bytes, bytes]:
        if self._keys is None:
            raise VisitEnded("the visit has not begun", "ask for the challenge first")
        return self._keys


def recognises(label: Label, pseudonym: bytes) -> bool:
    """Whether a device that goes by this name is the label's."""
    if len(pseudonym) != ble.NAME_LEN:
        return False
    r, told = pseudonym[: ble.NAME_RANDOM_LEN], pseudonym[ble.NAME_RANDOM_LEN :]
    key = _expand(_base(label.claim), ble.NAME_LABEL, 32)
    return hmac.compare_digest(told, _mac(key, r)[: len(told)])


def fragments(message: bytes, value_max: int) -> Iterator[bytes]:
    """A message as values to write.

    Args:
        message: at most `ble.MESSAGE_MAX` bytes.
        value_max: bytes that the connection takes in one value.
    """
    size = min(value_max, ble.VALUE_MAX) - 1
    parts = [message[at : at + size] for at in range(0, len(message), size)] or [b""]
    for index, part in enumerate(parts):
        yield bytes((index | (ble.LAST if index == len(parts) - 1 else 0),)) + part


class Assembler:
    """Puts values together to messages."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def take(self, value: bytes) -> bytes | None:
        """The message that this value ends, None while it goes on.

        Raises:
            NotTheDevice: a value is missing, repeated, out of order, or one too many.
        """
        long = sum(map(len, self._parts)) + len(value) - 1 > ble.MESSAGE_MAX
        if not value or value[0] & ~ble.LAST != len(self._parts) or long:
            raise _stranger("a part of a message is missing or one too many")
        self._parts.append(value[1:])
        if not value[0] & ble.LAST:
            return None
        message, self._parts = b"".join(self._parts), []
        return message


def _stranger(what: str) -> NotTheDevice:
    return NotTheDevice(what, "come closer and try again; if it stays, somebody else speaks in the device's place")


def _base(claim: bytes) -> bytes:
    return _extract(ble.BASE_LABEL, claim)


def _extract(salt: bytes, ikm: bytes) -> bytes:
    return _mac(salt, ikm)


def _expand(prk: bytes, info: bytes, length: int) -> bytes:
    return HKDFExpand(hashes.SHA256(), length, info).derive(prk)


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, sha256).digest()
