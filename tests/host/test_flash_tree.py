"""The tree of a new board: the device's own code reads it, chooses its slot, and would take the next release."""

import hashlib
import shutil
import struct
from pathlib import Path
from typing import Any

import cbor2
import pytest
from click.testing import CliRunner

import boards
from host_tools.cli.release import group as commands
from host_tools.release import build, manifest, patch, trust
from host_tools.release.bundle import CompileFailed
from host_tools.release.flash import Cellular, FlashRefused, Provision, boot_record, flash_tree
from host_tools.release.manifest import ManifestError
from host_tools.release.tree import FolderRefused
from host_tools.sim.board import VirtualBoard
from tests.support import signed_release
from tests.support.boards import MAC
from tests.support.micropython import ROOT, Micropython
from tests.support.signed_release import MODEL, VENDOR, make_signers, trust_file

NOW = 50_000_000
ROOTS = make_signers(2)
KEYS = make_signers(3)
TRUST = trust_file(KEYS, ROOTS)
VENDOR_ID, CLASS_ID = manifest.identifiers(VENDOR, MODEL)
PROVISION = Provision(
    VENDOR_ID,
    CLASS_ID,
    ["http://127.0.0.1:8000", "https://updates.example"],
    ("home", "password"),
    b"DER",
    ("broker.example", 8883),
    Cellular("iot.example", "1234", "user", "secret"),
)
MACHINE = """
class Machine:
    DEEPSLEEP_RESET = 4
    def reset_cause(self):
        return 1
    def WDT(self, timeout):
        raise AssertionError('no trial')
"""


def sign(folder: Path, by: int = 2) -> Path:
    path = folder / "manifest.suit"
    path.write_bytes(signed_release.signed(path.read_bytes(), KEYS[:by]))
    return folder


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This source's own application, built and signed."""
    out = tmp_path_factory.mktemp("built") / "release"
    build.build_app(build.Order(boards.load("VIRTUAL"), 7, "1.0", out, ROOT / "requirements.lock"), ROOT / "device")
    return sign(out)


def flash(folder: Path, out: Path, **changed: Any) -> list[Path]:
    arguments = {"device": ROOT / "device", "provision": PROVISION, "now_s": NOW, **changed}
    return flash_tree(folder, arguments.pop("trust", TRUST), out, **arguments)


def test_device_chooses_the_slot_and_finds_it_whole(release: Path, tmp_path: Path) -> None:
    flash(release, tmp_path / "flash")
    image = (release / "app.tar").read_bytes()
    with Micropython() as device:
        device.run(MACHINE)
        device.run("import sealboot\nfrom sealboot import record, slots")
        root = str(tmp_path / "flash")
        assert device.call(f"slots.choose(Machine(), {root!r})") == f"{root}/slots/a"
        assert device.call(
            "(sealboot.index, sealboot.sequence, sealboot.digest, sealboot.trial, sealboot.outcome)"
        ) == (
            0,
            7,
            hashlib.sha256(image).digest(),
            False,
            (0, 0),
        )
        device.run(f"held = record.load({root + '/slots'!r})")
        state = device.call("(held.counter, held.active, held.trial, held.trials, held.wakes)")
        assert state == (1, 0, 255, 0, 0)
        assert device.call("(held.floor, held.firmware_floor, held.outcome, held.firmware)") == (7, 0, (0, 0), (0, b""))
        assert device.call("held.slots") == [(7, hashlib.sha256(image).digest(), 1), (0, bytes(32), 0)]


def test_nobody_else_reads_the_folder_with_the_wifi_passphrase(release: Path, tmp_path: Path) -> None:
    flash(release, tmp_path / "flash")
    assert (tmp_path / "flash").stat().st_mode & 0o077 == 0


def test_record_is_what_the_device_itself_would_write(tmp_path: Path) -> None:
    with Micropython() as device:
        device.run("from sealboot.record import Record")
        device.run("made = Record()")
        device.run("made.counter, made.active, made.floor = 1, 0, 9")
        device.run("made.slots[0] = (9, bytes(range(32)), 1)")
        assert device.call("bytes(made.pack())") == boot_record(9, bytes(range(32)))


def test_every_flipped_byte_of_the_record_is_noticed_by_the_device(tmp_path: Path) -> None:
    whole = boot_record(9, bytes(range(32)))
    with Micropython() as device:
        device.run("from sealboot import record")
        for index in range(len(whole)):
            flipped = bytearray(whole)
            flipped[index] ^= 1
            assert device.call(f"record.unpack({bytes(flipped)!r}) is None")
        assert device.call(f"record.unpack({whole!r}) is None") is False


