"""Devices' certificates: openssl accepts the chain; what says more, or other, than a device's is refused."""

import random
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID, ExtendedKeyUsageOID, NameOID

from provisioning import certificates, signers
from provisioning.certificate_key import SignerKey
from provisioning.certificates import CertificateError, Reason
from provisioning.signers import FileSigner
from tests.support import softhsm

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
EUI, OTHER_EUI = bytes.fromhex("24a160fffe123456"), bytes.fromhex("24a160fffe123457")
EUI_TEXT = EUI.hex()
DAYS, DEVICE_DAYS = 30, 3650


def key(number: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(number, ec.SECP256R1())


ROOT_KEY, ISSUER_KEY, OTHER_KEY, DEVICE_KEY = key(11), key(12), key(13), key(14)


@dataclass(frozen=True)
class Batch:
    """A root, an issuing certificate under it, and who signs for them."""

    root: bytes
    issuer: bytes
    signer: signers.Signer

    def issue(self, csr: bytes, eui: bytes = EUI, now: datetime = NOW, batch: str | None = None) -> bytes:
        return certificates.issue(csr, eui, self.issuer, self.signer, now, batch)


def make_batch(name: str = "B1", issuer_key: ec.EllipticCurvePrivateKey = ISSUER_KEY) -> Batch:
    root = certificates.create_root(FileSigner(ROOT_KEY), "Sealband root", 7300, NOW)
    signer = FileSigner(issuer_key)
    issuer = certificates.create_issuer(
        root, FileSigner(ROOT_KEY), signer.public_key, name, "t-beam-sx1262", DAYS, DEVICE_DAYS, NOW
    )
    return Batch(root, issuer, signer)


@pytest.fixture(scope="module")
def batch() -> Batch:
    return make_batch()


def request(
    subject: str | list[tuple[x509.ObjectIdentifier, str]] = EUI_TEXT,
    private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = DEVICE_KEY,
    extensions: tuple[x509.ExtensionType, ...] = (),
    attributes: tuple[tuple[x509.ObjectIdentifier, bytes], ...] = (),
    algorithm: HashAlgorithm = SHA256(),  # noqa: B008
) -> bytes:
    """A PKCS#10 request by another library's hand."""
    names = [(NameOID.COMMON_NAME, subject)] if isinstance(subject, str) else subject
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(oid, value) for oid, value in names])
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    for oid, value in attributes:
        builder = builder.add_attribute(oid, value)
    return builder.sign(private, algorithm).public_bytes(Encoding.DER)


def refused(reason: Reason, what: Callable[[], object]) -> CertificateError:
    with pytest.raises(CertificateError) as error:
        what()
    assert error.value.reason is reason, error.value
    assert error.value.remedy
    return error.value


def openssl(*arguments: str | Path, check: bool = True) -> str:
    done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=30)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def write(folder: Path, **files: bytes) -> None:
    for name, der in files.items():
        (folder / f"{name}.pem").write_bytes(certificates.to_pem(der))


def verify(folder: Path, at: datetime = NOW, *more: str) -> str:
    """What openssl says of device.pem under issuer.pem under root.pem, as a broker asks it."""
    return openssl(
        "verify", "-x509_strict", "-purpose", "sslclient", "-attime", str(int(at.timestamp())),
        "-CAfile", folder / "root.pem", "-untrusted", folder / "issuer.pem", *more, folder / "device.pem",
        check=False,
    )  # fmt: skip


def forged(batch: Batch, device: bytes, **changes: object) -> bytes:
    """A device's certificate with changes, signed with the issuing key all the same: what a stolen key can make."""
    old = x509.load_der_x509_certificate(device)
    parent = x509.load_der_x509_certificate(batch.issuer)
    values = {
        "subject": old.subject, "issuer": parent.subject, "public_key": old.public_key(),
        "begins": old.not_valid_before_utc, "ends": old.not_valid_after_utc, "key": ISSUER_KEY, "algorithm": SHA256(),
        "extensions": [(extension.value, extension.critical) for extension in old.extensions],
    } | changes  # fmt: skip
    builder = (
        x509.CertificateBuilder()
        .subject_name(values["subject"])
        .issuer_name(values["issuer"])
        .public_key(values["public_key"])
        .serial_number(old.serial_number)
        .not_valid_before(values["begins"])
        .not_valid_after(values["ends"])
    )
    for value, critical in values["extensions"]:
        builder = builder.add_extension(value, critical=critical)
    return builder.sign(values["key"], values["algorithm"]).public_bytes(Encoding.DER)


