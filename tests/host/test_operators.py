"""Operators: which role may do what, which roles go together, passwords, second factors, sessions and tokens."""

import ast
import subprocess
import sys
from pathlib import Path

import argon2
import pyotp
import pytest

from provisioning.operators import roles
from provisioning.operators.errors import NotPermitted, OperatorError
from provisioning.operators.roles import Role, conflict, permits
from tests.support.operators import PASSWORD, make_operator, session_of
from tests.support.registries import TemporaryRegistry

# written down a second time, by role, so that neither table can change alone
MAY = {
    "factory": "batch.issue batch.revoke batch.quota issuer.create journal.import device.list certificate.crl "
    "service.unlock",
    "release": "release.sign release.publish rollout.view",
    "fleet": "device.list device.suspend device.resume device.revoke device.rekey device.retire device.reenrol "
    "device.configure device.report meaning.define "
    "broker.list certificate.crl service.unlock rollout.view rollout.manage",
    "care": "device.list device.claim device.consent device.report reading.view reading.export",
    "audit": "audit.view audit.export operator.view",
    "admin": "operator.view operator.manage key.rotate backup.make backup.restore",
}
PAIRS = [(role, action) for role in MAY for action in sorted(roles.ACTIONS)]
# what the parts of the registry ask for
ASKED = (
    "batch.issue batch.revoke batch.quota issuer.create journal.import device.list device.suspend device.resume "
    "device.revoke device.rekey device.retire device.reenrol device.claim broker.list certificate.crl service.unlock "
    "rollout.view rollout.manage release.sign release.publish key.rotate backup.make backup.restore operator.view "
    "device.configure device.report device.consent operator.manage audit.view audit.export reading.view reading.export "
    "meaning.define"
)
NOW = 1_790_000_000.0
COMMANDS = Path(__file__).resolve().parents[2] / "host_tools/cli"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> TemporaryRegistry:
    made = TemporaryRegistry(tmp_path_factory.mktemp("operators"))
    from provisioning.operators import service

    service.create_first(made.vault, "root", PASSWORD, clock=lambda: NOW)
    return made


def test_every_action_that_is_asked_for_is_in_the_table():
    assert set(roles.ACTIONS) == set(ASKED.split())
    assert {role.value for role in Role} == set(MAY)


@pytest.mark.parametrize(("role", "action"), PAIRS, ids=[f"{role}-{action}" for role, action in PAIRS])
def test_role_may_do_what_the_table_says_and_nothing_else(registry: TemporaryRegistry, role: str, action: str):
    """Each of the pairs, through the whole way of a command: session, roles from the database, decision, trail."""
    from provisioning.operators import sessions
    from provisioning.registry.models import AuditEvent

    if not hasattr(registry, "sessions"):
        registry.sessions = {}
    if role not in registry.sessions:
        registry.sessions[role] = session_of(registry.vault, f"only-{role}", [role])
    before = AuditEvent.objects.count()
    try:
        sessions.admit(registry.vault, registry.sessions[role], action)
        permitted, event = True, "operator_action"
    except NotPermitted:
        permitted, event = False, "authz_fail"
    assert permitted == (action in MAY[role].split())
    told = AuditEvent.objects.latest("sequence")
    assert AuditEvent.objects.count() == before + 1
    assert (told.event, told.subject, told.actor) == (event, action, f"operator:only-{role}")


@pytest.mark.parametrize("role", MAY)
def test_action_that_is_not_in_the_table_is_permitted_to_nobody(role: str):
    for action in ("", "*", "device", "device.*", "device.list ", "batch.issue2", "DEVICE.LIST", "own.everything"):
        assert not permits({role}, action)
    assert not permits(set(), "device.list") and not permits(set(), "own.password")


@pytest.mark.parametrize(
    ("wanted", "held", "refused"),
    [
        ({"factory", "release"}, set(), True),
        ({"release"}, {"factory"}, True),
        ({"factory"}, {"release", "fleet"}, True),
        ({"fleet"}, {"factory"}, False),
        ({"care"}, {"factory", "release"}, False),
        ({"admin", "fleet"}, set(), True),
        ({"admin", "audit"}, set(), True),
        ({"audit", "care"}, set(), True),
        ({"audit"}, {"fleet"}, False),
        ({"admin"}, {"admin"}, False),
        ({"fleet", "care"}, set(), False),
        ({"factory", "fleet", "care"}, set(), False),
        ({"release", "fleet"}, set(), False),
    ],
)
def test_roles_that_do_not_go_together(wanted: set[str], held: set[str], refused: bool):
    assert (conflict(wanted, held) is not None) == refused


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("elevenchars", "at least 12"),
        ("password1234", "too common"),
        ("checker-2026", "similar to the name"),
        ("x" * 257, "longer than 256"),
    ],
)
def test_weak_password_is_refused(registry: TemporaryRegistry, password: str, said: str):
    from provisioning.operators import service
    from provisioning.operators.models import Operator

    with pytest.raises(OperatorError, match=said):
        service.create(registry.vault, "checker", ["audit"], password, "root")
    assert not Operator.objects.filter(name="checker").exists()


