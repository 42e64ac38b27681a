"""Attacks on operators: guesses, replays, stolen databases and files, forged rows, roles that do not go together."""

import itertools
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from host_tools import cli
from host_tools.cli import guard, session_file
from provisioning.operators.errors import LoginRefused, NotPermitted, OperatorError, SessionRefused
from provisioning.registry.vault import Vault
from tests.support.operators import PASSWORD, log_in, make_operator, private_file, session_of
from tests.support.registries import TemporaryRegistry

NOW = 1_790_000_000.0
SECRET = b"T" * 20
WRONG = "not this one, surely"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> TemporaryRegistry:
    made = TemporaryRegistry(tmp_path_factory.mktemp("operators"))
    from provisioning.operators import service

    service.create_first(made.vault, "root", PASSWORD, clock=lambda: NOW)
    for name, roles in (("victim", ["fleet"]), ("desk", ["factory"])):
        service.create(made.vault, name, roles, PASSWORD, "root", lambda: NOW)
    service.set_totp(made.vault, "victim", SECRET, None, "root", clock=lambda: NOW)
    return made


@pytest.fixture(autouse=True)
def forgotten(registry: TemporaryRegistry) -> None:
    from provisioning.operators.models import Attempts, Operator

    Attempts.objects.all().delete()
    Operator.objects.update(totp_step=0)


def attempt(vault: Vault, name: str, password: str, at: float, code: str = "") -> bool:
    from provisioning.operators import sessions

    try:
        return bool(sessions.login(vault, name, password, code, lambda: at))
    except LoginRefused:
        return False


def code(at: float) -> str:
    from provisioning.operators import factors

    return factors.code_at(SECRET, at)


def last_events(count: int) -> list[tuple[str, str, str]]:
    from provisioning.registry.models import AuditEvent

    rows = list(AuditEvent.objects.order_by("-sequence")[:count])[::-1]
    return [(row.event, row.subject, row.details) for row in rows]


# guessing


def test_ten_failures_lock_even_for_the_right_password(registry: TemporaryRegistry):
    from provisioning.operators import lockout, service

    at = NOW
    for failures in range(1, 11):
        assert not attempt(registry.vault, "desk", WRONG, at)
        assert lockout.is_locked(registry.vault, "desk", int(at * 1000)) == (failures == 10)
        at += lockout.wait_s(failures) if failures < 10 else 0
    assert [event for event, _, _ in last_events(2)] == ["authn_login_fail", "authn_login_lock"]
    for later in (0, 3600, 24 * 3600 - 1):
        assert not attempt(registry.vault, "desk", PASSWORD, at + later)
    states = {row["name"]: row["state"] for row in service.overview(registry.vault, lambda: at)}
    assert states["desk"] == "locked"
    assert attempt(registry.vault, "desk", PASSWORD, at + 24 * 3600)


def test_guesses_in_an_open_session_lock_the_name_and_the_trail_says_so(registry: TemporaryRegistry):
    """Whoever finds a session left open guesses the present password, or the code of the factor so far."""
    from provisioning.operators import lockout, service, sessions

    acting = sessions.resolve(registry.vault, session_of(registry.vault, "victim", []))
    guesses = (
        lambda: service.change_password(registry.vault, acting, WRONG, PASSWORD, lambda: NOW),
        lambda: service.set_totp(registry.vault, "victim", SECRET, None, "victim", "000000", lambda: NOW),
    )
    for guess in guesses:
        lockout.begin(registry.vault, "victim", int((NOW - 3600) * 1000))
        lockout.Attempts.objects.update(failures=lockout.LOCK - 1)
        with pytest.raises(LoginRefused):
            guess()
        assert last_events(1)[0][:2] == ("authn_login_lock", "victim")
        lockout.Attempts.objects.all().delete()


def test_recovery_code_is_not_lost_on_a_trail_that_was_tampered_with(registry: TemporaryRegistry):
    """Who comes to look into it with the last code must not be kept out by what they come to look at."""
    from provisioning.operators import service
    from provisioning.registry.models import AuditHead

    service.create(registry.vault, "looker", ["audit"], PASSWORD, "root", lambda: NOW)
    given = service.set_totp(registry.vault, "looker", SECRET, None, "root", clock=lambda: NOW).recovery_codes[0]
    (whole,) = AuditHead.objects.values_list("mac", flat=True)
    AuditHead.objects.update(mac=bytes(32))
    try:
        assert attempt(registry.vault, "looker", PASSWORD, NOW, given)
    finally:
        AuditHead.objects.update(mac=whole)


