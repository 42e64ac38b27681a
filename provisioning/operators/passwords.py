"""Passwords: what is accepted, and the check that takes as long for a name that nobody has.

NIST SP 800-63B section 3.1.1 and OWASP ASVS 5 V6.2: at least 12 characters, none of a list of common ones, none like
the name; no rule of composition, no expiry. Hashed by Django with argon2id.
"""

import unicodedata
from functools import cache
from typing import TYPE_CHECKING

from django.contrib.auth.hashers import check_password, make_password
from django.contrib.auth.password_validation import (
    CommonPasswordValidator,
    MinimumLengthValidator,
    UserAttributeSimilarityValidator,
    validate_password,
)
from django.core.exceptions import ValidationError

from provisioning.operators.errors import OperatorError

if TYPE_CHECKING:
    from django.contrib.auth.password_validation import PasswordValidator

    from provisioning.operators.models import Operator

LENGTH_MIN = 12
LENGTH_MAX = 256


def prepare(password: str) -> str:
    """One form for what keyboards and systems spell differently (NFKC)."""
    return unicodedata.normalize("NFKC", password)


def choose(operator: "Operator", password: str) -> None:
    """Give the operator, which is not saved, a new password.

    Raises:
        OperatorError: it is too short, too long, common, or like the name.
    """
    password = prepare(password)
    if len(password) > LENGTH_MAX:
        raise OperatorError(f"the password is longer than {LENGTH_MAX} characters", "choose a shorter one")
    validators: list[PasswordValidator] = [
        MinimumLengthValidator(LENGTH_MIN),
        _common(),
        UserAttributeSimilarityValidator(user_attributes=["name"]),
    ]
    try:
        validate_password(password, operator, validators)
    except ValidationError as error:
        raise OperatorError(
            " ".join(error.messages).lower().rstrip(".").replace("this password", "the password"),
            f"choose another: {LENGTH_MIN} characters or more, such as five words by chance",
        ) from None
    operator.password = make_password(password)


def check(operator: "Operator | None", password: str) -> bool:
    """Whether this is the operator's password. For nobody, as much is computed, for nothing."""
    password = prepare(password[: LENGTH_MAX + 1])
    if operator is None or not operator.has_usable_password():
        make_password(password)
        return False
    return check_password(password, operator.password)


@cache
def _common() -> CommonPasswordValidator:
    return CommonPasswordValidator()
