"""The life of operators: made, given roles, disabled, their passwords and second factors. Each in one transaction with
its audit event.

Who may call what is decided by `sessions.admit` before; what nobody may, whoever asks, is refused here: conflicting
roles, changing one's own roles, disabling the last admin.
"""

import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime

from django.db import transaction
from django.db.utils import IntegrityError

from provisioning.operators import factors, grants, lockout, passwords, sessions
from provisioning.operators.errors import LoginRefused, OperatorError
from provisioning.operators.models import NAME_MAX, Operator
from provisioning.operators.roles import Role
from provisioning.registry import audit
from provisioning.registry.vault import Vault

Clock = Callable[[], float]
_NAME = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{NAME_MAX - 1}}}", re.ASCII)
SYSTEM = ""


@dataclass(frozen=True)
class Enrolment:
    """What an operator needs for the second factor, shown once.

    Attributes:
        uri: for the authenticator, as a QR code.
        recovery_codes: each stands in for one code.
        session: of the operator who did it for themselves, and goes on; else "".
    """

    uri: str
    recovery_codes: list[str]
    session: str = ""


def has_operators() -> bool:
    """Whether the registry has any."""
    return Operator.objects.exists()


def create_first(vault: Vault, name: str, password: str, clock: Clock = time.time) -> None:
    """Make the first operator, an admin. From then on only admins make operators.

    Raises:
        OperatorError: there are operators already, or name or password are not accepted.
    """
    with transaction.atomic():
        if has_operators():
            raise OperatorError("this registry has operators", "ask an admin to run: sealband operator add")
        _create(vault, name, [Role.ADMIN], password, SYSTEM, clock, must_change=False)


def create(vault: Vault, name: str, roles: Collection[str], password: str, by: str, clock: Clock = time.time) -> None:
    """Make an operator, who has to change this password at the first login.

    Args:
        by: the name of the admin who does it.

    Raises:
        OperatorError: the name is taken or none, the roles do not go together, or the password is too weak.
    """
    with transaction.atomic():
        _create(vault, name, roles, password, by, clock, must_change=True)


def _create(
    vault: Vault, name: str, roles: Collection[str], password: str, by: str, clock: Clock, *, must_change: bool
) -> None:
    if not _NAME.fullmatch(name):
        raise OperatorError(
            f"{name!r} is no operator's name",
            f"1 to {NAME_MAX} of a-z, 0-9, '.', '_' and '-', the first a letter or a digit",
        )
    if not roles:
        raise OperatorError("an operator has at least one role", f"there are: {', '.join(Role)}")
    now = clock()
    operator = Operator(
        name=name, must_change=must_change, totp_wrapped=b"", created_at=datetime.fromtimestamp(now, UTC)
    )
    passwords.choose(operator, password)
    try:
        with transaction.atomic():
            operator.save()
    except IntegrityError:
        raise OperatorError(f"there is an operator {name} already", "choose another name") from None
    operator.totp_wrapped = factors.seal(vault, operator, factors.NONE)
    operator.save(update_fields=["totp_wrapped"])
    grants.give(vault, operator, roles, by, int(now * 1000))
    _tell(vault, "user_created", operator, by, clock, roles=sorted(roles))


def set_roles(vault: Vault, name: str, roles: Collection[str], by: str, clock: Clock = time.time) -> frozenset[str]:
    """Make these the operator's roles; returns those before.

    Raises:
        OperatorError: one's own roles, the last admin's, roles that do not go together, or none.
    """
    with transaction.atomic():
        operator = _other(name, by, "change the roles of")
        if not roles:
            raise OperatorError("an operator has at least one role", f"or run: sealband operator disable {name}")
        before = grants.give(vault, operator, roles, by, int(clock() * 1000))
        _keep_an_admin(vault, name)
        if before != frozenset(map(str, roles)):
            added, removed = sorted(set(roles) - before), sorted(before - set(roles))
            _tell(vault, "authz_change", operator, by, clock, added=[*map(str, added)], removed=removed)
    return before