def test_admin_unlocks_and_the_trail_says_so(registry: TemporaryRegistry):
    from provisioning.operators import lockout, service

    now_ms = int(NOW * 1000)
    lockout.begin(registry.vault, "desk", now_ms)
    lockout.Attempts.objects.update(failures=lockout.LOCK)
    assert lockout.begin(registry.vault, "desk", now_ms) is None
    service.enable(registry.vault, "desk", "root", lambda: NOW)
    assert last_events(1)[0][:2] == ("operator_unlocked", "desk")
    assert attempt(registry.vault, "desk", PASSWORD, NOW)


def test_each_failure_makes_the_next_wait_longer(registry: TemporaryRegistry):
    from provisioning.operators import lockout

    waits = [lockout.wait_s(failures) for failures in range(11)]
    assert waits[:3] == [0, 0, 0] and waits[3] > 0
    assert all(later >= 2 * earlier for earlier, later in itertools.pairwise(waits))
    for _ in range(3):
        assert not attempt(registry.vault, "desk", WRONG, NOW)
    # while it waits, not even the right one is looked at, and nothing is counted
    assert not attempt(registry.vault, "desk", PASSWORD, NOW + waits[3] - 1)
    assert '"reason":"waits"' in last_events(1)[0][2]
    assert attempt(registry.vault, "desk", PASSWORD, NOW + waits[3])


def test_guesses_at_the_same_time_get_no_more_tries(registry: TemporaryRegistry):
    from django.db import connections

    from provisioning.operators import lockout

    looked_at: list[int | None] = []

    def guess() -> None:
        try:
            looked_at.append(lockout.begin(registry.vault, "desk", int(NOW * 1000)))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=guess) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(looked_at) == 20
    assert sorted(failures for failures in looked_at if failures is not None) == [1, 2, 3]


def test_wrong_code_counts_like_a_wrong_password(registry: TemporaryRegistry):
    for _ in range(3):
        assert not attempt(registry.vault, "victim", PASSWORD, NOW, "000000")
    assert '"failures":3,"reason":"code"' in last_events(1)[0][2]
    assert not attempt(registry.vault, "victim", PASSWORD, NOW, code(NOW))


# what tells names


def test_names_cannot_be_told_from_the_answers(registry: TemporaryRegistry):
    from provisioning.operators import sessions
    from provisioning.operators.models import Operator

    Operator.objects.filter(name="desk").update(is_active=False)
    answers = set()
    try:
        for name, password, code_ in (
            ("nobody", PASSWORD, ""),
            ("victim", WRONG, ""),
            ("victim", PASSWORD, ""),
            ("victim", PASSWORD, "123456"),
            ("desk", PASSWORD, ""),
            ("x" * 500, PASSWORD, ""),
        ):
            with pytest.raises(LoginRefused) as refused:
                sessions.login(registry.vault, name, password, code_, lambda: NOW)
            answers.add((str(refused.value), refused.value.remedy))
    finally:
        Operator.objects.filter(name="desk").update(is_active=True)
    assert len(answers) == 1


def test_names_cannot_be_told_from_lockouts(registry: TemporaryRegistry):
    """A name that nobody has waits and locks as one does that somebody has."""
    from provisioning.operators import lockout

    seen = {
        name: [lockout.begin(registry.vault, name, int((NOW + at) * 1000)) for at in (0, 0, 0, 0, 5, 6, 15, 40, 90)]
        for name in ("victim", "nobody")
    }
    assert seen["victim"] == seen["nobody"]
    assert None in seen["nobody"]


def test_names_cannot_be_told_from_the_time(registry: TemporaryRegistry, monkeypatch: pytest.MonkeyPatch):
    """As many argon2 computations, and about as much time: medians, interleaved."""
    from django.contrib.auth.hashers import Argon2PasswordHasher

    hashed: list[str] = []
    for method in ("encode", "verify"):
        honest: Callable = getattr(Argon2PasswordHasher, method)

        def counting(self, *arguments, honest=honest, **options):
            hashed.append("argon2")
            return honest(self, *arguments, **options)

        monkeypatch.setattr(Argon2PasswordHasher, method, counting)
    took: dict[str, list[float]] = {"victim": [], "nobody": []}
    for round_ in range(5):
        for name, times in took.items():
            hashed.clear()
            begun = time.perf_counter()
            assert not attempt(registry.vault, name, WRONG, NOW + 1e6 * round_)
            times.append(time.perf_counter() - begun)
            assert hashed == ["argon2"]
    known, unknown = (statistics.median(times) for times in took.values())
    # argon2 takes 0.1 s, the rest some ms; a machine that does other things besides varies by more
    assert abs(known - unknown) < 0.5 * max(known, unknown)