def name(unit: str, common: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


# what is made


def test_openssl_accepts_the_chain_from_its_first_to_its_last_day(batch: Batch, tmp_path: Path):
    write(tmp_path, root=batch.root, issuer=batch.issuer, device=batch.issue(request()))
    for at in (NOW, NOW + timedelta(days=DEVICE_DAYS) - timedelta(seconds=1)):
        assert verify(tmp_path, at).endswith("device.pem: OK\n")
    assert "certificate has expired" in verify(tmp_path, NOW + timedelta(days=DEVICE_DAYS, seconds=1))
    assert "unsuitable certificate purpose" in openssl(
        "verify", "-purpose", "sslserver", "-attime", str(int(NOW.timestamp())), "-CAfile", tmp_path / "root.pem",
        "-untrusted", tmp_path / "issuer.pem", tmp_path / "device.pem", check=False,
    )  # fmt: skip


def test_openssl_prints_what_a_devices_certificate_says(batch: Batch, tmp_path: Path):
    write(tmp_path, issuer=batch.issuer, device=batch.issue(request()))
    said = openssl("x509", "-in", tmp_path / "device.pem", "-noout", "-text", "-nameopt", "RFC2253")
    for line in (
        "Subject: CN=24a160fffe123456,OU=B1",
        "Issuer: CN=t-beam-sx1262,OU=B1",
        "ASN1 OID: prime256v1",
        "Signature Algorithm: ecdsa-with-SHA256",
        "CA:FALSE",
        "X509v3 Key Usage: critical\n                Digital Signature\n",
        "TLS Web Client Authentication",
    ):
        assert line in said
    said = openssl("x509", "-in", tmp_path / "issuer.pem", "-noout", "-text")
    for line in (
        "CA:TRUE, pathlen:0",
        "Certificate Sign, CRL Sign\n",
        "Not Before: Mar  1 12:00:00 2026 GMT, Not After: Mar 31 12:00:00 2026 GMT",
        "X509v3 Name Constraints: critical\n                Permitted:\n                  DirName:OU = B1",
    ):
        assert line in said


def test_request_made_by_openssl_is_accepted(batch: Batch, tmp_path: Path):
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-sha256", "-keyout",
            tmp_path / "key.pem", "-subj", f"/CN={EUI.hex()}", "-outform", "DER", "-out", tmp_path / "csr.der",
            "-config", "/dev/null")  # fmt: skip
    device = batch.issue((tmp_path / "csr.der").read_bytes())
    assert certificates.check_device(device, batch.issuer, EUI, NOW).batch == "B1"


def test_registry_keeps_what_names_and_ends_a_certificate(batch: Batch):
    device = batch.issue(request(), batch="B1")
    kept = certificates.check_device(device, batch.issuer, EUI, NOW, "B1")
    other = x509.load_der_x509_certificate(device)
    assert kept.serial == other.serial_number and 0 < kept.serial < 1 << 159
    assert kept.digest == other.fingerprint(SHA256())
    assert kept.public_key == FileSigner(DEVICE_KEY).public_key
    assert (kept.begins, kept.ends) == (other.not_valid_before_utc, other.not_valid_after_utc)
    assert kept.ends == NOW + timedelta(days=DEVICE_DAYS)
    assert certificates.check_device(batch.issue(request()), batch.issuer, EUI).serial != kept.serial


def test_certificate_begins_early_enough_for_a_broker_whose_clock_is_behind(batch: Batch):
    device = x509.load_der_x509_certificate(batch.issue(request(), now=NOW + timedelta(days=1)))
    assert device.not_valid_before_utc == NOW + timedelta(days=1) - certificates.CLOCK_SKEW
    # but never before its issuer, or the check would find it outside the period
    assert x509.load_der_x509_certificate(batch.issue(request())).not_valid_before_utc == NOW


