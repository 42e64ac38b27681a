"""The roles of an operator as rows under MACs: one that was written without the master key counts for nothing."""

import hashlib
import hmac
from collections.abc import Collection

import cbor2

from provisioning.operators.errors import NotPermitted, OperatorError
from provisioning.operators.models import Grant, Operator
from provisioning.operators.roles import Role, conflict
from provisioning.registry.vault import Vault


def held(vault: Vault, operator: Operator, *, ever: bool = False) -> frozenset[str]:
    """The operator's roles; with `ever`, also those that ended.

    Raises:
        NotPermitted: a row was written by somebody without the master key.
    """
    rows = list(Grant.objects.filter(operator=operator))
    for row in rows:
        if not hmac.compare_digest(bytes(row.mac), _mac(vault, operator, row)):
            raise NotPermitted(
                f"the roles of {operator.name} were changed outside of this program",
                "stop, and keep the database as evidence; see: sealband audit verify",
            )
    return frozenset(row.role for row in rows if ever or row.ended_at_ms is None)


def give(vault: Vault, operator: Operator, roles: Collection[str], by: str, now_ms: int) -> frozenset[str]:
    """Make these the operator's roles; the caller holds the operator's lock. Returns the roles before.

    Raises:
        OperatorError: nobody may have these roles together, or one of them after another.
    """
    unknown = sorted(set(roles) - {role.value for role in Role})
    if unknown:
        raise OperatorError(f"there is no role {unknown[0]!r}", f"there are: {', '.join(Role)}")
    before = held(vault, operator)
    why = conflict(roles, held(vault, operator, ever=True))
    if why:
        raise OperatorError(why, "give the other role to another operator; see: sealband operator roles")
    for row in Grant.objects.filter(operator=operator, ended_at_ms__isnull=True).exclude(role__in=list(roles)):
        row.ended_at_ms = now_ms
        row.mac = _mac(vault, operator, row)
        row.save()
    for role in sorted(set(roles) - before):
        row = Grant(operator=operator, role=str(role), granted_at_ms=now_ms, granted_by=by)
        row.mac = _mac(vault, operator, row)
        row.save()
    return before


def _mac(vault: Vault, operator: Operator, row: Grant) -> bytes:
    told = [operator.pk, operator.name, row.role, row.granted_at_ms, row.granted_by, row.ended_at_ms]
    return hmac.new(vault.subkey(b"sealband/1 grants"), cbor2.dumps(told), hashlib.sha256).digest()
