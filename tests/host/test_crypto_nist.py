"""The device's crypto against NIST's and the RFCs' vectors (PyPI: cryptography_vectors), run on MicroPython."""

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.support.micropython import Micropython, MicropythonError
from tests.support.vectors import cases, lines

CCM = "ciphers/AES/CCM"
FIPS = "asymmetric/ECDSA/FIPS_186-3"


@pytest.fixture(scope="module")
def device() -> Iterator[Micropython]:
    with Micropython() as micropython:
        micropython.run("from sealband.crypto import ccm, hkdf, p256")
        yield micropython


def ccm_refuses(device: Micropython, *arguments: Any) -> bool:
    with pytest.raises(MicropythonError) as refusal:
        device.call(f"ccm.decrypt{arguments!r}")
    return refusal.value.name == "AuthError"


# NIST writes an empty string as "00" beside a length of 0
def part(case: dict[str, str], name: str, length: str) -> bytes:
    return bytes.fromhex(case[name]) if int(case[length]) else b""


@pytest.mark.parametrize("bits", [128, 256])
@pytest.mark.parametrize(("family", "count"), [("VNT", 70), ("VTT", 70), ("VADT", 330), ("VPT", 250)])
def test_ccm_agrees_with_nist(device: Micropython, family: str, count: int, bits: int) -> None:
    seen = 0
    shapes = set()
    for case in cases(f"{CCM}/{family}{bits}.rsp", last="CT"):
        key, nonce, sealed = (bytes.fromhex(case[name]) for name in ("Key", "Nonce", "CT"))
        aad, plaintext = part(case, "Adata", "Alen"), part(case, "Payload", "Plen")
        tag_len = int(case["Tlen"])
        assert len(key) * 8 == bits
        assert len(nonce) == int(case["Nlen"])
        assert device.call(f"ccm.encrypt({key!r}, {nonce!r}, {plaintext!r}, {aad!r}, {tag_len})") == sealed
        assert device.call(f"ccm.decrypt({key!r}, {nonce!r}, {sealed!r}, {aad!r}, {tag_len})") == plaintext
        if seen % 10 == 0:
            broken = bytes([sealed[0] ^ 0x80]) + sealed[1:]
            assert ccm_refuses(device, key, nonce, broken, aad, tag_len)
        shapes.add((len(nonce), tag_len))
        seen += 1
    assert seen == count
    if family == "VNT":
        assert {nonce_len for nonce_len, _ in shapes} == set(range(7, 14))
    if family == "VTT":
        assert shapes == {(13, tag_len) for tag_len in (4, 6, 8, 10, 12, 14, 16)}


@pytest.mark.parametrize("bits", [128, 256])
def test_ccm_decides_as_nist_does_whether_a_tag_is_right(device: Micropython, bits: int) -> None:
    passed = failed = 0
    pending: dict[str, str] = {}
    for case in cases(f"{CCM}/DVPT{bits}.rsp", last="Result"):
        pending = case
        key, nonce, sealed = (bytes.fromhex(case[name]) for name in ("Key", "Nonce", "CT"))
        aad = part(case, "Adata", "Alen")
        arguments = (key, nonce, sealed, aad, int(case["Tlen"]))
        if case["Result"] == "Fail":
            assert ccm_refuses(device, *arguments)
            failed += 1
        else:
            assert len(device.call(f"ccm.decrypt{arguments!r}")) == int(case["Plen"])
            passed += 1
    assert pending
    assert passed + failed == 240
    assert passed and failed
    for case in cases(f"{CCM}/DVPT{bits}.rsp", last="Payload"):
        key, nonce, sealed = (bytes.fromhex(case[name]) for name in ("Key", "Nonce", "CT"))
        arguments = (key, nonce, sealed, part(case, "Adata", "Alen"), int(case["Tlen"]))
        assert device.call(f"ccm.decrypt{arguments!r}") == part(case, "Payload", "Plen")


def test_ccm_with_64_kib_of_associated_data(device: Micropython) -> None:
    """SP 800-38C appendix C example 4: the length of the associated data takes six bytes."""
    device.run("aad = bytes(range(256)) * 256")
    got = device.call(
        "ccm.encrypt(bytes(range(0x40, 0x50)), bytes(range(0x10, 0x1d)), bytes(range(0x20, 0x40)), aad, 14)"
    )
    assert got.hex() == "69915dad1e84c6376a68c2967e4dab615ae0fd1faec44cc484828529463ccf72b4ac6bec93e8598e7f0dadbcea5b"


def public_bytes(case: dict[str, str]) -> bytes:
    # a coordinate of 65 digits ("out of range") becomes 33 bytes and stays too long
    x, y = (case[name].zfill(64) for name in ("Qx", "Qy"))
    return b"\x04" + bytes.fromhex("0" * (len(x) % 2) + x) + bytes.fromhex("0" * (len(y) % 2) + y)


# a digest of another size than 32 bytes as FIPS 186-5 section 6.4.1 takes it: the leftmost 256 bits
def digest_bytes(name: str, message: bytes) -> bytes:
    return hashlib.new(name, message, usedforsecurity=False).digest()[:32].rjust(32, b"\0")


@pytest.mark.parametrize("name", ["SHA-1", "SHA-224", "SHA-256", "SHA-384", "SHA-512"])
def test_ecdsa_verifies_as_nist_does(device: Micropython, name: str) -> None:
    results = []
    for case in cases(f"{FIPS}/SigVer.rsp", last="Result", section=f"P-256,{name}"):
        digest = digest_bytes(name.replace("-", ""), bytes.fromhex(case["Msg"]))
        signature = bytes.fromhex(case["R"].zfill(64) + case["S"].zfill(64))
        good = case["Result"].startswith("P")
        assert device.call(f"p256.verify({public_bytes(case)!r}, {digest!r}, {signature!r})") is good
        results.append(good)
    assert len(results) == 15
    assert True in results and False in results