@softhsm.needs_softhsm()
def test_root_and_issuing_key_on_a_token_sign_certificates_and_lists(tmp_path: Path):
    softhsm.make_key("certificate root")
    softhsm.make_key("certificate issuer")
    root_signer = signers.open_signer(softhsm.uri("certificate%20root"))
    signer = signers.open_signer(softhsm.uri("certificate%20issuer"))
    root = certificates.create_root(root_signer, "Token root", 7300, NOW)
    issuer = certificates.create_issuer(root, root_signer, signer.public_key, "B2", "m", DAYS, DEVICE_DAYS, NOW)
    device = certificates.issue(request(), EUI, issuer, signer, NOW)
    revoked = certificates.crl(
        issuer, signer, {certificates.check_device(device, issuer, EUI).serial: NOW}, days=7, now=NOW
    )
    write(tmp_path, root=root, issuer=issuer, device=device, crl=revoked)
    assert verify(tmp_path).endswith("device.pem: OK\n")
    assert "certificate revoked" in verify(tmp_path, NOW, "-crl_check", "-CRLfile", str(tmp_path / "crl.pem"))


def test_signer_in_a_certificates_builder_gives_nothing_out_and_signs_with_nothing_else():
    wrapped = SignerKey(FileSigner(ISSUER_KEY))
    for attempt in (
        wrapped.private_numbers,
        wrapped.private_bytes,
        lambda: wrapped.exchange(ec.ECDH(), DEVICE_KEY.public_key()),
        lambda: wrapped.sign(b"m", ec.ECDSA(SHA384())),
    ):
        with pytest.raises(TypeError):
            attempt()


# attacks on the issue


def test_request_of_another_device_is_refused(batch: Batch):
    refused(Reason.OTHER_DEVICE, lambda: batch.issue(request(OTHER_EUI.hex())))


@pytest.mark.parametrize(
    "subject",
    [
        EUI.hex().upper(),
        EUI.hex() + " ",
        [(NameOID.COMMON_NAME, EUI.hex()), (NameOID.COMMON_NAME, OTHER_EUI.hex())],
        [(NameOID.ORGANIZATIONAL_UNIT_NAME, "B2"), (NameOID.COMMON_NAME, EUI.hex())],
        [(NameOID.ORGANIZATION_NAME, EUI.hex())],
        [],
    ],
)
def test_request_with_another_name_is_refused(batch: Batch, subject: str | list[tuple[x509.ObjectIdentifier, str]]):
    refused(Reason.OTHER_DEVICE, lambda: batch.issue(request(subject)))


@pytest.mark.parametrize(
    "extension",
    [
        x509.BasicConstraints(ca=True, path_length=None),
        x509.BasicConstraints(ca=False, path_length=None),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
        x509.SubjectAlternativeName([x509.DNSName("broker.example.org")]),
    ],
    ids=["CA:TRUE", "CA:FALSE", "server", "DNS name"],
)
def test_request_that_asks_for_more_is_refused(batch: Batch, extension: x509.ExtensionType):
    refused(Reason.SURPLUS, lambda: batch.issue(request(extensions=(extension,))))


def test_request_with_another_attribute_is_refused(batch: Batch):
    refused(Reason.SURPLUS, lambda: batch.issue(request(attributes=((AttributeOID.CHALLENGE_PASSWORD, b"x"),))))


def test_request_on_another_curve_or_of_another_kind_of_key_is_refused(batch: Batch):
    for private in (
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP256K1()),
        rsa.generate_private_key(65537, 2048),
    ):
        refused(Reason.WRONG_KEY, lambda private=private: batch.issue(request(private=private)))


def test_request_signed_with_another_hash_is_refused(batch: Batch):
    refused(Reason.BAD_SIGNATURE, lambda: batch.issue(request(algorithm=SHA384())))


def test_request_whose_key_was_swapped_is_refused(batch: Batch):
    # a station in the middle that puts in its own key cannot sign for it, nor sign for the board's
    public, other = (FileSigner(private).public_key for private in (DEVICE_KEY, OTHER_KEY))
    csr = request()
    assert csr.count(public) == 1
    refused(Reason.BAD_SIGNATURE, lambda: batch.issue(csr.replace(public, other)))


def test_request_for_the_issuing_key_itself_is_refused(batch: Batch):
    refused(Reason.WRONG_KEY, lambda: batch.issue(request(private=ISSUER_KEY)))


