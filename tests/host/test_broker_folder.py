"""A broker's folder: what is written, what is refused before anything is written, and what a second run changes."""

import json
import os
import pwd
import stat
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from host_tools.broker import credentials, mosquitto, rules, trial, trust
from host_tools.broker import folder as folders
from host_tools.broker.folder import FolderError, Settings
from host_tools.broker.rules import RulesError
from host_tools.broker.trust import TrustError
from host_tools.gateway.broker import BrokerError
from host_tools.release.files import FileRefused
from provisioning import certificates
from provisioning.certificate_form import CertificateError
from provisioning.signers import FileSigner
from tests.support.broker_site import BATCH, ROOT, SERVICES, BrokerSite, name_of

EUI = bytes.fromhex("24a160fffe12345a")


@pytest.fixture
def site(tmp_path: Path) -> BrokerSite:
    site = BrokerSite(tmp_path)
    site.allowed = {EUI.hex(): BATCH}
    return site


def lines(site: BrokerSite) -> list[str]:
    return (site.home / folders.CONF).read_text().splitlines()


def test_configuration_names_nobody_who_has_no_certificate(site: BrokerSite):
    site.write()
    written = lines(site)
    assert "allow_anonymous false" in written and "password_file" not in "".join(written)
    doors = [number for number, line in enumerate(written) if line.startswith("listener ")]
    assert len(doors) == 2
    for start, end in zip(doors, [*doors[1:], len(written)], strict=True):
        door = written[start:end]
        for line in (
            "require_certificate true",
            "use_subject_as_username true",
            "use_username_as_clientid true",
            "tls_version tlsv1.2",
        ):
            assert line in door
    assert sum(line.startswith("crlfile ") for line in written) == 1
    assert not [line for line in written if "debug" in line or "log_type all" in line or "subscribe" in line]


def test_folder_is_the_same_after_a_second_run(site: BrokerSite):
    crl = site.crl()
    first = site.write(crl=crl)
    assert len(first.changed) == 8 and first.restart and first.issuers == 2 and first.devices == 1
    before = {path.name: path.stat() for path in site.home.iterdir()}
    again = site.write(crl=crl)
    assert again.changed == () and not again.restart
    after = {path.name: path.stat() for path in site.home.iterdir()}
    assert {name: (at.st_ino, at.st_mtime_ns) for name, at in before.items()} == {
        name: (at.st_ino, at.st_mtime_ns) for name, at in after.items()
    }
    assert folders.load(site.home) == replace(site.settings)


def test_key_and_settings_are_nobody_elses(site: BrokerSite):
    site.write()
    assert {stat.S_IMODE(path.stat().st_mode) for path in site.home.iterdir() if path.is_file()} == {0o640}
    assert stat.S_IMODE(site.home.stat().st_mode) == 0o750


def test_brokers_certificate_is_copied_without_its_key(site: BrokerSite):
    site.write()
    assert b"PRIVATE" not in (site.home / folders.CERTIFICATE).read_bytes()
    assert b"PRIVATE" in (site.home / folders.KEY).read_bytes()


def test_time_of_the_rules_alone_is_no_change(site: BrokerSite):
    crl = site.crl()
    stamped = "# made at {}\n" + site.acl()
    for number, changed in enumerate(({folders.RULES}, set())):
        acl = stamped.format(number)
        written = folders.write(
            site.home, site.settings, acl, 1, [site.issuer, site.other_issuer], crl, datetime.now(UTC)
        )
        assert changed <= set(written.changed) and (folders.RULES in written.changed) == bool(changed)


def test_authority_that_is_taken_away_needs_a_restart_and_a_new_one_none(site: BrokerSite):
    site.write()
    now = datetime.now(UTC)
    one = folders.write(site.home, site.settings, site.acl(), 1, [site.issuer], site.crl(), now)
    assert one.restart and one.issuers == 1
    two = folders.write(site.home, site.settings, site.acl(), 1, [site.issuer, site.other_issuer], site.crl(), now)
    assert not two.restart


def test_new_authority_without_lists_needs_a_restart(site: BrokerSite):
    now = datetime.now(UTC)
    folders.write(site.home, site.settings, site.acl(), 1, [site.issuer], None, now)
    written = folders.write(site.home, site.settings, site.acl(), 1, [site.issuer, site.other_issuer], None, now)
    assert written.restart and folders.CONF not in written.changed


def refused(site: BrokerSite, error: type[Exception], match: str, **changes: object) -> None:
    crl = changes.pop("crl", None) or site.crl()
    issuers = changes.pop("issuers", [site.issuer, site.other_issuer])
    settings = replace(site.settings, **changes)  # type: ignore[arg-type]
    with pytest.raises(error, match=match) as caught:
        folders.write(site.home, settings, site.acl(), 1, issuers, crl, datetime.now(UTC))  # type: ignore[arg-type]
    assert caught.value.remedy  # type: ignore[attr-defined]
    assert not site.home.exists(), "something was written"