def change_roles(
    vault: Vault, name: str, added: Collection[str], removed: Collection[str], by: str, clock: Clock = time.time
) -> None:
    """Add and take away roles; raises as `set_roles` does."""
    with transaction.atomic():
        now_held = grants.held(vault, _find(name))
        set_roles(vault, name, (now_held - set(removed)) | set(added), by, clock)


def disable(vault: Vault, name: str, by: str, clock: Clock = time.time) -> None:
    """Let an operator in no more; sessions and tokens end at once.

    Raises:
        OperatorError: oneself, the last admin, or nobody.
    """
    with transaction.atomic():
        operator = _other(name, by, "disable")
        operator.is_active = False
        operator.save(update_fields=["is_active"])
        _keep_an_admin(vault, name)
        _tell(vault, "user_archived", operator, by, clock, ended=sessions.end_all(operator))


def enable(vault: Vault, name: str, by: str, clock: Clock = time.time) -> None:
    """Let an operator in again: one who was disabled, or who was locked by failed logins."""
    with transaction.atomic():
        operator = _find(name)
        failures = lockout.clear(vault, name)
        if failures:
            _tell(vault, "operator_unlocked", operator, by, clock, failures=failures)
        if not operator.is_active:
            operator.is_active = True
            operator.save(update_fields=["is_active"])
            _tell(vault, "user_updated", operator, by, clock, enabled=True)


def change_password(vault: Vault, acting: sessions.Acting, old: str, new: str, clock: Clock = time.time) -> str:
    """Change one's own password; all sessions and tokens end, and a new session's text is returned.

    Raises:
        LoginRefused: the old one is wrong; counted as a failed login.
        OperatorError: the new one is not accepted.
    """
    operator = _find(acting.name)
    failures = lockout.begin(vault, operator.name, int(clock() * 1000))
    if failures is None or not passwords.check(operator, old):
        with transaction.atomic():
            _tell(vault, "authn_password_change_fail", operator, acting.name, clock, failures=failures)
            _tell_if_locked(vault, operator, acting.name, failures, clock)
        raise LoginRefused
    lockout.clear(vault, operator.name)
    if passwords.prepare(old) == passwords.prepare(new):
        raise OperatorError("the new password is the old one", "choose another")
    passwords.choose(operator, new)
    with transaction.atomic():
        operator.must_change = False
        operator.save(update_fields=["password", "must_change"])
        ended = sessions.end_all(operator)
        _tell(vault, "authn_password_change", operator, acting.name, clock, ended=ended)
        return sessions.open_session(vault, operator, second_factor=acting.second_factor, clock=clock)


def reset_password(vault: Vault, name: str, new: str, by: str, clock: Clock = time.time) -> None:
    """Give somebody a password that has to be changed at the next login; all sessions and tokens end.

    Raises:
        OperatorError: oneself, nobody, or a password that is not accepted.
    """
    with transaction.atomic():
        operator = _other(name, by, "reset the password of")
        passwords.choose(operator, new)
        operator.must_change = True
        operator.save(update_fields=["password", "must_change"])
        _tell(vault, "authn_password_change", operator, by, clock, ended=sessions.end_all(operator), reset=True)