def test_request_that_is_none_or_has_something_behind_it_is_refused(batch: Batch):
    for csr in (b"", b"\x30\x00", request()[:-1], request() + b"\0", batch.issuer, request() + bytes(5000)):
        refused(Reason.MALFORMED, lambda csr=csr: batch.issue(csr))


@pytest.mark.parametrize("late", [timedelta(seconds=-1), timedelta(days=DAYS, seconds=1), timedelta(days=4000)])
def test_issuing_key_that_was_kept_issues_nothing_outside_its_period(batch: Batch, late: timedelta):
    refused(Reason.OUT_OF_TIME, lambda: batch.issue(request(), now=NOW + late))


def test_issuing_certificate_of_another_batch_is_refused(batch: Batch):
    said = refused(Reason.OTHER_BATCH, lambda: batch.issue(request(), batch="B2"))
    assert "for batch B1, not for B2" in str(said)


def test_issuing_certificate_without_its_key_or_that_is_none_is_refused(batch: Batch):
    for certificate, signer in (
        (batch.issuer, FileSigner(OTHER_KEY)),
        (batch.root, FileSigner(ROOT_KEY)),
        (batch.issue(request()), FileSigner(DEVICE_KEY)),
    ):
        issuer = replace(batch, issuer=certificate, signer=signer)
        refused(Reason.OTHER_ISSUER, lambda issuer=issuer: issuer.issue(request()))


@pytest.mark.parametrize("dropped", [x509.NameConstraints, x509.PrivateKeyUsagePeriod, x509.BasicConstraints])
def test_issuing_certificate_that_is_not_limited_is_refused(batch: Batch, dropped: type[x509.ExtensionType]):
    whole = x509.load_der_x509_certificate(batch.issuer)
    left = [(one.value, one.critical) for one in whole.extensions if not isinstance(one.value, dropped)]
    wide = forged(batch, batch.issuer, extensions=left, issuer=whole.issuer, key=ROOT_KEY)
    refused(Reason.OTHER_ISSUER, lambda: replace(batch, issuer=wide).issue(request()))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"batch": "B/1"}, Reason.MALFORMED),
        ({"model": ""}, Reason.MALFORMED),
        ({"issuer_public_key": bytes(65)}, Reason.WRONG_KEY),
        ({"root_signer": FileSigner(OTHER_KEY)}, Reason.OTHER_ISSUER),
        ({"days": 0}, Reason.OUT_OF_TIME),
        ({"device_days": 0}, Reason.OUT_OF_TIME),
        ({"device_days": 7300}, Reason.OUT_OF_TIME),
        ({"now": NOW - timedelta(days=1)}, Reason.OUT_OF_TIME),
        ({"root_cert": b"x"}, Reason.MALFORMED),
        ({"root_cert": make_batch().issuer, "root_signer": FileSigner(ISSUER_KEY)}, Reason.OTHER_ISSUER),
    ],
)
def test_issuing_certificate_is_not_made(batch: Batch, changes: dict[str, object], reason: Reason):
    arguments = {
        "root_cert": batch.root, "root_signer": FileSigner(ROOT_KEY), "issuer_public_key": batch.signer.public_key,
        "batch": "B1", "model": "m", "days": DAYS, "device_days": DEVICE_DAYS, "now": NOW,
    }  # fmt: skip
    assert certificates.create_issuer(**arguments)
    refused(reason, lambda: certificates.create_issuer(**(arguments | changes)))


def test_root_without_a_proper_name_is_not_made():
    for wrong in ("", "x" * 65):
        refused(Reason.MALFORMED, lambda wrong=wrong: certificates.create_root(FileSigner(ROOT_KEY), wrong, 1, NOW))


# attacks on the import


def check(batch: Batch, device: bytes, eui: bytes = EUI, now: datetime | None = NOW) -> certificates.DeviceCertificate:
    return certificates.check_device(device, batch.issuer, eui, now)


def test_certificate_of_another_device_is_refused(batch: Batch):
    device = batch.issue(request(OTHER_EUI.hex()), OTHER_EUI)
    refused(Reason.OTHER_DEVICE, lambda: check(batch, device))
    assert check(batch, device, OTHER_EUI)