def test_certificate_that_no_client_would_believe_is_refused(site: BrokerSite, tmp_path: Path):
    site.server(tmp_path / "another.pem", "broker.example", "192.0.2.7")
    refused(site, TrustError, "not for localhost", certificate=tmp_path / "another.pem", key=tmp_path / "another.pem")
    refused(site, TrustError, "is not its certificate's", key=tmp_path / "another.pem")
    refused(site, TrustError, "not for localhost", **dict.fromkeys(("certificate", "key"), site.service("x").pem))
    refused(site, TrustError, "holds no certificate", certificate=_file(tmp_path / "empty", b"nothing"))
    refused(site, TrustError, "no private key", key=tmp_path / "root.crt")


def _file(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("host", "fits"),
    [
        ("broker.example", True),
        ("BROKER.example", True),
        ("x.wild.example", True),
        ("x.y.wild.example", False),
        ("wild.example", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("example", False),
    ],
)
def test_name_of_the_broker_is_compared_as_clients_do(site: BrokerSite, tmp_path: Path, host: str, fits: bool):
    path = tmp_path / "named.pem"
    site.server(path, "broker.example", "192.0.2.7", "x.wild.example" if host.startswith("x.wild") else "other.example")
    if fits:
        trust.broker(path.read_bytes(), path.read_bytes(), host, site.now)
    else:
        with pytest.raises(TrustError, match="not for"):
            trust.broker(path.read_bytes(), path.read_bytes(), host, site.now)


def test_lists_that_would_lock_devices_out_are_refused(site: BrokerSite):
    refused(site, TrustError, "no revocation list of .*B2", crl=site.crl(both=False))
    refused(site, TrustError, "ended", crl=site.crl(days=1, at=-timedelta(days=2)))
    refused(
        site, TrustError, "no revocation list in PEM", crl=b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"
    )
    # one that has the issuer's name and another's signature
    stranger = FileSigner(ROOT)
    fake = certificates.create_issuer(
        site.root, stranger, stranger.public_key, BATCH, "virtual-wearable", 600, 30, site.now - timedelta(days=400)
    )
    forged = certificates.to_pem(certificates.crl(fake, stranger, {}, 7, site.now))
    refused(
        site, TrustError, "no revocation list of .*B1", crl=forged + site.crl().split(b"-----END X509 CRL-----\n", 1)[1]
    )


def test_issuer_of_another_root_is_not_trusted(site: BrokerSite):
    refused(site, TrustError, "not signed by this root", issuers=[site.issuer, site.unknown])


def test_one_root_for_devices_and_services_is_refused(site: BrokerSite, tmp_path: Path):
    refused(site, TrustError, "devices and services", services_root=tmp_path / "root.crt")


def test_one_roots_key_under_two_certificates_is_refused_too(site: BrokerSite, tmp_path: Path):
    """Devices would get in at the services' door, where no revocation list is asked for."""
    again = tmp_path / "again.crt"
    again.write_bytes(certificates.to_pem(certificates.create_root(FileSigner(ROOT), "Devices", 300, site.now)))
    refused(site, TrustError, "devices and services", services_root=again)


def test_nobody_can_change_the_configuration_that_root_tries(site: BrokerSite, monkeypatch: pytest.MonkeyPatch):
    """Else a local user puts another one in its place in time, and root's mosquitto loads a plugin of theirs."""
    site.write()
    seen: dict[str, int] = {}
    owners: list[tuple[str, int]] = []

    class Mosquitto:
        def __init__(self, folder: Path) -> None:
            seen.update({str(each.relative_to(folder)): each.stat().st_mode for each in [folder, *folder.rglob("*")]})
            assert f"persistence_location {folder / folders.STATE}/\n" in (folder / folders.CONF).read_text()
            raise BrokerError("not this time")

    monkeypatch.setattr(trial, "MosquittoBroker", Mosquitto)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, user, group: owners.append((path.name, user)))
    with pytest.raises(BrokerError, match="not this time"):
        trial.check(site.home, site.settings)
    assert set(seen) == {".", folders.CONF, folders.SETTINGS, folders.STATE}
    assert not any(stat.S_IMODE(mode) & 0o022 for mode in seen.values())
    assert owners == [(folders.STATE, pwd.getpwnam(site.settings.user).pw_uid)]


