"""Who may do what: one table of action × roles, and which roles one operator cannot have together. Pure; no database.

An action that is not in the table is permitted to nobody, and neither is one in it to a role that it does not name.
"""

from collections.abc import Collection
from enum import StrEnum


class Role(StrEnum):
    """What somebody is there for."""

    FACTORY = "factory"
    RELEASE = "release"
    FLEET = "fleet"
    CARE = "care"
    AUDIT = "audit"
    ADMIN = "admin"


_ROLES = {
    "batch.issue": "factory",
    "batch.revoke": "factory",
    "batch.quota": "factory",
    "issuer.create": "factory",
    "journal.import": "factory",
    "device.list": "factory fleet care",
    "device.suspend": "fleet",
    "device.resume": "fleet",
    "device.revoke": "fleet",
    "device.rekey": "fleet",
    "device.retire": "fleet",
    "device.reenrol": "fleet",
    "device.configure": "fleet",
    "device.report": "fleet care",
    "device.consent": "care",
    "device.claim": "care",
    "broker.list": "fleet",
    "certificate.crl": "factory fleet",
    "service.unlock": "factory fleet",
    "reading.view": "care",
    "reading.export": "care",
    "meaning.define": "fleet",
    "rollout.view": "release fleet",
    "rollout.manage": "fleet",
    "release.sign": "release",
    "release.publish": "release",
    "key.rotate": "admin",
    "backup.make": "admin",
    "backup.restore": "admin",
    "operator.view": "admin audit",
    "operator.manage": "admin",
    "audit.view": "audit",
    "audit.export": "audit",
}
ACTIONS = {action: frozenset(Role(name) for name in names.split()) for action, names in _ROLES.items()}

# what every operator may do with their own account, even before the password was changed and a second factor is there
OWN_PASSWORD = "own.password"  # noqa: S105  an action's name
OWN_TOTP = "own.totp"
OWN_TOKEN = "own.token"  # noqa: S105
SETUP = frozenset({OWN_PASSWORD, OWN_TOTP})
OWN = SETUP | {OWN_TOKEN}

# a token lies in a file that a script reads: it must not be able to make operators, or to undo the registry
NOT_BY_TOKEN = frozenset({"operator.manage", "backup.restore", "key.rotate"}) | OWN

# whose password alone, seen over a shoulder, would be too much: all but the desk in the factory
PRIVILEGED = frozenset(Role) - {Role.FACTORY}

# who issues the right to make devices must never also decide what they run, not even later: both are then in one hand
NEVER_BOTH = frozenset({Role.FACTORY, Role.RELEASE})
# who names operators, and who checks what all of them did, does nothing else with the same account
ALONE = frozenset({Role.ADMIN, Role.AUDIT})


def permits(roles: Collection[str], action: str) -> bool:
    """Whether somebody with these roles may do this."""
    if action in OWN:
        return bool(roles)
    return not ACTIONS.get(action, frozenset()).isdisjoint(roles)


def actions_of(roles: Collection[str]) -> frozenset[str]:
    """All actions of the table that these roles permit."""
    return frozenset(action for action in ACTIONS if permits(roles, action))


def conflict(roles: Collection[str], held: Collection[str]) -> str | None:
    """Why nobody may have these roles, or None.

    Args:
        roles: those that they would have.
        held: all that they ever had.
    """
    for alone in sorted(ALONE & set(roles)):
        if len(set(roles)) > 1:
            return f"{alone} cannot be combined with another role"
    both = NEVER_BOTH & (set(roles) | set(held))
    if both == NEVER_BOTH and NEVER_BOTH & set(roles):
        one, other = sorted(NEVER_BOTH)
        return f"nobody has both {one} and {other}, not even one after the other"
    return None