def test_certificate_by_another_batchs_issuer_is_refused(batch: Batch):
    other = make_batch("B2", OTHER_KEY)
    refused(Reason.OTHER_ISSUER, lambda: check(batch, other.issue(request())))
    # also where the other batch's key writes this batch's name
    lie = forged(batch, batch.issue(request()), key=OTHER_KEY)
    refused(Reason.BAD_SIGNATURE, lambda: check(batch, lie))
    # and where the registry looks at the wrong issuing certificate
    refused(
        Reason.OTHER_BATCH,
        lambda: certificates.check_device(other.issue(request()), other.issuer, EUI, NOW, batch="B1"),
    )


def test_certificate_for_another_batch_by_this_key_is_refused_by_us_and_by_openssl(batch: Batch, tmp_path: Path):
    device = forged(batch, batch.issue(request()), subject=name("B2", EUI.hex()))
    refused(Reason.OTHER_BATCH, lambda: check(batch, device))
    write(tmp_path, root=batch.root, issuer=batch.issuer, device=device)
    assert "permitted subtree violation" in verify(tmp_path)


def test_certificate_issued_after_the_period_is_refused(batch: Batch):
    good = batch.issue(request())
    for begins in (NOW - timedelta(seconds=1), NOW + timedelta(days=DAYS, seconds=1)):
        device = forged(batch, good, begins=begins)
        refused(Reason.OUT_OF_TIME, lambda device=device: check(batch, device, now=None))
    assert check(batch, forged(batch, good, begins=NOW + timedelta(days=DAYS)), now=None)


def test_certificate_that_outlives_its_issuer_is_refused(batch: Batch):
    ends = NOW + timedelta(days=DAYS + DEVICE_DAYS)
    device = forged(batch, batch.issue(request()), ends=ends + timedelta(seconds=1))
    refused(Reason.OUT_OF_TIME, lambda: check(batch, device))
    assert check(batch, forged(batch, batch.issue(request()), ends=ends))


def test_certificate_that_is_over_or_has_not_begun_is_refused_where_the_time_is_known(batch: Batch):
    device = batch.issue(request())
    for at in (NOW - timedelta(seconds=1), NOW + timedelta(days=DEVICE_DAYS, seconds=1)):
        refused(Reason.OUT_OF_TIME, lambda at=at: check(batch, device, now=at))
        assert check(batch, device, now=None)


@pytest.mark.parametrize(
    "change",
    [
        (x509.BasicConstraints(ca=True, path_length=None), True),
        (x509.BasicConstraints(ca=False, path_length=None), False),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectKeyIdentifier(bytes(20)), False),
        (x509.AuthorityKeyIdentifier(bytes(20), None, None), False),
        (x509.SubjectAlternativeName([x509.DNSName("broker.example.org")]), False),
        None,
    ],
    ids=["CA:TRUE", "not critical", "server", "other key id", "other issuer id", "DNS name", "one left out"],
)
def test_certificate_that_says_more_or_less_is_refused(batch: Batch, change: tuple[x509.ExtensionType, bool] | None):
    device = batch.issue(request())
    rows = [(one.value, one.critical) for one in x509.load_der_x509_certificate(device).extensions]
    kind = x509.ExtendedKeyUsage if change is None else type(change[0])
    rows = [row for row in rows if not isinstance(row[0], kind)] + ([change] if change else [])
    refused(Reason.SURPLUS, lambda: check(batch, forged(batch, device, extensions=rows)))


def test_ca_certificate_that_a_stolen_issuing_key_makes_leads_nowhere(batch: Batch, tmp_path: Path):
    below = forged(
        batch, batch.issue(request()), subject=name("B1", "below"), public_key=OTHER_KEY.public_key(),
        extensions=[(x509.BasicConstraints(ca=True, path_length=None), True)],
    )  # fmt: skip
    device = forged(
        batch, batch.issue(request()), issuer=name("B1", "below"), key=OTHER_KEY,
        extensions=[(x509.BasicConstraints(ca=False, path_length=None), True)],
    )  # fmt: skip
    write(tmp_path, root=batch.root, issuer=batch.issuer, device=device)
    (tmp_path / "issuer.pem").write_bytes(certificates.to_pem(batch.issuer) + certificates.to_pem(below))
    said = openssl("verify", "-attime", str(int(NOW.timestamp())), "-CAfile", tmp_path / "root.pem", "-untrusted",
                   tmp_path / "issuer.pem", tmp_path / "device.pem", check=False)  # fmt: skip
    assert "path length constraint exceeded" in said
    refused(Reason.OTHER_ISSUER, lambda: check(batch, device))


