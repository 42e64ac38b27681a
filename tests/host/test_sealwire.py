"""sealwire on the host: its README's worked examples, computed again with `cryptography` and `cbor2`."""

import hashlib
import hmac
import json
import re
from pathlib import Path
from types import ModuleType

import cbor2
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESCCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from sealwire import charge, enrolment, frame, keys, messages, names, radio, records, service, update

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "device/lib/sealwire/README.md").read_text()
VECTORS = json.loads((ROOT / "tests/vectors/wire-v1.json").read_text())
EUI = bytes.fromhex(VECTORS["eui"])


def expand(key: bytes, info: bytes, length: int) -> bytes:
    return HKDFExpand(hashes.SHA256(), length, info).derive(key)


def sequence(*items: object) -> bytes:
    return b"".join(cbor2.dumps(item, canonical=True) for item in items)


def seal(header: bytes, key: bytes, iv: bytes, ctr: int, plaintext: bytes) -> tuple[bytes, bytes, bytes]:
    nonce = (int.from_bytes(iv, "big") ^ ctr).to_bytes(13, "big")
    aad = cbor2.dumps(["Encrypt0", bytes.fromhex("a1010a"), header[:1] + EUI + bytes(4) + ctr.to_bytes(2, "big")])
    return nonce, aad, header + AESCCM(key, 8).encrypt(nonce, plaintext, aad)


def computed_examples() -> dict[str, bytes]:
    private = ec.derive_private_key(int(VECTORS["device_private"], 16), ec.SECP256R1())
    ticket_pub = bytes.fromhex(VECTORS["ticket_pub"])
    z = private.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), ticket_pub))
    parts = [bytes.fromhex(VECTORS[name]) for name in ("ticket_id", "eui", "device_pub", "ticket_pub")]
    nonces = [bytes.fromhex(VECTORS[name]) for name in ("station_nonce", "device_nonce")]
    transcript = cbor2.dumps(["sealband/1 enrol", *parts, *nonces], canonical=True)
    digest = hashlib.sha256(transcript).digest()
    ck0 = HKDF(hashes.SHA256(), 32, digest, b"sealband/1 root").derive(z)
    block = expand(ck0, b"sealband/1 keys" + EUI, 60)
    ku, kd, iu, id_, did = block[:16], block[16:32], block[32:45], block[45:58], block[58:]
    telemetry = sequence(0, 59788800, [1, 10, 72, 1, -2, None, 3], [3, 60, 3312, -4])
    sync = sequence(16, 59788860, 7, 0b1011111, 3)
    up_header = b"\xe0" + did + bytes([0, 7])
    up_nonce, up_aad, up = seal(up_header, ku, iu, 7, telemetry)
    down_nonce, _, down = seal(b"\xe0" + did + bytes([0, 2]), kd, id_, 2, sync)
    mac = EUI[:3] + EUI[5:]
    return {
        "eui.mac": mac,
        "eui.eui": enrolment.eui_from_mac(mac),
        "root.z": z,
        "root.transcript": transcript,
        "root.ck0": ck0,
        "root.claim": expand(ck0, enrolment.CLAIM_LABEL, enrolment.CLAIM_LEN),
        "root.confirm": hmac.digest(expand(ck0, b"sealband/1 confirm", 32), digest, "sha256")[:16],
        "epoch0.ku": ku,
        "epoch0.kd": kd,
        "epoch0.iu": iu,
        "epoch0.id": id_,
        "epoch0.did": did,
        "epoch1.ck": expand(ck0, b"sealband/1 ratchet", 32),
        "telemetry.plaintext": telemetry,
        "telemetry.header": up_header,
        "telemetry.nonce": up_nonce,
        "telemetry.aad": up_aad,
        "telemetry.frame": up,
        "sync.plaintext": sync,
        "sync.nonce": down_nonce,
        "sync.frame": down,
        "hello.header": b"\xf3" + EUI + bytes([0, 0, 0, 3, 0, 9]),
        **courier_examples(expand(ck0, enrolment.CLAIM_LABEL, enrolment.CLAIM_LEN)),
    }


def courier_examples(claim: bytes) -> dict[str, bytes]:
    """A visit to the example's device: nonces 00…0f and 10…1f, random part of the name a0…a3, a status asked for."""

    def mac(key: bytes, data: bytes) -> bytes:
        return hmac.digest(key, data, "sha256")

    base = mac(b"sealband/1 courier", claim)
    nonces, r = bytes(range(32)), bytes(range(0xA0, 0xA4))
    block = HKDF(hashes.SHA256(), 90, nonces, b"sealband/1 courier keys" + EUI).derive(base)
    kc, kd, ic, id_, ka = block[:16], block[16:32], block[32:45], block[45:58], block[58:]
    return {
        "courier.base": base,
        "courier.pseudonym": r + mac(expand(base, b"sealband/1 courier name", 32), r)[:6],
        "courier.kc": kc,
        "courier.kd": kd,
        "courier.ic": ic,
        "courier.id": id_,
        "courier.ka": ka,
        "courier.proof_c": mac(ka, b"courier")[:16],
        "courier.proof_d": mac(ka, b"device")[:16],
        "courier.request": AESCCM(kc, 8).encrypt(ic, b"\x01", b""),
        "courier.reply": AESCCM(kd, 8).encrypt(id_, b"\x01" + sequence(2, 42, {}), b""),
    }


