"""Devices' certificates at a real broker: mosquitto lets in whom the batch's issuer certified and no list revokes."""

import getpass
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from provisioning import certificates
from provisioning.signers import FileSigner

pytestmark = pytest.mark.skipif(
    not (shutil.which("mosquitto") or shutil.which("/usr/sbin/mosquitto")), reason="mosquitto is not installed"
)
EUI, OTHER_EUI = bytes.fromhex("24a160fffe123456"), bytes.fromhex("24a160fffe123457")
# MQTT 3.1.1 CONNECT with a clean session and no name, and the answer that lets it in (sections 3.1, 3.2)
CONNECT = bytes.fromhex("100c 0004 4d515454 04 02 003c 0000")
ACCEPTED = bytes.fromhex("20020000")
ROOT, ISSUER, OTHER_ISSUER, SERVER = (ec.generate_private_key(ec.SECP256R1()) for _ in range(4))


def pem_key(path: Path, key: ec.EllipticCurvePrivateKey) -> Path:
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class Site:
    """A root, the issuers of two batches of which the broker knows the first, and the broker's own certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, datetime.now(UTC) - timedelta(minutes=1)
        root = FileSigner(ROOT)
        self.root = certificates.create_root(root, "Sealband root", 7300, self.now)
        self.issuer, self.unknown = (
            certificates.create_issuer(
                self.root, root, FileSigner(key).public_key, batch, "virtual-wearable", 30, 3650, self.now
            )
            for batch, key in (("B1", ISSUER), ("B2", OTHER_ISSUER))
        )
        # the broker has both, for a device sends nothing but its own certificate
        self.trust(self.issuer)
        server = (
            x509.CertificateBuilder()
            .subject_name(common_name("localhost"))
            .issuer_name(common_name("localhost"))
            .public_key(SERVER.public_key())
            .serial_number(1)
            .not_valid_before(self.now)
            .not_valid_after(self.now + timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .sign(SERVER, SHA256())
        )
        (folder / "server.pem").write_bytes(server.public_bytes(Encoding.PEM))
        pem_key(folder / "server.key", SERVER)

    def trust(self, *issuers: bytes) -> None:
        chain = [certificates.to_pem(der) for der in (self.root, *issuers)]
        (self.folder / "ca.pem").write_bytes(b"".join(chain))

    def device(self, eui: bytes, *, known: bool = True) -> tuple[Path, int]:
        """The file of a device's certificate and key, and the certificate's serial number."""
        key = ec.generate_private_key(ec.SECP256R1())
        csr = x509.CertificateSigningRequestBuilder().subject_name(common_name(eui.hex())).sign(key, SHA256())
        issuer, signer = (self.issuer, ISSUER) if known else (self.unknown, OTHER_ISSUER)
        der = certificates.issue(csr.public_bytes(Encoding.DER), eui, issuer, FileSigner(signer), self.now)
        path = pem_key(self.folder / f"{eui.hex()}-{known}.pem", key)
        path.write_bytes(path.read_bytes() + certificates.to_pem(der))
        return path, certificates.check_device(der, issuer, eui).serial

    @contextmanager
    def broker(self, *revoked: int, named_by: str = "use_identity_as_username") -> Iterator[int]:
        """Runs mosquitto with a list of these serial numbers; gives its port."""
        lists = [
            certificates.crl(issuer, FileSigner(key), dict.fromkeys(serials, self.now), days=7, now=self.now)
            for issuer, key, serials in ((self.issuer, ISSUER, revoked), (self.unknown, OTHER_ISSUER, ()))
        ]
        (self.folder / "crl.pem").write_bytes(b"".join(map(certificates.to_pem, lists)))
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        (self.folder / "mosquitto.conf").write_text(
            f"listener {port} 127.0.0.1\n"
            f"cafile {self.folder}/ca.pem\ncrlfile {self.folder}/crl.pem\n"
            f"certfile {self.folder}/server.pem\nkeyfile {self.folder}/server.key\n"
            f"user {getpass.getuser()}\n"  # run by root, it would become another user that may not read these files
            f"require_certificate true\n{named_by} true\nlog_type all\n"
        )
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        with open(self.folder / "log", "wb") as log:
            process = subprocess.Popen([program, "-c", self.folder / "mosquitto.conf"], stderr=log, stdout=log)
        try:
            limit = time.monotonic() + 20
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 5).close()
                    break
                except ConnectionRefusedError:
                    assert time.monotonic() < limit and process.poll() is None, self.log()
                    time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            process.wait(10)

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    @contextmanager
    def link(self, port: int, certificate: Path | None) -> Iterator[ssl.SSLSocket]:
        context = ssl.create_default_context(cafile=str(self.folder / "server.pem"))
        if certificate:
            context.load_cert_chain(certificate)
        with (
            socket.create_connection(("127.0.0.1", port), 20) as raw,
            context.wrap_socket(raw, server_hostname="localhost") as link,
        ):
            yield link

    def lets_in(self, port: int, certificate: Path) -> bool:
        """Whether the broker takes a CONNECT of whoever has this certificate."""
        with self.link(port, certificate) as link:
            link.sendall(CONNECT)
            return link.recv(4) == ACCEPTED

    def refusal(self, port: int, certificate: Path | None) -> str:
        """The TLS alert that the broker ends the handshake with."""
        with pytest.raises(ssl.SSLError) as error, self.link(port, certificate) as link:
            # in TLS 1.3 it comes after the client's last word; whoever says more may get a reset in its place
            link.recv(1)
        return str(error.value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    return Site(tmp_path_factory.mktemp("broker"))


def test_broker_lets_devices_in_by_their_certificates_and_names_them_by_eui(site: Site) -> None:
    certificate, _ = site.device(EUI)
    unknown, _ = site.device(EUI, known=False)
    with site.broker() as port:
        assert site.lets_in(port, certificate)
        assert f"u'{EUI.hex()}'" in site.log()
        assert "CERTIFICATE_REQUIRED" in site.refusal(port, None)
        # of an issuer under the same root that the broker was not given
        assert "UNKNOWN_CA" in site.refusal(port, unknown)


def test_broker_refuses_the_device_that_the_list_revokes_and_no_other(site: Site) -> None:
    gone, serial = site.device(EUI)
    stays, _ = site.device(OTHER_EUI)
    with site.broker(serial) as port:
        assert "CERTIFICATE_REVOKED" in site.refusal(port, gone)
        assert site.lets_in(port, stays)


def test_issuer_of_one_batch_passes_for_anothers_device_by_common_name_but_not_by_subject(site: Site) -> None:
    # the name constraint binds OU: a broker that looks at CN alone does not see of which batch the issuer is
    rightful, _ = site.device(EUI)
    stolen, _ = site.device(EUI, known=False)
    site.trust(site.issuer, site.unknown)
    try:
        for named_by, names in (
            ("use_identity_as_username", [EUI.hex()] * 2),
            ("use_subject_as_username", [f"CN={EUI.hex()},OU=B1", f"CN={EUI.hex()},OU=B2"]),
        ):
            with site.broker(named_by=named_by) as port:
                assert site.lets_in(port, rightful)
                assert site.lets_in(port, stolen)
                assert re.findall(r"New client connected .*u'([^']*)'", site.log()) == names
    finally:
        site.trust(site.issuer)