def test_certificate_signed_with_another_hash_or_for_another_curve_is_refused(batch: Batch):
    device = batch.issue(request())
    refused(Reason.BAD_SIGNATURE, lambda: check(batch, forged(batch, device, algorithm=SHA384())))
    other = ec.generate_private_key(ec.SECP384R1()).public_key()
    refused(Reason.WRONG_KEY, lambda: check(batch, forged(batch, device, public_key=other)))


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_damaged_certificates_and_requests_are_refused_and_nothing_worse(batch: Batch):
    device, csr = batch.issue(request()), request()
    chance = random.Random(20260301)
    for _ in range(1500):
        for good, use in ((device, lambda der: check(batch, der)), (csr, batch.issue)):
            bad = bytearray(good)
            for _ in range(chance.choice((1, 1, 2, 8))):
                bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
            if bad != good:
                with pytest.raises(CertificateError):
                    use(bytes(bad))


def test_second_encoding_of_the_same_signature_is_refused(batch: Batch):
    # a BIT STRING that leaves its last bit, a zero, unused: whoever verifies the signature does not mind
    for make, use in ((lambda: batch.issue(request()), lambda der: check(batch, der)), (request, batch.issue)):
        while (good := make())[-1] & 1:
            pass
        signature_at = good.rindex(b"\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02\x03") + 12
        assert use(good) and good[signature_at] == 0
        bad = good[:signature_at] + b"\x01" + good[signature_at + 1 :]
        refused(Reason.MALFORMED, lambda use=use, bad=bad: use(bad))


# revocation


def test_openssl_refuses_what_a_list_revokes_and_nothing_else(batch: Batch, tmp_path: Path):
    gone, stays = batch.issue(request()), batch.issue(request(OTHER_EUI.hex()), OTHER_EUI)
    serial = check(batch, gone).serial
    later = NOW + timedelta(days=400)  # the issuing key still signs lists when its period is over
    revoked = certificates.crl(batch.issuer, batch.signer, {serial: NOW + timedelta(days=2)}, days=7, now=later)
    write(tmp_path, root=batch.root, issuer=batch.issuer, crl=revoked)
    for device, said in ((gone, "certificate revoked"), (stays, "device.pem: OK")):
        write(tmp_path, device=device)
        assert said in verify(tmp_path, later, "-crl_check", "-CRLfile", str(tmp_path / "crl.pem"))
    assert "CRL has expired" in verify(
        tmp_path, later + timedelta(days=8), "-crl_check", "-CRLfile", str(tmp_path / "crl.pem")
    )
    said = openssl("crl", "-in", tmp_path / "crl.pem", "-noout", "-text", "-CAfile", tmp_path / "issuer.pem", "-verify")
    assert "verify OK" in said
    assert f"{serial:X}" in said.replace(":", "") and "Revocation Date: Mar  3 12:00:00 2026 GMT" in said


def test_later_list_has_the_higher_number(batch: Batch):
    numbers = [
        x509.load_der_x509_crl(certificates.crl(batch.issuer, batch.signer, {}, 7, NOW + timedelta(seconds=wait)))
        .extensions.get_extension_for_class(x509.CRLNumber)
        .value.crl_number
        for wait in (0, 1, 86_400)
    ]
    assert numbers == sorted(set(numbers))


def test_list_by_another_key_or_of_a_certificate_that_is_over_is_not_made(batch: Batch):
    refused(Reason.OTHER_ISSUER, lambda: certificates.crl(batch.issuer, FileSigner(OTHER_KEY), {}, 7, NOW))
    over = NOW + timedelta(days=DAYS + DEVICE_DAYS + 1)
    refused(Reason.OUT_OF_TIME, lambda: certificates.crl(batch.issuer, batch.signer, {}, 7, over))


def test_what_is_neither_certificate_nor_list_is_not_written_as_pem():
    refused(Reason.MALFORMED, lambda: certificates.to_pem(b"x"))