def test_device_reads_trust_list_and_provisioned_file(release: Path, tmp_path: Path) -> None:
    flash(release, tmp_path / "flash")
    with Micropython() as device:
        device.run("from sealband import provision\nfrom sealband.update import job, trust")
        device.run(f"job.FOLDER = {str(tmp_path / 'flash' / 'update')!r}")
        device.run("site, held = provision.load(job.path('provision')), trust.load(job.path('trust'))")
        assert device.call("(site.vendor, site.class_id)") == (VENDOR_ID.bytes, CLASS_ID.bytes)
        assert device.call("list(site.origins)") == list(PROVISION.origins)
        assert device.call("(list(site.wifi), site.ca)") == (["home", "password"], b"DER")
        assert device.call("(list(site.broker), list(site.cellular))") == (
            ["broker.example", 8883],
            ["iot.example", "1234", "user", "secret"],
        )
        listed = trust.decode(TRUST).trust
        assert device.call("(held.version, held.threshold, held.root_threshold, held.expires)") == (1, 2, 2, None)
        assert device.call("(list(held.release_keys), list(held.root_keys))") == (
            list(listed.release_keys),
            list(listed.root_keys),
        )


def test_device_would_take_the_next_release_and_no_older_one(release: Path, tmp_path: Path) -> None:
    flash(release, tmp_path / "flash")
    for sequence in (7, 8):
        sign(signed_release.write(tmp_path / str(sequence), sequence=sequence))
    with Micropython() as device:
        device.run("from sealband import provision\nfrom sealband.update import job, manifest, trust")
        device.run("from sealboot import record")
        device.run(f"job.FOLDER = {str(tmp_path / 'flash' / 'update')!r}")
        device.run("site, held = provision.load(job.path('provision')), trust.load(job.path('trust'))")
        device.run(f"boot = record.load({str(tmp_path / 'flash' / 'slots')!r})")
        device.run("me = manifest.Identity(site.vendor, site.class_id, {b'app': boot.floor}, {b'app': 300000})")
        device.run(
            "def verdict(envelope):\n try:\n  return manifest.verify(envelope, held, me).sequence\n"
            " except Exception as error:\n  return -error.code"
        )
        verdicts = [
            device.call(f"verdict({(tmp_path / name / 'manifest.suit').read_bytes()!r})") for name in ("7", "8")
        ]
        assert verdicts == [-6, 8]


def test_patch_to_the_next_release_applies_to_the_flashed_slot(release: Path, tmp_path: Path) -> None:
    flash(release, tmp_path / "flash")
    base = (release / "app.tar").read_bytes()
    new = base[:50_000] + b"changed" + base[50_007:]
    (tmp_path / "patch").write_bytes(patch.make(base, new))
    with Micropython() as device:
        device.run("import hashlib\nfrom sealband.update import patch, stream\nsha = hashlib.sha256()")
        device.run("class Out:\n def write(self, data):\n  sha.update(data)")
        device.run(f"reader = stream.Reader(open({str(tmp_path / 'patch')!r}, 'rb'), {2 * len(new)})")
        slot, digest = str(tmp_path / "flash" / "slots" / "a"), hashlib.sha256(base).digest()
        device.run(f"patch.apply(reader, {slot!r}, {digest!r}, {len(new)}, Out())")
        assert device.call("sha.digest()") == hashlib.sha256(new).digest()


def test_what_boots_is_beside_the_slots_and_not_in_them(release: Path, tmp_path: Path) -> None:
    names = [path.as_posix() for path in flash(release, tmp_path / "flash")]
    assert names == sorted(
        p.relative_to(tmp_path / "flash").as_posix() for p in (tmp_path / "flash").rglob("*") if p.is_file()
    )
    outside = [name for name in names if not name.startswith(("slots/a/", "lib/sealboot/"))]
    assert outside == ["boot.py", "slots/0", "update/provision", "update/trust"]
    assert "lib/sealboot/slots.mpy" in names
    assert "slots/a/main.py" in names
    assert not [name for name in names if name.startswith("slots/a/") and ("sealboot" in name or "boot.py" in name)]


