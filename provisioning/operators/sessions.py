"""Logins, sessions of people and tokens of scripts: who gave out what, and whether it may do this now.

A session or token is 32 random bytes that only its holder has. The database has a MAC over them, over whose it is, its
scope and its end: a stolen database opens nothing, and a row written into it without the master key neither.
"""

import base64
import binascii
import hashlib
import hmac
import os
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

import cbor2
from django.db import transaction

from provisioning.operators import factors, grants, lockout, passwords
from provisioning.operators.errors import LoginRefused, NotPermitted, OperatorError, SessionRefused
from provisioning.operators.models import Credential, Operator
from provisioning.operators.roles import ACTIONS, NOT_BY_TOKEN, PRIVILEGED, SETUP, actions_of, permits
from provisioning.registry import audit
from provisioning.registry.vault import Vault

IDLE_S = 15 * 60
SESSION_S = 8 * 3600
TOKEN_DAYS = 90
NUMBER_LEN = 8
SECRET_LEN = 32
PREFIXES = {Credential.Kind.SESSION.value: "sbs_", Credential.Kind.TOKEN.value: "sbt_"}

LOOKS_AT_THE_TRAIL = frozenset({"audit.view", "audit.export"})

Clock = Callable[[], float]


@dataclass(frozen=True)
class Acting:
    """Who acts, found by a session or token that holds.

    Attributes:
        roles: of the operator, now.
        scope: actions that a token is for; None for a session.
        actor: the name for the audit trail; a token's begins with its owner's.
        second_factor: whether there was one when they logged in.
        must_change: somebody else chose the password.
        expires_at_ms: when the session or token ends in any case, Unix time.
    """

    name: str
    roles: frozenset[str]
    scope: frozenset[str] | None
    actor: str
    second_factor: bool
    must_change: bool
    expires_at_ms: int
    number: bytes

    @property
    def is_set_up(self) -> bool:
        """Whether password and second factor are what the roles demand."""
        return not self.must_change and (self.second_factor or PRIVILEGED.isdisjoint(self.roles))


def why_not(acting: Acting, action: str) -> tuple[str, str] | None:
    """Why somebody may not do this, and what to do about it; None if they may. Deny by default."""
    if acting.scope is not None and (action in NOT_BY_TOKEN or action not in acting.scope):
        return f"the token of {acting.name} is not for {action}", "make one with this scope, or log in"
    if not permits(acting.roles, action):
        return f"{acting.name} may not do this ({action})", "ask somebody who may; see: sealband operator roles"
    if acting.is_set_up or action in SETUP:
        return None
    if acting.must_change:
        return f"{acting.name} has a password that somebody else chose", "run: sealband operator password"
    return f"{acting.name} logged in without a second factor", "run: sealband operator totp"


def login(vault: Vault, name: str, password: str, code: str = "", clock: Clock = time.time) -> str:
    """Check name, password and code; returns the new session's text.

    Raises:
        LoginRefused: something of it is not right, or the name has to wait. Always the same words, and as much work.
    """
    now_ms = int(clock() * 1000)
    failures = lockout.begin(vault, name, now_ms)
    operator = Operator.objects.filter(name=name).first()
    candidate = operator if operator and operator.is_active and failures is not None else None
    reason, factor = "", ""
    if not passwords.check(candidate, password):
        reason = "waits" if failures is None else "unknown" if not operator else "password"
        if operator and not operator.is_active:
            reason = "disabled"
    elif operator:
        factor, reason = _second_factor(vault, operator, code, clock)
    if reason or candidate is None:
        _login_failed(vault, operator, reason, failures, clock)
    with transaction.atomic():
        lockout.clear(vault, name)
        candidate.last_login = datetime.fromtimestamp(clock(), UTC)
        candidate.save(update_fields=["last_login"])
        event = "authn_login_success" if failures == 1 else "authn_login_successafterfail"
        with _broken_trail(is_no_hindrance=True):
            audit.append(
                vault,
                event,
                subject=candidate.name,
                actor=_actor(candidate),
                clock=clock,
                failures=(failures or 1) - 1,
                second_factor=factor,
            )
        if factor == "recovery":
            left = candidate.recovery_codes.count()
            with _broken_trail(is_no_hindrance=True):
                audit.append(
                    vault,
                    "operator_recovery_code_used",
                    subject=candidate.name,
                    actor=_actor(candidate),
                    clock=clock,
                    left=left,
                )
        return open_session(vault, candidate, second_factor=bool(factor), clock=clock)


def open_session(vault: Vault, operator: Operator, *, second_factor: bool, clock: Clock = time.time) -> str:
    """A new session for an operator who was just checked; returns its text."""
    now_ms = int(clock() * 1000)
    text, row = _make(vault, operator, Credential.Kind.SESSION, (), second_factor, now_ms, now_ms + 1000 * SESSION_S)
    with _broken_trail(is_no_hindrance=True):
        audit.append(vault, "session_created", subject=row.number.hex(), actor=_actor(operator), clock=clock)
    return text