def set_totp(
    vault: Vault, name: str, secret: bytes, code: str | None, by: str, current: str = "", clock: Clock = time.time
) -> Enrolment:
    """Give an operator a second factor.

    Args:
        secret: of `factors.new_secret`, which the authenticator has by now.
        code: what it shows, to know that it has it; None for scripts that keep the URI themselves.
        by: who does it; "" is the system.
        current: a code of the second factor that there was, or a recovery code.

    Raises:
        OperatorError: the code is not the secret's, or the one of the factor before is wrong or missing.
    """
    now = clock()
    operator = _find(name)
    if factors.secret_of(vault, operator):
        # counted, so that a session left open is no place to guess
        failures = lockout.begin(vault, name, int(now * 1000))
        if failures is None or factors.take(vault, operator, current, now) not in ("totp", "recovery"):
            with transaction.atomic():
                _tell(vault, "authn_login_fail", operator, by, clock, reason="code", failures=failures)
                _tell_if_locked(vault, operator, by, failures, clock)
            raise LoginRefused
        lockout.clear(vault, name)
    step = 0
    if code is not None:
        step = factors.matches(secret, code, now) or 0
        if not step:
            raise OperatorError("this is not the code for this secret", "check the clock, and scan the code again")
    with transaction.atomic():
        operator.totp_wrapped = factors.seal(vault, operator, secret)
        operator.totp_step = step
        operator.save(update_fields=["totp_wrapped", "totp_step"])
        codes = factors.new_recovery_codes(vault, operator)
        ended = sessions.end_all(operator)
        _tell(vault, "authn_mfa_change", operator, by, clock, ended=ended, enrolled=True)
        session = sessions.open_session(vault, operator, second_factor=True, clock=clock) if by == name else ""
    return Enrolment(factors.uri(secret, name), codes, session)


def reset_totp(vault: Vault, name: str, by: str, clock: Clock = time.time) -> None:
    """Take somebody's second factor away, who lost it; all sessions and tokens end.

    Raises:
        OperatorError: oneself, or nobody.
    """
    with transaction.atomic():
        operator = _other(name, by, "reset the second factor of")
        operator.totp_wrapped = factors.seal(vault, operator, factors.NONE)
        operator.totp_step = 0
        operator.save(update_fields=["totp_wrapped", "totp_step"])
        operator.recovery_codes.all().delete()
        _tell(vault, "authn_mfa_change", operator, by, clock, ended=sessions.end_all(operator), enrolled=False)


def has_totp(vault: Vault, name: str) -> bool:
    """Whether the operator has a second factor."""
    return bool(factors.secret_of(vault, _find(name)))


def overview(vault: Vault, clock: Clock = time.time) -> list[dict[str, object]]:
    """All operators, by name."""
    now_ms = int(clock() * 1000)
    return [
        {
            "name": row.name,
            "roles": sorted(grants.held(vault, row)),
            "state": "disabled"
            if not row.is_active
            else "locked"
            if lockout.is_locked(vault, row.name, now_ms)
            else "active",
            "second_factor": bool(factors.secret_of(vault, row)),
            "must_change_password": row.must_change,
            "last_login": row.last_login.isoformat(timespec="seconds") if row.last_login else None,
        }
        for row in Operator.objects.order_by("name")
    ]


def _find(name: str) -> Operator:
    operator = Operator.objects.filter(name=name).first()
    if operator is None:
        raise OperatorError(f"there is no operator {name!r}", "see: sealband operator list")
    return operator


def _other(name: str, by: str, what: str) -> Operator:
    """The operator, all of them locked, unless it is oneself: nobody raises, frees or ends themselves."""
    if name == by:
        raise OperatorError(f"nobody can {what} themselves", "ask another admin")
    list(Operator.objects.select_for_update().order_by("pk").values_list("pk"))
    return _find(name)


def _keep_an_admin(vault: Vault, name: str) -> None:
    if not any(Role.ADMIN in grants.held(vault, row) for row in Operator.objects.filter(is_active=True)):
        raise OperatorError(f"{name} is the last admin", "make another admin first")


def _tell(vault: Vault, event: str, operator: Operator, by: str, clock: Clock, **details: audit.Detail) -> None:
    audit.append(vault, event, subject=operator.name, actor=_actor(by), clock=clock, **details)


def _tell_if_locked(vault: Vault, operator: Operator, by: str, failures: int | None, clock: Clock) -> None:
    if failures == lockout.LOCK:
        _tell(vault, "authn_login_lock", operator, by, clock, failures=failures)


def _actor(by: str) -> str:
    return f"operator:{by}" if by else "system"