def test_tree_is_the_same_bytes_each_time(release: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        flash(release, tmp_path / name)
    read = [
        {p.relative_to(tmp_path / name).as_posix(): p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()}
        for name in ("one", "two")
    ]
    assert read[0] == read[1]


def test_virtual_board_boots_the_slot(release: Path, tmp_path: Path) -> None:
    flash(release, tmp_path / "flash")
    board = VirtualBoard(tmp_path / "board", name="b", mac=MAC)
    board.install(tmp_path / "flash")
    with board:
        board.wait_for("not enrolled")


# refused


@pytest.mark.parametrize("by", [0, 1])
def test_release_with_too_few_signatures_is_not_flashed(tmp_path: Path, by: int) -> None:
    sign(signed_release.write(tmp_path / "release"), by)
    with pytest.raises(FlashRefused, match="threshold"):
        flash(tmp_path / "release", tmp_path / "flash")
    assert not (tmp_path / "flash").exists()


def test_image_swapped_after_signing_is_not_flashed(tmp_path: Path) -> None:
    sign(signed_release.write(tmp_path / "release"))
    (tmp_path / "release" / "app.tar").write_bytes(signed_release.image({"main.py": b"evil"}))
    with pytest.raises(FlashRefused, match="image-digest"):
        flash(tmp_path / "release", tmp_path / "flash")


def test_release_for_another_model_is_not_flashed(tmp_path: Path) -> None:
    sign(signed_release.write(tmp_path / "release"))
    vendor, other = manifest.identifiers(VENDOR, "another-model")
    with pytest.raises(FlashRefused, match="class"):
        flash(tmp_path / "release", tmp_path / "flash", provision=Provision(vendor, other, ["http://x.example"]))


def test_expired_list_is_not_flashed(tmp_path: Path) -> None:
    sign(signed_release.write(tmp_path / "release"))
    with pytest.raises(FlashRefused, match="trust-current"):
        flash(tmp_path / "release", tmp_path / "flash", trust=trust_file(KEYS, ROOTS, expires=NOW))


def test_firmware_alone_is_not_flashed(tmp_path: Path) -> None:
    made = signed_release.release(b"\xe9")
    made = manifest.Release(b"fw", VENDOR_ID, CLASS_ID, 2, made.digest, 1, made.uri, made.text)
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "manifest.suit").write_bytes(manifest.encode(made))
    with pytest.raises(FlashRefused, match="no release of an application"):
        flash(tmp_path / "release", tmp_path / "flash")


def test_folder_that_is_there_or_without_boot_code_is_refused(tmp_path: Path) -> None:
    sign(signed_release.write(tmp_path / "release"))
    (tmp_path / "flash").mkdir()
    with pytest.raises(FolderRefused):
        flash(tmp_path / "release", tmp_path / "flash")
    with pytest.raises(FlashRefused, match=r"no boot\.py"):
        flash(tmp_path / "release", tmp_path / "new", device=tmp_path)
    (tmp_path / "code" / "lib" / "sealboot").mkdir(parents=True)
    (tmp_path / "code" / "boot.py").write_text("")
    (tmp_path / "code" / "lib" / "sealboot" / "__init__.py").write_text("def (:")
    with pytest.raises(CompileFailed):
        flash(tmp_path / "release", tmp_path / "new", device=tmp_path / "code")
    (tmp_path / "release" / "manifest.suit").write_bytes(b"")
    with pytest.raises(ManifestError):
        flash(tmp_path / "release", tmp_path / "new")
    assert not (tmp_path / "new").exists()


GOOD_ORIGINS = [
    "http://a",
    "http://a:1",
    "https://updates.sealband.example:65535",
    "http://127.0.0.1:8000",
    "http://255.255.255.255",
    "http://a-b.c0",
]
BAD_ORIGINS = [
    "",
    "ftp://a",
    "http://",
    "http://A",
    "http://a/",
    "http://a/b",
    "http://u@a",
    "http://a:0",
    "http://a:65536",
    "http://a:01",
    "http://a:",
    "http://1.2.3",
    "http://1.2.3.256",
    "http://01.2.3.4",
    "http://2130706433",
    "http://0x7f.1",
    "http://[::1]",
    "http://-a",
    "http://a-",
    "http://a..b",
    "http://a.",
    "http://a\n",
    "http://ä",
    "http://a b",
    "http://" + "a" * 64,
    "http://" + "a." * 127 + "a",
    "HTTP://a",
]