def test_every_worked_example_of_the_readme_is_true():
    written = dict(re.findall(r"^    (\w+\.\w+) +([0-9a-f]+)$", README, re.MULTILINE))
    assert written == {name: value.hex() for name, value in computed_examples().items()}


def test_readme_example_agrees_with_the_check_values():
    assert computed_examples()["root.confirm"].hex() == VECTORS["confirm"]
    assert computed_examples()["epoch1.ck"].hex() == VECTORS["epochs"][1]["ck"]


def test_sealwire_packs_what_the_readme_shows():
    example = computed_examples()
    assert frame.header(frame.KIND_DATA, 0, example["epoch0.did"], 7) == example["telemetry.header"]
    assert frame.nonce(example["epoch0.iu"], 7) == example["telemetry.nonce"]
    assert frame.associated_data(0xE0, EUI, 0, 7) == example["telemetry.aad"]
    assert frame.hello_header(EUI, 3, 9) == example["hello.header"]


@pytest.mark.parametrize("vector", VECTORS["frames"], ids=lambda v: f"epoch{v['epoch']}-ctr{v['ctr']}")
def test_vector_frames_are_parsed(vector: dict[str, object]):
    parsed = frame.parse(bytes.fromhex(str(vector["frame"])))
    assert parsed.ctr == vector["ctr"]
    assert (parsed.kind == frame.KIND_HELLO) == vector["hello"]
    assert parsed.epoch_bits == int(str(vector["epoch"])) % 8


def test_split_cuts_the_derived_block_where_the_vectors_say():
    epoch = VECTORS["epochs"][2]
    block = expand(bytes.fromhex(epoch["ck"]), keys.KEYS_LABEL + EUI, keys.EPOCH_KEYS_LEN)
    assert [part.hex() for part in keys.split(block)] == [epoch[name] for name in ("ku", "kd", "iu", "id", "did")]


def test_record_table_of_the_readme_is_the_table_in_the_code():
    rows = re.findall(r"\| (\d+) \| (\w+) \| ([^|]+) \| ([−\d]+) (?=\|)", README)
    written = sorted(
        (int(number), name, "" if unit == "–" else unit, int(scale.replace("−", "-")))
        for number, name, unit, scale in rows
    )
    assert written == sorted(records.RECORDS)
    assert len({row[0] for row in records.RECORDS}) == len(records.RECORDS)
    assert all(row[0] < records.APPLICATION_FIRST for row in records.RECORDS)


def test_message_numbers_of_the_readme_are_those_in_the_code():
    rows = {int(n): name for n, name in re.findall(r"^\| (\d+) \| ([a-z ]+?) \| [^|]*\|$", README, re.MULTILINE)}
    known = {**names.UPLINK_NAMES, **names.DOWNLINK_NAMES}
    assert {n: name.replace(" ", "_") for n, name in rows.items()} == known


def test_epoch_2025_is_what_it_says():
    from datetime import UTC, datetime

    assert datetime.fromtimestamp(messages.EPOCH_2025, UTC) == datetime(2025, 1, 1, tzinfo=UTC)
    assert messages.EPOCH_2025 + 59788800 == int(datetime(2026, 11, 24, tzinfo=UTC).timestamp())


def test_channels_lie_in_the_sub_band_with_one_percent_duty_cycle():
    half = 125 / 2
    assert all(868000 <= channel - half and channel + half <= 868600 for channel in radio.region("EU868")[0])


def test_unknown_record_gets_a_name_of_its_number():
    assert records.lookup(200) == ("record_200", "", 0)
    assert records.lookup(3) == ("skin_temperature", "Cel", -2)


@pytest.mark.parametrize(
    ("module", "shared"),
    [
        ("chain", keys),
        ("orders", keys),
        ("update/order", update),
        ("update/trial", update),
        ("tamper", service),
        ("charge", charge),
        ("links/mqtt", charge),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_numbers_that_a_module_repeats_are_sealwires(module: str, shared: ModuleType) -> None:
    # the device does not keep a whole module loaded for them
    text = (ROOT / f"device/lib/sealband/{module}.py").read_text()
    found = {name: int(value) for name, value in re.findall(r"^_([A-Z_]+) = const\((\d+)\)", text, re.M)}
    common = {name: value for name, value in found.items() if hasattr(shared, name)}
    assert common and common == {name: getattr(shared, name) for name in common}