@pytest.mark.parametrize("name", ["user", "log", "root"])
def test_setting_that_would_write_a_line_of_its_own_is_refused(site: BrokerSite, tmp_path: Path, name: str):
    if name == "root":
        with pytest.raises(ValueError, match="control character"):
            mosquitto.text(folders.configuration(Path("x\nallow_anonymous true"), site.settings, lists=False))
        return
    refused(site, FolderError, "control character", **{name: "x\nallow_anonymous true"})


def test_settings_that_somebody_spoilt_are_refused(site: BrokerSite):
    site.write()
    path = site.home / folders.SETTINGS
    raw = json.loads(path.read_text())
    unlimited = [{**raw, "limits": {**raw["limits"], "queued": figure}} for figure in (0, -1, "9", True, None)]
    wider = [{**raw, "services_listen": ["", 8884]}, {**raw, "listen": ["/x", 0]}, {**raw, "ingest": "abc"}]
    others = [{**raw, "more": 1}, {**raw, "format": "x"}, {**raw, "listen": 1}, [], {**raw, "pass_on": "no"}]
    for changed in unlimited + wider + others:
        path.write_text(json.dumps(changed))
        with pytest.raises(FolderError, match="is not what"):
            folders.load(site.home)
    assert folders.load(site.folder) is None


def test_process_number_that_is_anothers_by_now_gets_no_signal(site: BrokerSite):
    site.write()
    assert folders.reload(site.home) is None
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            (site.home / "state" / "mosquitto.pid").write_text(f"{other.pid}\n")
            assert folders.reload(site.home) is None
            for text in ("0", "1", "-1", "x", ""):
                (site.home / "state" / "mosquitto.pid").write_text(text)
                assert folders.reload(site.home) is None
            assert other.poll() is None
        finally:
            other.kill()


# rules


def test_rules_read_back_are_the_rules_written():
    clients = [
        rules.ingest("ingest"),
        rules.bridge("b", ["00005e1000000001"]),
        rules.bridge("c", ["all"], pass_on=True),
    ]
    read = rules.parse("# a remark\n\n" + rules.acl(clients))
    assert list(read.clients.values()) == clients


@pytest.mark.parametrize(
    "text",
    [
        "topic read #\n",
        "user x\npattern write sb/%u\n",
        "user x\ntopic sb/x\n",
        "user x\ntopic deny sb/x\n",
        "nonsense",
    ],
)
def test_rule_that_means_something_else_to_mosquitto_is_not_guessed_at(text: str):
    with pytest.raises(RulesError, match="is not understood"):
        rules.parse(text)


def test_bridge_writes_down_only_where_it_is_told_to_pass_on():
    own, other = "00005e1000000001", "00005e1000000002"
    for pass_on in (False, True):
        client = rules.bridge("b", [own], pass_on=pass_on)
        held = rules.Rules({client.user: client})
        assert held.may_publish(client.user, f"sb/v1/gw/{other}/down") is pass_on
        assert not held.may_publish(client.user, f"sb/v1/gw/{other}/up")
        assert not held.may_receive(client.user, f"sb/v1/gw/{other}/down")


def test_courier_delivers_and_is_answered_as_itself_only():
    own, other = "00000000000000a1", "00000000000000a2"
    client = rules.courier("c", own)
    held = rules.Rules({client.user: client})
    assert held.may_publish(client.user, f"sb/v1/courier/{own}/up")
    assert held.may_receive(client.user, f"sb/v1/courier/{own}/down")
    for topic in (f"sb/v1/courier/{other}/up", f"sb/v1/courier/{own}/down", f"sb/v1/d/{own}/up"):
        assert not held.may_publish(client.user, topic)
    assert not held.may_receive(client.user, f"sb/v1/courier/{other}/down")
    for number in ("", "+", "00000000000000A1", "a1"):
        with pytest.raises(RulesError, match="no courier's number"):
            rules.courier("c", number)


@pytest.mark.parametrize("name", ["", "x,O=y", "A", "a b", "x" * 33, "../x", "ä", "-x"])
def test_service_has_a_plain_name(name: str):
    with pytest.raises(RulesError, match="is no service's name"):
        rules.ingest(name)


@pytest.mark.parametrize("gateways", [[], ["+"], ["#"], ["00005E1000000001"], ["all", "00005e1000000001"]])
def test_bridge_has_gateways_and_no_wildcards(gateways: list[str]):
    with pytest.raises(RulesError):
        rules.bridge("b", gateways)


def test_two_services_have_two_names(site: BrokerSite):
    with pytest.raises(RulesError, match="two services are called bridge-a"):
        folders.services_rules(replace(site.settings, ingest=("bridge-a",)))


