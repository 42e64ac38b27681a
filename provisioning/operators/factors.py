"""The second factor: TOTP (RFC 6238: SHA-1, six digits, 30 s, as every authenticator has it) and recovery codes.

A code is taken once: the step of the last one is kept, and only a later one is taken. Recovery codes are 80 random
bits each, used once, kept as MACs under the vault.
"""

import base64
import hashlib
import hmac
import os

import pyotp

from provisioning.operators.errors import OperatorError
from provisioning.operators.models import Operator, RecoveryCode
from provisioning.registry.vault import Vault, VaultError

STEP_S = 30
STEPS_APART = 1  # a clock may be off by so many (RFC 6238 section 5.2)
SECRET_LEN = 20
RECOVERY_CODES = 10
ISSUER = "Sealband"
NONE = b""


def seal(vault: Vault, operator: Operator, secret: bytes) -> bytes:
    """What the column holds: the secret, or that there is none, bound to this operator."""
    return _vault(vault).wrap(secret, _label(operator))


def secret_of(vault: Vault, operator: Operator) -> bytes:
    """The operator's TOTP secret; empty if there is none yet.

    Raises:
        OperatorError: the column was changed by somebody without the master key.
    """
    try:
        return _vault(vault).unwrap(operator.totp_wrapped, _label(operator))
    except VaultError:
        raise OperatorError(
            f"the second factor of {operator.name} was changed outside of this program",
            "keep the database as evidence, and have an admin reset it: sealband operator totp NAME --reset",
        ) from None


def new_secret() -> bytes:
    """A random TOTP secret."""
    return os.urandom(SECRET_LEN)


def uri(secret: bytes, name: str) -> str:
    """The `otpauth:` URI that authenticators read as a QR code."""
    return pyotp.TOTP(_text(secret)).provisioning_uri(name=name, issuer_name=ISSUER)


def code_at(secret: bytes, now: float) -> str:
    """The code that is shown at that time."""
    return str(pyotp.TOTP(_text(secret)).generate_otp(int(now) // STEP_S))


def matches(secret: bytes, code: str, now: float) -> int | None:
    """The time step whose code this is, or None."""
    found = None
    now_step = int(now) // STEP_S
    for step in range(now_step - STEPS_APART, now_step + STEPS_APART + 1):
        if hmac.compare_digest(code_at(secret, step * STEP_S).encode(), code.strip().encode()):
            found = step
    return found


def take(vault: Vault, operator: Operator, code: str, now: float) -> str | None:
    """Use up a code or a recovery code of the operator: "totp", "recovery", "replayed", or None if it is wrong."""
    step = matches(secret_of(vault, operator), code, now)
    if step is not None:
        # decided by the database: of two logins with one code, one is refused
        taken = Operator.objects.filter(pk=operator.pk, totp_step__lt=step).update(totp_step=step)
        return "totp" if taken else "replayed"
    mac = _recovery_mac(vault, operator, code)
    return "recovery" if RecoveryCode.objects.filter(operator=operator, mac=mac).delete()[0] else None


def new_recovery_codes(vault: Vault, operator: Operator) -> list[str]:
    """Ten codes in place of all earlier ones; shown once and not kept."""
    codes = ["-".join(text[i : i + 4] for i in range(0, 16, 4)) for text in map(_text, _randoms())]
    RecoveryCode.objects.filter(operator=operator).delete()
    RecoveryCode.objects.bulk_create(
        RecoveryCode(operator=operator, mac=_recovery_mac(vault, operator, code)) for code in codes
    )
    return codes


def _randoms() -> list[bytes]:
    return [os.urandom(10) for _ in range(RECOVERY_CODES)]


def _text(secret: bytes) -> str:
    return base64.b32encode(secret).decode()


def _recovery_mac(vault: Vault, operator: Operator, code: str) -> bytes:
    plain = code.strip().upper().replace("-", "").replace(" ", "")
    key = vault.subkey(b"sealband/1 recovery codes")
    return hmac.new(key, operator.pk.to_bytes(8, "big") + plain.encode(), hashlib.sha256).digest()


def _vault(vault: Vault) -> Vault:
    return vault.derived(b"operators")


def _label(operator: Operator) -> bytes:
    return b"totp" + operator.pk.to_bytes(8, "big")