@pytest.mark.parametrize("name", ["SHA-224", "SHA-256", "SHA-384", "SHA-512"])
def test_signatures_of_nist_hold(device: Micropython, name: str) -> None:
    seen = 0
    for case in cases(f"{FIPS}/SigGen.txt", last="S", section=f"P-256,{name}"):
        private = bytes.fromhex(case["d"].zfill(64))
        digest = digest_bytes(name.replace("-", ""), bytes.fromhex(case["Msg"]))
        signature = bytes.fromhex(case["R"].zfill(64) + case["S"].zfill(64))
        assert device.call(f"p256.public_key({private!r})") == public_bytes(case)
        assert device.call(f"p256.verify({public_bytes(case)!r}, {digest!r}, {signature!r})") is True
        seen += 1
    assert seen == 15


def test_public_keys_are_those_of_nist(device: Micropython) -> None:
    seen = 0
    for case in cases(f"{FIPS}/KeyPair.rsp", last="Qy", section="P-256"):
        assert device.call(f"p256.public_key({bytes.fromhex(case['d'])!r})") == public_bytes(case)
        seen += 1
    assert seen == 10


def test_public_keys_off_the_curve_are_refused_as_by_nist(device: Micropython) -> None:
    good = bad = 0
    private = bytes(31) + b"\x02"
    for case in cases(f"{FIPS}/PKV.rsp", last="Result", section="P-256"):
        expression = f"p256.ecdh({private!r}, {public_bytes(case)!r})"
        if case["Result"].startswith("P"):
            assert len(device.call(expression)) == 32
            good += 1
        else:
            with pytest.raises(MicropythonError) as refusal:
                device.call(expression)
            assert refusal.value.name == "P256Error"
            bad += 1
    assert good and bad and good + bad == 12


def test_rfc_6979_nonces_give_its_signatures(device: Micropython) -> None:
    text = list(lines("asymmetric/ECDSA/RFC6979/evppkey_ecdsa_rfc6979.txt"))
    begin = text.index("PrivateKey=P-256_PRIV") + 1
    pem = "\n".join(text[begin : text.index("-----END PRIVATE KEY-----", begin) + 1])
    key = load_pem_private_key(pem.encode(), None)
    private = key.private_numbers().private_value.to_bytes(32, "big")  # type: ignore[union-attr]
    seen = 0
    block: dict[str, str] = {}
    for line in [*text, ""]:
        if line:
            name, _, value = line.partition("=")
            block[name.strip()] = value.strip()
            continue
        if block.get("Key") == "P-256_PRIV" and block.get("DigestSign") == "SHA256":
            r, s = decode_dss_signature(bytes.fromhex(block["Output"]))
            digest = hashlib.sha256(block["Input"].strip('"').encode()).digest()
            expected = r.to_bytes(32, "big") + s.to_bytes(32, "big")
            assert device.call(f"p256.sign({private!r}, {digest!r})") == expected
            seen += 1
        block = {}
    assert seen == 2


def test_ecdh_agrees_with_nist_and_refuses_spoilt_keys(device: Micropython) -> None:
    name = "asymmetric/ECDH/KASValidityTest_ECCStaticUnified_NOKC_ZZOnly_init.fax"
    agreed = refused = 0
    for case in cases(name, last="Result", section="EC - SHA256"):
        x, y = int(case["QsCAVSx"], 16), int(case["QsCAVSy"], 16)
        if x >> 256 or y >> 256:
            continue
        public = b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")
        expression = f"p256.ecdh({bytes.fromhex(case['dsIUT'].zfill(64))!r}, {public!r})"
        # which of several things the file spoilt is not in it; whether the point is one, a second library says
        try:
            EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key()
        except ValueError:
            with pytest.raises(MicropythonError, match="P256Error"):
                device.call(expression)
            refused += 1
        else:
            if case["Result"].startswith("P"):
                assert device.call(expression).hex() == case["Z"]
                agreed += 1
    assert agreed >= 10
    assert refused >= 2


def test_hkdf_gives_the_keys_of_rfc_5869(device: Micropython) -> None:
    seen = 0
    for case in cases("KDF/rfc-5869-HKDF-SHA256.txt", last="OKM"):
        ikm, salt, info = (bytes.fromhex(case[name]) for name in ("IKM", "salt", "info"))
        assert device.call(f"hkdf.extract({salt!r}, {ikm!r})").hex() == case["PRK"]
        prk = bytes.fromhex(case["PRK"])
        assert device.call(f"hkdf.expand({prk!r}, {info!r}, {case['L']})").hex() == case["OKM"]
        seen += 1
    assert seen == 3


def test_hkdf_of_1200_bytes(device: Micropython) -> None:
    (case,) = cases("KDF/hkdf-generated.txt", last="OKM")
    ikm = bytes.fromhex(case["IKM"])
    assert device.call(f"hkdf.expand(hkdf.extract(b'', {ikm!r}), b'', {case['L']})").hex() == case["OKM"]


def test_hmac_agrees_with_rfc_4231(device: Micropython) -> None:
    seen = 0
    for case in cases("HMAC/rfc-4231-sha256.txt", last="MD"):
        key, message = bytes.fromhex(case["Key"]), bytes.fromhex(case["Msg"])
        assert device.call(f"hkdf.hmac_sha256({key!r}, {message!r})").hex() == case["MD"]
        seen += 1
    assert seen >= 6