@pytest.mark.parametrize(
    "password", ["aaaaaaaaaaab", "nur kleine buchstaben", "пароль из шести слов", "ﬁfteen ligatures"]
)
def test_password_needs_no_kinds_of_characters(registry: TemporaryRegistry, password: str):
    from provisioning.operators import passwords
    from provisioning.operators.models import Operator

    operator = Operator(name="somebody")
    passwords.choose(operator, password)
    assert passwords.check(operator, password)
    # RFC 9106 by argon2-cffi itself
    algorithm, _, stored = operator.password.partition("$")
    assert algorithm == "argon2" and stored.startswith("argon2id$v=19$")
    assert argon2.PasswordHasher().verify("$" + stored, passwords.prepare(password))


def test_ligature_and_its_letters_are_one_password(registry: TemporaryRegistry):
    from provisioning.operators import passwords
    from provisioning.operators.models import Operator

    operator = Operator(name="somebody")
    passwords.choose(operator, "ﬁfteen ligatures")
    assert passwords.check(operator, "fifteen ligatures")


@pytest.mark.parametrize(("at", "code"), [(59, "287082"), (1111111109, "081804"), (2000000000, "279037")])
def test_codes_are_those_of_rfc_6238(registry: TemporaryRegistry, at: int, code: str):
    from provisioning.operators import factors

    secret = b"12345678901234567890"  # RFC 6238 appendix B, SHA-1; the last six of its eight digits
    assert factors.code_at(secret, at) == code
    assert factors.matches(secret, code, at + 30) == at // 30
    assert factors.matches(secret, code, at + 60) is None


@pytest.mark.parametrize("name", ["", "Anna", "anna b", "-anna", "a" * 33, "anna\n", "ånna", "=anna", "login/anna"])
def test_name_that_could_be_mistaken_is_refused(registry: TemporaryRegistry, name: str):
    from provisioning.operators import service

    with pytest.raises(OperatorError, match="no operator's name"):
        service.create(registry.vault, name, ["audit"], PASSWORD, "root")


def test_what_somebody_sets_up_for_themselves_from_invitation_to_work(registry: TemporaryRegistry):
    """Somebody else's password, then one's own, then the second factor, and only then the work."""
    from provisioning.operators import service, sessions

    clock = [NOW]
    vault = registry.vault
    service.create(vault, "anna", ["fleet", "care"], PASSWORD, "root", lambda: clock[0])

    def why(text: str) -> str:
        with pytest.raises(NotPermitted) as refused:
            sessions.admit(vault, text, "rollout.manage", lambda: clock[0])
        return str(refused.value)

    first = sessions.login(vault, "anna", PASSWORD, "", lambda: clock[0])
    assert "somebody else chose" in why(first)
    acting = sessions.resolve(vault, first, lambda: clock[0])
    second = service.change_password(vault, acting, PASSWORD, "her own password", lambda: clock[0])
    assert "without a second factor" in why(second)
    secret = b"S" * 20
    totp = pyotp.TOTP("KNJVGU2TKNJVGU2TKNJVGU2TKNJVGU2T")
    with pytest.raises(OperatorError, match="not the code"):
        service.set_totp(vault, "anna", secret, "000000", "anna", clock=lambda: clock[0])
    third = service.set_totp(vault, "anna", secret, totp.at(clock[0]), "anna", clock=lambda: clock[0])
    assert pyotp.parse_uri(third.uri).secret == totp.secret and len(set(third.recovery_codes)) == 10
    assert sessions.admit(vault, third.session, "rollout.manage", lambda: clock[0]).actor == "operator:anna"
    for text in (first, second):
        with pytest.raises(OperatorError, match="ended"):
            sessions.resolve(vault, text, lambda: clock[0])
    clock[0] += 30
    again = sessions.login(vault, "anna", "her own password", totp.at(clock[0]), lambda: clock[0])
    assert sessions.admit(vault, again, "reading.view", lambda: clock[0]).name == "anna"


def test_a_desk_in_the_factory_needs_no_second_factor_but_uses_one_that_it_has(registry: TemporaryRegistry):
    from provisioning.operators import factors, service, sessions
    from provisioning.operators.errors import LoginRefused

    vault, clock = registry.vault, lambda: NOW
    service.create(vault, "desk", ["factory"], PASSWORD, "root", clock)
    acting = sessions.resolve(vault, sessions.login(vault, "desk", PASSWORD, clock=clock), clock)
    text = service.change_password(vault, acting, PASSWORD, "the desk's own one", clock)
    assert sessions.admit(vault, text, "batch.issue", clock)
    service.set_totp(vault, "desk", b"D" * 20, factors.code_at(b"D" * 20, NOW), "desk", clock=clock)
    with pytest.raises(LoginRefused):
        sessions.login(vault, "desk", "the desk's own one", clock=clock)