@pytest.mark.parametrize(
    ("topic_filter", "topic", "fits"),
    # MQTT 3.1.1 section 4.7.1 and 4.7.2, their examples
    [
        ("sport/tennis/player1/#", "sport/tennis/player1", True),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True),
        ("sport/tennis/+", "sport/tennis/player1/ranking", False),
        ("sport/+", "sport", False),
        ("sport/+", "sport/", True),
        ("+/+", "/finance", True),
        ("/+", "/finance", True),
        ("+", "/finance", False),
        ("#", "$SYS/broker", False),
        ("+/monitor/Clients", "$SYS/monitor/Clients", False),
        ("$SYS/#", "$SYS/monitor/Clients", True),
    ],
)
def test_filters_are_the_standards(topic_filter: str, topic: str, fits: bool):
    assert rules.matches(topic_filter, topic) is fits


@pytest.mark.parametrize(
    "subject",
    [
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, EUI.hex())]),
        name_of("B1", f"{EUI.hex()},OU=B2"),
        name_of("B1+CN=x", EUI.hex()),
        name_of("B1", EUI.hex(), NameOID.LOCALITY_NAME),
        x509.Name([*name_of("B1", "x"), x509.NameAttribute(NameOID.COMMON_NAME, EUI.hex())]),
        x509.Name(list(name_of("B1", EUI.hex()))[::-1]),
    ],
)
def test_subject_that_is_not_like_ours_is_nobody(subject: x509.Name):
    assert rules.user_of(subject) is None


def test_user_is_what_openssl_prints(site: BrokerSite):
    """mosquitto takes the name from X509_NAME_print_ex with XN_FLAG_RFC2253, which `-nameopt RFC2253` is."""
    peer = site.device(EUI)
    said = subprocess.run(
        ["openssl", "x509", "-noout", "-subject", "-nameopt", "RFC2253", "-in", peer.pem],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    leaf = x509.load_pem_x509_certificate(peer.pem.read_bytes())
    assert said.removeprefix("subject=") == rules.user_of(leaf.subject) == f"CN={EUI.hex()},OU={BATCH}"
    service = x509.load_pem_x509_certificate(site.service("ingest").pem.read_bytes())
    assert rules.user_of(service.subject) == rules.service_user("ingest")


# certificates of services


def make(site: BrokerSite, out: Path, **how: object) -> credentials.Made:
    settings = {"service": "ingest", "hosts": [], "days": 30, "now": site.now, **how}
    return credentials.make(site.folder / "services.crt", FileSigner(SERVICES), out, **settings)  # type: ignore[arg-type]


def test_certificate_is_renewed_only_where_one_is_meant(site: BrokerSite, tmp_path: Path):
    out = tmp_path / "one.pem"
    with pytest.raises(FileRefused, match="is not there"):
        make(site, out, renew=True)
    make(site, out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    first = out.read_bytes()
    with pytest.raises(FileRefused, match="is there already"):
        make(site, out)
    assert out.read_bytes() == first
    make(site, out, renew=True)
    assert out.read_bytes() != first


@pytest.mark.parametrize("host", ["", "a b", "a/b", "*.example", "bröker", "a..b", "x\n", "a" * 64 + ".b"])
def test_brokers_certificate_names_hosts_only(site: BrokerSite, tmp_path: Path, host: str):
    with pytest.raises(CertificateError, match="no host's name"):
        make(site, tmp_path / "one.pem", service=None, hosts=[host])
    assert not (tmp_path / "one.pem").exists()


def test_services_root_certifies_only_with_its_own_key_and_in_its_time(site: BrokerSite, tmp_path: Path):
    with pytest.raises(CertificateError, match="not the services' root's"):
        credentials.make(
            tmp_path / "services.crt", FileSigner(ROOT), tmp_path / "x", service="x", hosts=[], days=1, now=site.now
        )
    with pytest.raises(CertificateError, match="valid until"):
        make(site, tmp_path / "x", days=36500)
    with pytest.raises(CertificateError, match="not a root"):
        credentials.make(
            site.service("y").pem, FileSigner(SERVICES), tmp_path / "x", service="x", hosts=[], days=1, now=site.now
        )


def test_settings_need_what_cannot_be_guessed(site: BrokerSite):
    given = {name: getattr(site.settings, name) for name in ("host_name", "root", "services_root", "certificate")}
    whole = {**given, "listen": ("127.0.0.1", 1), "services_listen": ("127.0.0.1", 2)}
    make_settings: Callable[[dict[str, object]], Settings] = lambda changes: folders.changed(None, changes)  # noqa: E731
    assert make_settings(whole).key == site.settings.certificate
    assert make_settings(whole).shared != make_settings(whole).shared
    for name in given:
        with pytest.raises(FolderError, match=f"--{name.replace('_', '-')} is missing"):
            make_settings({key: value for key, value in whole.items() if key != name})
    assert os.path.isabs(make_settings({**whole, "root": Path("x")}).root)