def create_token(
    vault: Vault, acting: Acting, scope: Collection[str], days: int, label: str = "", clock: Clock = time.time
) -> str:
    """A token of the acting operator for scripts; returns its text, which is not kept.

    Args:
        scope: actions; each must be permitted to the operator and to tokens at all.
        days: 1 to 90.
        label: what it is for.

    Raises:
        OperatorError: a scope that is empty or too wide, or too many days.
    """
    if not 1 <= days <= TOKEN_DAYS:
        raise OperatorError(f"a token is for 1 to {TOKEN_DAYS} days", "make a new one when it has expired")
    for action in sorted(scope):
        if action not in ACTIONS:
            raise OperatorError(f"there is no action {action!r}", "see: sealband operator roles")
        if action in NOT_BY_TOKEN:
            raise OperatorError(f"{action} is not for tokens", "log in for it")
    wide = sorted(set(scope) - actions_of(acting.roles))
    if wide or not scope:
        raise OperatorError(
            f"{acting.name} may not do {wide[0]}" if wide else "a token without an action is for nothing",
            "name the actions that it is for; see: sealband operator roles",
        )
    if not label.isprintable() or len(label) > 64:
        raise OperatorError("a label is a line of at most 64 characters", "choose a shorter one")
    operator = Operator.objects.get(name=acting.name)
    now_ms = int(clock() * 1000)
    with transaction.atomic():
        text, row = _make(
            vault,
            operator,
            Credential.Kind.TOKEN,
            sorted(scope),
            acting.second_factor,
            now_ms,
            now_ms + days * 86_400_000,
            label,
        )
        audit.append(
            vault,
            "authn_token_created",
            subject=row.number.hex(),
            actor=acting.actor,
            clock=clock,
            scope=sorted(scope),
            days=days,
            label=label,
        )
    return text


def resolve(vault: Vault, text: str, clock: Clock = time.time) -> Acting:
    """Who acts by this session or token.

    Raises:
        SessionRefused: it is unknown, was forged, has ended, or its operator is disabled.
        NotPermitted: the operator's roles were forged.
    """
    number, secret, kind = _parse(text)
    row = Credential.objects.select_related("operator").filter(number=number, kind=kind).first()
    if row is None or not hmac.compare_digest(bytes(row.mac), _mac(vault, row, secret)):
        _refuse(vault, "authz_fail", kind, number, "it is not known here", clock, reason="unknown")
    now_ms = int(clock() * 1000)
    event = "session_use_after_expire" if kind == Credential.Kind.SESSION else "authn_token_reuse"
    if row.ended or not row.operator.is_active:
        _refuse(vault, event, kind, number, "it was ended", clock, reason="ended")
    idle = kind == Credential.Kind.SESSION and now_ms > row.used_at_ms + 1000 * IDLE_S
    if idle or now_ms > row.expires_at_ms:
        _refuse(
            vault,
            event,
            kind,
            number,
            f"it was not used for {IDLE_S // 60} minutes" if idle else "its time is over",
            clock,
            reason="idle" if idle else "expired",
        )
    is_token = kind == Credential.Kind.TOKEN
    return Acting(
        name=row.operator.name,
        roles=grants.held(vault, row.operator),
        scope=frozenset(row.scope) if is_token else None,
        actor=_actor(row.operator) + (f"/{number.hex()}" if is_token else ""),
        second_factor=row.second_factor,
        must_change=row.operator.must_change,
        expires_at_ms=row.expires_at_ms,
        number=number,
    )


def admit(vault: Vault, text: str, action: str, clock: Clock = time.time) -> Acting:
    """Who acts, if they may do this now; that they did it, or were refused, is in the audit trail.

    Raises:
        SessionRefused: the session or token does not hold.
        NotPermitted: it does, and this is not for them.
    """
    acting = _permitted(vault, text, action, clock)
    with transaction.atomic():
        Credential.objects.filter(number=acting.number).update(used_at_ms=int(clock() * 1000))
        with _broken_trail(action in LOOKS_AT_THE_TRAIL):
            audit.append(vault, "operator_action", subject=action, actor=acting.actor, clock=clock)
    return acting


def hold(vault: Vault, text: str, action: str, clock: Clock = time.time) -> None:
    """Whether who was admitted still may, for a command that goes on showing. It counts as no use: a screen that was
    left behind goes dark with its session.

    Raises:
        SessionRefused, NotPermitted: not any more; that is in the audit trail.
    """
    _permitted(vault, text, action, clock)


def _permitted(vault: Vault, text: str, action: str, clock: Clock) -> Acting:
    acting = resolve(vault, text, clock)
    reason = why_not(acting, action)
    if reason:
        audit.append(vault, "authz_fail", subject=action[: audit.NAME_MAX], actor=acting.actor, clock=clock)
        raise NotPermitted(*reason)
    return acting


@contextmanager
def _broken_trail(is_no_hindrance: bool) -> Iterator[None]:
    """A trail that was tampered with takes no event; who looks into that gets in all the same, and no one else."""
    try:
        yield
    except audit.AuditBroken:
        if not is_no_hindrance:
            raise