def test_password_typed_in_place_of_the_name_is_not_in_the_trail(registry: TemporaryRegistry):
    attempt(registry.vault, "hunter2 hunter2", "", NOW)
    assert last_events(1)[0][:2] == ("authn_login_fail", "unknown")
    assert b"hunter2" not in registry.dump()


# second factor


def test_replayed_totp_code_is_refused(registry: TemporaryRegistry):
    seen = code(NOW)
    assert attempt(registry.vault, "victim", PASSWORD, NOW, seen)
    assert not attempt(registry.vault, "victim", PASSWORD, NOW + 1, seen)
    assert '"reason":"code_replayed"' in last_events(1)[0][2]
    # nor an earlier one that is still within the time, once a later one was used
    assert not attempt(registry.vault, "victim", PASSWORD, NOW + 2, code(NOW - 30))
    assert attempt(registry.vault, "victim", PASSWORD, NOW + 30, code(NOW + 30))


def test_one_totp_code_in_two_logins_at_once_lets_one_in(registry: TemporaryRegistry):
    from django.db import connections

    results: list[str | None] = []

    def use() -> None:
        from provisioning.operators import factors
        from provisioning.operators.models import Operator

        try:
            results.append(factors.take(registry.vault, Operator.objects.get(name="victim"), code(NOW), NOW))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, results)) == ["replayed"] * 7 + ["totp"]


def test_recovery_code_is_taken_once_and_from_its_owner_only(registry: TemporaryRegistry):
    from provisioning.operators import factors
    from provisioning.operators.models import Operator

    victim, other = Operator.objects.get(name="victim"), make_operator(registry.vault, "other", ["fleet"])
    other.totp_wrapped = factors.seal(registry.vault, other, SECRET)
    first, second, *_ = factors.new_recovery_codes(registry.vault, victim)
    assert factors.take(registry.vault, other, first, NOW) is None
    assert attempt(registry.vault, "victim", PASSWORD, NOW, f" {first.lower()} ")
    assert last_events(2)[0][0] == "operator_recovery_code_used"
    assert not attempt(registry.vault, "victim", PASSWORD, NOW, first)
    assert attempt(registry.vault, "victim", PASSWORD, NOW + 60, second)


def test_password_alone_opens_nothing_for_a_privileged_role(registry: TemporaryRegistry):
    from provisioning.operators import roles, sessions

    for role in ("release", "fleet", "care", "audit", "admin"):
        text = session_of(registry.vault, f"half-{role}", [role], second_factor=False)
        acting = sessions.resolve(registry.vault, text)
        assert [action for action in roles.ACTIONS if sessions.why_not(acting, action) is None] == []
        assert sessions.why_not(acting, roles.OWN_TOKEN) is not None


# stolen and forged


def test_session_and_token_stolen_from_the_database_are_useless(registry: TemporaryRegistry):
    from provisioning.operators import sessions
    from provisioning.operators.models import Credential

    session = session_of(registry.vault, "robbed", ["fleet"])
    acting = sessions.resolve(registry.vault, session)
    token = sessions.create_token(registry.vault, acting, ["device.list"], 9)
    dump = registry.dump()
    for text in (session, token):
        secret = sessions._parse(text)[1]
        for form in (text.encode(), text[4:].encode(), secret, secret.hex().encode()):
            assert form not in dump
        row = Credential.objects.get(number=sessions._parse(text)[0])
        # all that a thief of the database has: the number and the MAC
        stolen = sessions.PREFIXES[row.kind] + sessions.base64.urlsafe_b64encode(row.number + row.mac).decode()
        with pytest.raises(SessionRefused, match="not known"):
            sessions.admit(registry.vault, stolen.rstrip("="), "device.list")
        assert last_events(1)[0][0] == "authz_fail"
    assert PASSWORD.encode() not in dump and SECRET not in dump