def test_session_ends_after_a_quarter_of_an_hour_without_use_and_after_eight_hours(registry: TemporaryRegistry):
    from provisioning.operators import sessions
    from provisioning.operators.errors import SessionRefused

    operator = make_operator(registry.vault, "sitter", ["factory"])
    text = sessions.open_session(registry.vault, operator, second_factor=False, clock=lambda: NOW)
    for minutes in range(14, 8 * 60, 14):
        sessions.admit(registry.vault, text, "device.list", lambda at=NOW + 60 * minutes: at)
    with pytest.raises(SessionRefused, match="its time is over"):
        sessions.admit(registry.vault, text, "device.list", lambda: NOW + 8 * 3600 + 1)
    other = sessions.open_session(registry.vault, operator, second_factor=False, clock=lambda: NOW)
    with pytest.raises(SessionRefused, match="15 minutes"):
        sessions.admit(registry.vault, other, "device.list", lambda: NOW + 901)


def test_token_acts_for_its_actions_until_its_day(registry: TemporaryRegistry):
    from provisioning.operators import sessions

    vault = registry.vault
    acting = sessions.resolve(vault, session_of(vault, "scripter", ["fleet"]))
    for scope, days, said in (
        ([], 1, "for nothing"),
        (["reading.view"], 1, "may not do reading.view"),
        (["device.lists"], 1, "no action"),
        (["device.list"], 91, "1 to 90"),
        (["device.list"], 0, "1 to 90"),
        (["operator.manage"], 1, "not for tokens"),
    ):
        with pytest.raises(OperatorError, match=said):
            sessions.create_token(vault, acting, scope, days)
    text = sessions.create_token(vault, acting, ["device.list"], 2, "nightly list", lambda: NOW)
    used = sessions.admit(vault, text, "device.list", lambda: NOW + 47 * 3600)
    (told,) = sessions.tokens(acting)
    assert used.actor == f"operator:scripter/{told['token']}"
    assert (told["label"], told["scope"]) == ("nightly list", ["device.list"])
    sessions.revoke_token(vault, str(told["token"]), acting)
    assert sessions.tokens(acting) == []


DJANGO = """
import sys
from provisioning import registry
from provisioning.registry.vault import Vault
apps = ("django.contrib.contenttypes", "django.contrib.auth", "django.contrib.sessions")
registry.setup(sys.argv[1])
registry.migrate()
from provisioning.operators import service
from provisioning.registry import audit
vault = Vault(bytes(32))
audit.append(vault, audit.FIRST)
service.create_first(vault, "root", sys.argv[2])
registry.setup(sys.argv[1], extra_apps=apps)
registry.migrate()
from django.contrib.auth import authenticate
assert authenticate(username="root", password=sys.argv[2]).name == "root"
assert authenticate(username="root", password="another password") is None
"""


def test_djangos_own_login_knows_the_operators(tmp_path: Path):
    """What a web console builds on: added to a registry that has operators, Django's login takes them as its users."""
    command = [sys.executable, "-c", DJANGO, str(tmp_path / "r.db"), PASSWORD]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


# the commands that open a registry without asking who acts, and why
OPEN = {
    ("connection", "open_registry"): "the way in itself",
    ("guard", "enter"): "asks",
    ("ingest", "open_store"): "the way in itself",
    ("ingest", "enter_store"): "asks",
    ("ingest", "run"): "a service: the system, not an operator; it shows no reading",
    ("operator", "init"): "there is no operator yet",
    ("operator", "login"): "asks for the password",
    ("operator", "logout"): "ends what it is given",
    ("operator", "whoami"): "says what it is given",
    ("registry", "init"): "there is no registry yet",
    ("registry_keys", "restore"): "there is no registry yet; asks for the shares",
}
WAYS_IN = {"open_registry", "open_store", "open_vault", "create_vault"}


def calls(names: set[str]) -> list[tuple[str, str, ast.Call]]:
    """(file, function, call) of each call of one of these in the commands."""
    found = []
    for path in sorted(COMMANDS.glob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            for node in ast.walk(function) if isinstance(function, ast.FunctionDef) else ():
                if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in names:
                    found.append((path.stem, function.name, node))
    return found


def test_no_command_opens_a_registry_without_asking_who_acts():
    assert {(file, function) for file, function, _ in calls(WAYS_IN)} <= set(OPEN)
    assert ("guard", "enter") in {(file, function) for file, function, _ in calls(WAYS_IN)}


def test_commands_ask_for_actions_of_the_table_only():
    asked = set()
    for _, _, call in calls({"enter", "enter_store", "admit", "enter_if_at_hand", "_rollouts"}):
        asked |= {argument.value for argument in call.args if isinstance(argument, ast.Constant)}
    assert len(asked) > 15
    assert asked <= set(roles.ACTIONS) | roles.OWN