def logout(vault: Vault, text: str, clock: Clock = time.time) -> None:
    """End a session; one that has ended already stays so."""
    acting = resolve(vault, text, clock)
    with transaction.atomic():
        Credential.objects.filter(number=acting.number).update(ended=True)
        audit.append(vault, "operator_logout", subject=acting.number.hex(), actor=acting.actor, clock=clock)


def end_all(operator: Operator) -> int:
    """End all sessions and tokens of an operator; how many."""
    return Credential.objects.filter(operator=operator, ended=False).update(ended=True)


def revoke_token(vault: Vault, number: str, acting: Acting, clock: Clock = time.time) -> None:
    """End a token: one's own, or, for who manages operators, anybody's.

    Raises:
        OperatorError: there is none of that number, or it is somebody else's.
    """
    with transaction.atomic():
        rows = Credential.objects.filter(kind=Credential.Kind.TOKEN, ended=False)
        if not permits(acting.roles, "operator.manage"):
            rows = rows.filter(operator__name=acting.name)
        row = next((row for row in rows if bytes(row.number).hex() == number), None)
        if row is None:
            raise OperatorError(f"there is no token {number} to revoke", "see: sealband operator token list")
        row.ended = True
        row.save(update_fields=["ended"])
        audit.append(vault, "authn_token_revoked", subject=number, actor=acting.actor, clock=clock)


def tokens(acting: Acting) -> list[dict[str, object]]:
    """The tokens that are not over: one's own, or, for who sees operators, everybody's."""
    rows = Credential.objects.select_related("operator").filter(kind=Credential.Kind.TOKEN, ended=False)
    if not permits(acting.roles, "operator.view"):
        rows = rows.filter(operator__name=acting.name)
    return [
        {
            "token": bytes(row.number).hex(),
            "operator": row.operator.name,
            "label": row.label,
            "scope": row.scope,
            "expires": datetime.fromtimestamp(row.expires_at_ms / 1000, UTC).isoformat(timespec="seconds"),
        }
        for row in rows.order_by("created_at_ms")
    ]


def _second_factor(vault: Vault, operator: Operator, code: str, clock: Clock) -> tuple[str, str]:
    """(which second factor was given, why it does not do)."""
    try:
        if not factors.secret_of(vault, operator):
            return "", ""
        factor = factors.take(vault, operator, code, clock()) or ""
    except OperatorError:
        return "", "code_forged"
    return factor, {"": "code", "replayed": "code_replayed"}.get(factor, "")


def _login_failed(vault: Vault, operator: Operator | None, reason: str, failures: int | None, clock: Clock) -> NoReturn:
    # a name that nobody has is not noted: it may be a password that was typed into the wrong line
    subject = operator.name if operator else "unknown"
    with transaction.atomic():
        audit.append(
            vault, "authn_login_fail", subject=subject, actor="login", clock=clock, reason=reason, failures=failures
        )
        if failures == lockout.LOCK:
            audit.append(vault, "authn_login_lock", subject=subject, actor="login", clock=clock, failures=failures)
    raise LoginRefused


def _refuse(vault: Vault, event: str, kind: str, number: bytes, what: str, clock: Clock, *, reason: str) -> NoReturn:
    audit.append(vault, event, subject=number.hex(), actor="guard", clock=clock, kind=kind, reason=reason)
    raise SessionRefused(f"this {kind} does not hold: {what}", "run: sealband operator login NAME")


def _actor(operator: Operator) -> str:
    return f"operator:{operator.name}"


def _make(
    vault: Vault,
    operator: Operator,
    kind: Credential.Kind,
    scope: Collection[str],
    second_factor: bool,
    now_ms: int,
    expires_at_ms: int,
    label: str = "",
) -> tuple[str, Credential]:
    secret = os.urandom(SECRET_LEN)
    row = Credential(
        number=os.urandom(NUMBER_LEN),
        kind=kind.value,
        operator=operator,
        label=label,
        scope=list(scope),
        second_factor=second_factor,
        created_at_ms=now_ms,
        expires_at_ms=expires_at_ms,
        used_at_ms=now_ms,
    )
    row.mac = _mac(vault, row, secret)
    row.save()
    text = base64.urlsafe_b64encode(bytes(row.number) + secret).decode().rstrip("=")
    return PREFIXES[kind.value] + text, row


def _parse(text: str) -> tuple[bytes, bytes, str]:
    for kind, prefix in PREFIXES.items():
        body = text.strip().removeprefix(prefix)
        if len(body) == len(text.strip()):
            continue
        try:
            data = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            break
        if len(data) == NUMBER_LEN + SECRET_LEN:
            return data[:NUMBER_LEN], data[NUMBER_LEN:], kind
    raise SessionRefused("this is neither a session nor a token", "run: sealband operator login NAME")


def _mac(vault: Vault, row: Credential, secret: bytes) -> bytes:
    told = [
        bytes(row.number),
        row.kind,
        row.operator.pk,
        list(row.scope),
        row.second_factor,
        row.created_at_ms,
        row.expires_at_ms,
        secret,
    ]
    return hmac.new(vault.subkey(b"sealband/1 credentials"), cbor2.dumps(told), hashlib.sha256).digest()