@pytest.mark.parametrize(
    "change",
    [
        {"scope": ["device.list", "rollout.manage"]},
        {"expires_at_ms": 9_999_999_999_999},
        {"second_factor": False},
        {"created_at_ms": 1},
        {"kind": "session"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_token_that_was_changed_in_the_database_is_refused(registry: TemporaryRegistry, change: dict):
    from provisioning.operators import sessions
    from provisioning.operators.models import Credential

    acting = sessions.resolve(registry.vault, session_of(registry.vault, "changed", ["fleet"]))
    token = sessions.create_token(registry.vault, acting, ["device.list"], 9)
    assert sessions.admit(registry.vault, token, "device.list")
    Credential.objects.filter(kind="token", operator__name="changed").update(**change)
    with pytest.raises(SessionRefused, match="not known"):
        sessions.admit(registry.vault, token, "device.list")
    Credential.objects.filter(operator__name="changed").delete()


def test_session_of_one_operator_moved_to_another_is_refused(registry: TemporaryRegistry):
    from provisioning.operators import sessions
    from provisioning.operators.models import Credential, Operator

    text = session_of(registry.vault, "mover", ["care"])
    root = Operator.objects.get(name="root")
    Credential.objects.filter(operator__name="mover").update(operator=root)
    with pytest.raises(SessionRefused):
        sessions.admit(registry.vault, text, "operator.view")


def test_role_written_into_the_database_is_refused(registry: TemporaryRegistry):
    from provisioning.operators import sessions
    from provisioning.operators.models import Grant, Operator

    text = session_of(registry.vault, "riser", ["care"])
    riser, root = Operator.objects.get(name="riser"), Operator.objects.get(name="root")
    copied = Grant.objects.get(operator=root)
    forged = {"role": "admin", "granted_at_ms": copied.granted_at_ms, "granted_by": "", "mac": bytes(copied.mac)}
    row = Grant.objects.create(operator=riser, **forged)
    with pytest.raises(NotPermitted, match="outside of this program"):
        sessions.admit(registry.vault, text, "operator.manage")
    row.delete()
    Grant.objects.filter(operator=riser).update(role="fleet")
    with pytest.raises(NotPermitted, match="outside of this program"):
        sessions.admit(registry.vault, text, "rollout.manage")
    Grant.objects.filter(operator=riser).update(role="care")
    # two operators' names exchanged
    Operator.objects.filter(pk=root.pk).update(name="x")
    Operator.objects.filter(pk=riser.pk).update(name="root")
    try:
        with pytest.raises(NotPermitted, match="outside of this program"):
            sessions.admit(registry.vault, text, "reading.view")
    finally:
        Operator.objects.filter(pk=riser.pk).update(name="riser")
        Operator.objects.filter(pk=root.pk).update(name="root")
    assert sessions.admit(registry.vault, text, "reading.view")


def test_role_that_was_taken_away_does_not_come_back_by_its_old_row(registry: TemporaryRegistry):
    from provisioning.operators import service, sessions
    from provisioning.operators.models import Grant

    text = session_of(registry.vault, "former", ["fleet", "care"])
    service.change_roles(registry.vault, "former", [], ["fleet"], "root")
    with pytest.raises(NotPermitted, match="may not do this"):
        sessions.admit(registry.vault, text, "rollout.manage")
    Grant.objects.filter(operator__name="former", role="fleet").update(ended_at_ms=None)
    with pytest.raises(NotPermitted, match="outside of this program"):
        sessions.admit(registry.vault, text, "rollout.manage")


def test_second_factor_copied_from_another_row_is_refused(registry: TemporaryRegistry):
    from provisioning.operators.models import Operator

    own = bytes(Operator.objects.get(name="victim").totp_wrapped)
    others = bytes(Operator.objects.get(name="root").totp_wrapped)  # says: none
    try:
        for forged in (others, b""):
            Operator.objects.filter(name="victim").update(totp_wrapped=forged)
            assert not attempt(registry.vault, "victim", PASSWORD, NOW, code(NOW))
            assert '"reason":"code_forged"' in last_events(1)[0][2]
    finally:
        Operator.objects.filter(name="victim").update(totp_wrapped=own)


# tokens


def test_expired_and_revoked_tokens_are_refused(registry: TemporaryRegistry):
    from provisioning.operators import sessions

    acting = sessions.resolve(registry.vault, session_of(registry.vault, "forgetful", ["fleet"]))
    token = sessions.create_token(registry.vault, acting, ["device.list"], 1, clock=lambda: NOW)
    assert sessions.admit(registry.vault, token, "device.list", lambda: NOW + 86_399)
    with pytest.raises(SessionRefused, match="its time is over"):
        sessions.admit(registry.vault, token, "device.list", lambda: NOW + 86_401)
    assert last_events(1)[0][0] == "authn_token_reuse"
    sessions.revoke_token(registry.vault, sessions._parse(token)[0].hex(), acting)
    with pytest.raises(SessionRefused, match="ended"):
        sessions.admit(registry.vault, token, "device.list", lambda: NOW)


def test_token_beyond_its_scope_is_refused(registry: TemporaryRegistry):
    from provisioning.operators import roles, sessions

    acting = sessions.resolve(registry.vault, session_of(registry.vault, "narrow", ["fleet"]))
    token = sessions.create_token(registry.vault, acting, ["device.list"], 9)
    for action in {*roles.ACTIONS, *roles.OWN} - {"device.list"}:
        with pytest.raises(NotPermitted):
            sessions.admit(registry.vault, token, action)
        assert last_events(1)[0][:2] == ("authz_fail", action)


def test_token_ends_with_its_owners_role_and_account(registry: TemporaryRegistry):
    from provisioning.operators import service, sessions

    acting = sessions.resolve(registry.vault, session_of(registry.vault, "leaver", ["fleet", "care"]))
    token = sessions.create_token(registry.vault, acting, ["rollout.view"], 9)
    service.change_roles(registry.vault, "leaver", [], ["fleet"], "root")
    with pytest.raises(NotPermitted):
        sessions.admit(registry.vault, token, "rollout.view")
    service.change_roles(registry.vault, "leaver", ["fleet"], [], "root")
    assert sessions.admit(registry.vault, token, "rollout.view")
    service.disable(registry.vault, "leaver", "root")
    with pytest.raises(SessionRefused, match="ended"):
        sessions.admit(registry.vault, token, "rollout.view")
    service.enable(registry.vault, "leaver", "root")
    with pytest.raises(SessionRefused, match="ended"):
        sessions.admit(registry.vault, token, "rollout.view")


# separation


def test_who_issued_batches_never_signs_releases(registry: TemporaryRegistry):
    from provisioning.operators import service

    session_of(registry.vault, "climber", ["factory"])
    with pytest.raises(OperatorError, match="nobody has both"):
        service.change_roles(registry.vault, "climber", ["release"], [], "root")
    with pytest.raises(OperatorError, match="nobody has both"):
        service.change_roles(registry.vault, "climber", ["release"], ["factory"], "root")
    service.change_roles(registry.vault, "climber", ["care"], ["factory"], "root")
    with pytest.raises(OperatorError, match="not even one after the other"):
        service.change_roles(registry.vault, "climber", ["release"], ["care"], "root")


def test_admin_cannot_give_itself_a_role_nor_free_itself(registry: TemporaryRegistry):
    from provisioning.operators import service
    from provisioning.operators.models import Operator

    for attempt_ in (
        lambda: service.change_roles(registry.vault, "root", ["release"], ["admin"], "root"),
        lambda: service.disable(registry.vault, "root", "root"),
        lambda: service.reset_password(registry.vault, "root", WRONG, "root"),
        lambda: service.reset_totp(registry.vault, "root", "root"),
    ):
        with pytest.raises(OperatorError, match="themselves"):
            attempt_()
    session_of(registry.vault, "second", ["admin"])
    Operator.objects.exclude(name__in=("root", "second", "desk", "victim")).update(is_active=False)
    service.disable(registry.vault, "root", "second")
    try:
        with pytest.raises(OperatorError, match="last admin"):
            service.change_roles(registry.vault, "second", ["fleet"], ["admin"], "root")
    finally:
        service.enable(registry.vault, "root", "second")
        service.disable(registry.vault, "second", "root")


def test_a_second_first_admin_is_refused(registry: TemporaryRegistry):
    from provisioning.operators import service

    with pytest.raises(OperatorError, match="has operators"):
        service.create_first(registry.vault, "usurper", PASSWORD)


# files


@pytest.fixture
def here(registry: TemporaryRegistry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr("host_tools.cli.connection.open_registry", lambda *_: registry.vault)
    for name in (session_file.ENVIRONMENT, guard.TOKEN_FILE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_session_and_token_files_that_others_can_read_are_refused(
    registry: TemporaryRegistry, here: Path, monkeypatch: pytest.MonkeyPatch, mode: int
):
    from provisioning.operators import sessions
    from provisioning.signers import SignerError

    path = log_in(registry.vault, here, "fleet", name="careless")
    monkeypatch.setenv(session_file.ENVIRONMENT, str(path))
    assert guard.enter("r.db", here / "key", "device.list").name == "careless"
    path.chmod(mode)
    with pytest.raises(SignerError, match="others can read the session"):
        guard.enter("r.db", here / "key", "device.list")
    path.chmod(0o600)
    acting = sessions.resolve(registry.vault, guard.presented("r.db"))
    token = private_file(here / "token", sessions.create_token(registry.vault, acting, ["device.list"], 1))
    monkeypatch.setenv(guard.TOKEN_FILE, str(token))
    assert "/" in guard.enter("r.db", here / "key", "device.list").actor
    token.chmod(mode)
    with pytest.raises(SignerError, match="others can read the token"):
        guard.enter("r.db", here / "key", "device.list")


def test_login_keeps_its_session_in_a_file_of_its_owner(registry: TemporaryRegistry, here: Path):
    text = session_of(registry.vault, "keeper", ["fleet"])
    path = Path(session_file.store("r.db", "keeper", text))
    assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o077 == 0
    assert session_file.load("r.db") == text
    # one for each database, and a password in its URL makes none of its own
    assert session_file.path_of("r.db") != session_file.path_of("other.db")
    urls = ("postgresql://a:secret@db/x", "postgresql://b@db/x")
    assert len({session_file.path_of(url) for url in urls}) == 1
    session_file.forget("r.db")
    assert session_file.load("r.db") is None


def test_session_in_the_keyring_is_not_in_the_file(registry: TemporaryRegistry, here: Path):
    import keyring
    from keyring.backend import KeyringBackend

    class Memory(KeyringBackend):
        priority = 5  # type: ignore[assignment]
        kept: dict[tuple[str, str], str] = {}

        def set_password(self, service: str, username: str, password: str) -> None:
            self.kept[service, username] = password

        def get_password(self, service: str, username: str) -> str | None:
            return self.kept.get((service, username))

        def delete_password(self, service: str, username: str) -> None:
            del self.kept[service, username]

    before = keyring.get_keyring()
    keyring.set_keyring(Memory())
    try:
        text = session_of(registry.vault, "ringer", ["fleet"])
        assert session_file.store("r.db", "ringer", text) == "keyring"
        assert text[4:] not in session_file.path_of("r.db").read_text()
        assert guard.enter("r.db", here / "key", "device.list").name == "ringer"
        session_file.forget("r.db")
        assert Memory.kept == {} and session_file.load("r.db") is None
    finally:
        keyring.set_keyring(before)


def test_session_in_a_token_file_is_refused(registry: TemporaryRegistry, here: Path, monkeypatch: pytest.MonkeyPatch):
    stolen = private_file(here / "stolen", session_of(registry.vault, "carried", ["fleet"]))
    monkeypatch.setenv(guard.TOKEN_FILE, str(stolen))
    with pytest.raises(cli.CommandFailed, match="no operator's token"):
        guard.enter("r.db", here / "key", "device.list")


@pytest.mark.parametrize("text", ["", "sbs_", "sbt_AAAA", "sbs_" + "A" * 54, "sbx_" + "A" * 54, "sbs_" + "é" * 9, "\0"])
def test_text_that_is_no_session_is_refused(registry: TemporaryRegistry, text: str):
    from provisioning.operators import sessions

    with pytest.raises(SessionRefused):
        sessions.admit(registry.vault, text, "device.list")


def test_another_registrys_session_is_refused(registry: TemporaryRegistry):
    """The same rows under another master key: what a copied database is without its key."""
    from provisioning.operators import sessions
    from provisioning.registry.audit import AuditBroken

    text = session_of(registry.vault, "copied", ["fleet"])
    with pytest.raises((SessionRefused, AuditBroken)):
        sessions.admit(Vault(bytes(32)), text, "device.list")