def test_origins_are_those_that_the_device_reads() -> None:
    with Micropython() as device:
        device.run("from sealband.update import address")
        device.run(
            "def readable(origin):\n try:\n  address.parse(origin + '/x', 400)\n  return True\n"
            " except Exception:\n  return False"
        )
        for origin in GOOD_ORIGINS + BAD_ORIGINS:
            try:
                Provision(VENDOR_ID, CLASS_ID, [origin], ca_der=b"DER")
                taken = True
            except FlashRefused:
                taken = False
            assert taken is (origin in GOOD_ORIGINS), origin
            # what has a path of its own is a URL and no origin
            if "/" not in origin.partition("://")[2]:
                assert device.call(f"readable({origin!r})") is taken, origin


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"origins": []}, "no server"),
        ({"origins": ["https://a"]}, "needs the certificate"),
        ({"wifi": ("", "password")}, "name"),
        ({"wifi": ("x" * 33, "password")}, "name"),
        ({"wifi": ("x", "short")}, "passphrase"),
        ({"wifi": ("x", "p" * 64)}, "passphrase"),
        ({"ca_der": bytes(4100)}, "longer than 4096"),
        ({"broker": ("broker.example", 8883)}, "needs the certificate"),
        ({"broker": ("Broker.example", 8883), "ca_der": b"DER"}, "no broker's address"),
        ({"broker": ("a b", 8883), "ca_der": b"DER"}, "no broker's address"),
        ({"broker": ("broker.example", 0), "ca_der": b"DER"}, "no broker's address"),
        ({"broker": ("broker.example", 65536), "ca_der": b"DER"}, "no broker's address"),
    ],
)
def test_provision_that_no_device_could_use_is_refused(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(FlashRefused, match=reason):
        Provision(**{"vendor": VENDOR_ID, "class_id": CLASS_ID, "origins": ["http://a"], **changed})


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"apn": ""}, "access point name"),
        ({"apn": 'iot","'}, "access point name"),
        ({"apn": "iot..example"}, "access point name"),
        ({"apn": ".".join(["a" * 60] * 2)}, "access point name"),
        ({"pin": "123"}, "PIN"),
        ({"pin": "123456789"}, "PIN"),
        ({"pin": "12a4"}, "PIN"),
        ({"pin": "1234\r"}, "PIN"),
        ({"user": 'x"'}, "user"),
        ({"user": "x\\22"}, "user"),
        ({"password": "x\rAT+CFUN=0\r"}, "password"),
        ({"password": "x" * 65}, "password"),
    ],
)
def test_access_point_that_no_modem_can_be_told_is_refused(changed: dict[str, str], reason: str) -> None:
    with pytest.raises(FlashRefused, match=reason):
        Cellular(**{"apn": "iot.example", **changed})


def test_provisioned_row_of_the_wrong_shape_provisions_no_link(tmp_path: Path) -> None:
    """The others, and updates, go on."""
    good = {1: VENDOR_ID.bytes, 2: CLASS_ID.bytes, 3: ["http://a"]}
    path = tmp_path / "provision"
    with Micropython() as device:
        device.run("from sealband import provision")
        for key, row in ((4, ["a"]), (4, b"ab"), (6, ["a", "1"]), (6, ["a", 0]), (6, ["a", 65536]), (7, ["a", "", ""])):
            path.write_bytes(cbor2.dumps(good | {4: ["n", "k"]} | {key: row}, canonical=True))
            device.run(f"site = provision.load({str(path)!r})")
            wifi = None if key == 4 else ["n", "k"]
            assert device.call("(site.origins, site.wifi, site.broker, site.cellular)") == (
                ["http://a"],
                wifi,
                None,
                None,
            )
        wrong: list[object] = [{1: b"x", 2: CLASS_ID.bytes, 3: []}, {1: VENDOR_ID.bytes}, []]
        for broken in wrong:
            path.write_bytes(cbor2.dumps(broken, canonical=True))
            assert device.call(f"provision.load({str(path)!r})") is None


def test_record_has_the_length_that_the_device_reads() -> None:
    assert len(boot_record(1, bytes(32))) == struct.calcsize(">BIBBBBIII32sBI32sBIBI16s") + 8


def test_command_writes_broker_and_access_point_down(release: Path, tmp_path: Path) -> None:
    (tmp_path / "trust").write_bytes(TRUST)
    (tmp_path / "ca").write_bytes(b"DER")
    (tmp_path / "pin").write_text("1234\n")
    (tmp_path / "password").write_text("secret\r\nmore")
    out = tmp_path / "tree"
    given = ["tree", str(release), "--board", "VIRTUAL", "--trust", str(tmp_path / "trust"), "--origin", "http://a"]
    given += ["--device", str(ROOT / "device"), "--ca", str(tmp_path / "ca")]
    modem = ["--apn", "iot.example", "--apn-user", "me", "--apn-password", str(tmp_path / "password")]
    modem += ["--sim-pin", str(tmp_path / "pin")]
    for broker, row in (("broker.example", ["broker.example", 8883]), ("10.0.0.2:1884", ["10.0.0.2", 1884])):
        done = CliRunner().invoke(commands, [*given, *modem, "--broker", broker, "--out", str(out)])
        assert done.exit_code == 0, done.output
        table = cbor2.loads((out / "update" / "provision").read_bytes())
        assert (table[6], table[7]) == (row, ["iot.example", "1234", "me", "secret"])
        shutil.rmtree(out)
    for wrong in (["--broker", "a:b"], ["--sim-pin", str(tmp_path / "pin")]):
        assert CliRunner().invoke(commands, [*given, *wrong, "--out", str(out)]).exit_code == 2
        assert not out.exists()
