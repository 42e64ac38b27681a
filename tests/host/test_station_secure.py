"""The production profile on simulated eFuses: the real espefuse and espsecure, both chips; and what is refused.

The expected values are what espefuse's summary says after each run, and the digest that espsecure computes.
"""

import contextlib
import hashlib
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from host_tools.cli import run as command_line
from host_tools.sim import firmware
from provisioning.station import efuses, secure, securebuild
from provisioning.station.efuses import Consent, Efuses, Protocol
from provisioning.station.secure import SecureRefused
from tests.support.boards import MAC, scripted

CHIPS = ("esp32", "esp32s3")
ESPEFUSE = (sys.executable, "-m", "espefuse")
FLASH_KEY = bytes(range(100, 132))
# field → value that a closed chip has, by ESP-IDF's "Host-Based Security Workflows" of each chip
CLOSED = {
    "esp32": {
        "FLASH_CRYPT_CNT": 0x7F,
        "FLASH_CRYPT_CONFIG": 0xF,
        "ABS_DONE_1": 1,
        "JTAG_DISABLE": 1,
        "DISABLE_DL_ENCRYPT": 1,
        "DISABLE_DL_DECRYPT": 1,
        "DISABLE_DL_CACHE": 1,
        "CONSOLE_DEBUG_DISABLE": 1,
        "UART_DOWNLOAD_DIS": 1,
    },
    "esp32s3": {
        "SPI_BOOT_CRYPT_CNT": 7,
        "SECURE_BOOT_EN": 1,
        "SECURE_BOOT_KEY_REVOKE0": 0,
        "SECURE_BOOT_KEY_REVOKE1": 1,
        "SECURE_BOOT_KEY_REVOKE2": 1,
        "DIS_PAD_JTAG": 1,
        "DIS_USB_JTAG": 1,
        "SOFT_DIS_JTAG": 7,
        "DIS_DOWNLOAD_MANUAL_ENCRYPT": 1,
        "DIS_DOWNLOAD_ICACHE": 1,
        "DIS_DOWNLOAD_DCACHE": 1,
        "DIS_DIRECT_BOOT": 1,
        "DIS_DOWNLOAD_MODE": 1,
        "KEY_PURPOSE_0": 9,
        "KEY_PURPOSE_1": 4,
    },
}
DIGEST_BLOCK = {"esp32": "BLOCK2", "esp32s3": "BLOCK_KEY0"}
KEY_BLOCK = {"esp32": "BLOCK1", "esp32s3": "BLOCK_KEY1"}


def tool(name: str, *words: object) -> None:
    done = subprocess.run([sys.executable, "-m", name, *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def espefuse(chip: str, file: Path, *words: str) -> None:
    tool("espefuse", "--chip", chip, "--virt", "--path-efuse-file", file, "--do-not-confirm", *words)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "theirs"):
        private = rsa.generate_private_key(65537, 3072)
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        (folder / f"{name}.pem").write_bytes(pem)
        public = private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        (folder / f"{name}.pub.pem").write_bytes(public)
    return folder


@pytest.fixture(scope="module")
def signed(keys: Path) -> dict[str, bytes]:
    """An image of each chip, signed by our key."""
    found = {}
    for chip in CHIPS:
        plain, out = keys / f"{chip}.bin", keys / f"{chip}.signed.bin"
        plain.write_bytes(firmware.factory(chip))
        tool("espsecure", "sign-data", "--version", "2", "--keyfile", keys / "ours.pem", "--output", out, plain)
        found[chip] = out.read_bytes()
    return found


class Desk:
    """A folder with a build, a key and simulated eFuses of one chip."""

    def __init__(self, folder: Path, chip: str, keys: Path, image: bytes) -> None:
        self.folder = folder
        self.chip = chip
        self.fuses = folder / "efuses.bin"
        self.key = folder / "flash.key"
        self.key.touch(mode=0o600)
        self.key.write_bytes(FLASH_KEY)
        (folder / "key.pub.pem").write_bytes((keys / "ours.pub.pem").read_bytes())
        self.digest: bytes | None = None
        self.parts: list[dict[str, Any]] = []
        self.part("bootloader.bin", image, 0x1000 if chip == "esp32" else 0)
        self.part("app.bin", image, 0x10000)

    def part(self, name: str, data: bytes, offset: int, **other: Any) -> None:
        (self.folder / name).write_bytes(data)
        row = {"file": name, "sha256": hashlib.sha256(data).hexdigest(), "offset": offset}
        self.parts.append(row | {"signed": True, "encrypted": True} | other)

    def build(self) -> Path:
        lines = ['format = "sealband/1 secure build"', f'chip = "{self.chip}"', 'secure_boot_key = "key.pub.pem"']
        for row in self.parts:
            lines += ["[[parts]]", *(f"{name} = {json.dumps(value)}" for name, value in row.items())]
        path = self.folder / "build.toml"
        path.write_text("\n".join(lines))
        return path

    def efuses(self, *wrapper: str) -> Efuses:
        return Efuses(self.chip, rehearsal=self.fuses, espefuse=[*wrapper] or ESPEFUSE)

    def read(self) -> dict[str, secure.Fuse]:
        return self.efuses().read()

    def load(self) -> securebuild.Build:
        return securebuild.load(self.build())

    def plan(self, **settings: Any) -> secure.Plan:
        if self.digest is None:
            self.digest = self.load().key_digest
        return secure.plan(self.chip, self.read(), digest=self.digest, flash_key=FLASH_KEY, **settings)

    def protocol(self) -> Protocol:
        path = self.folder / "protocol.json"
        found = Protocol.read(path)
        mac = secure.mac(self.read()).hex(":")
        return found or Protocol(path, mac, self.chip, {}, "", securebuild.fingerprint(FLASH_KEY))

    def carry_out(self, plan: secure.Plan, **settings: Any) -> list[tuple[str, str]]:
        seen: list[tuple[str, str]] = []
        arguments: dict[str, Any] = {
            "efuses": self.efuses(),
            "consent": Consent(True, plan.mac.hex(":")),
            "protocol": self.protocol(),
            "key_file": self.folder / "key.pub.pem",
            "flash_key": self.key,
            "on_step": lambda step, outcome: seen.append((step.name, outcome)),
        } | settings
        efuses.carry_out(plan, **arguments)
        return seen


@pytest.fixture(params=CHIPS)
def desk(request: pytest.FixtureRequest, tmp_path: Path, keys: Path, signed: dict[str, bytes]) -> Desk:
    return Desk(tmp_path, request.param, keys, signed[request.param])


@pytest.fixture
def s3(tmp_path: Path, keys: Path, signed: dict[str, bytes]) -> Desk:
    return Desk(tmp_path, "esp32s3", keys, signed["esp32s3"])


def check_closed(desk: Desk) -> None:
    found = desk.read()
    assert {name: found[name].value for name in CLOSED[desk.chip]} == CLOSED[desk.chip]
    digest = found[DIGEST_BLOCK[desk.chip]]
    out = desk.folder / "digest"
    tool("espsecure", "digest-sbv2-public-key", "--keyfile", desk.folder / "key.pub.pem", "--output", out)
    assert digest.data == out.read_bytes() and digest.readable and not digest.writeable
    key = found[KEY_BLOCK[desk.chip]]
    assert not key.readable and not key.writeable and not found["RD_DIS"].writeable


def test_an_esp32_is_closed_by_the_command_when_it_is_told_twice(
    tmp_path: Path, keys: Path, signed: dict[str, bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Desk(tmp_path, "esp32", keys, signed["esp32"])
    words = ["station", "secure", "--build", str(desk.build()), "--flash-key", str(desk.key), "--json"]
    words += ["--rehearsal", str(desk.fuses)]
    assert command_line(words) == 1
    assert "revision 0; secure boot v2 needs 3" in json.loads(capsys.readouterr().err)["error"]
    espefuse("esp32", desk.fuses, "burn-efuse", "CHIP_VER_REV1", "1", "CHIP_VER_REV2", "1")
    before = desk.fuses.read_bytes()
    assert command_line(words) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["done"] is False and len(shown["stock_lacks"]) == 5
    assert {(row["undo"], row["state"]) for row in shown["steps"]} == {("never", "to be burnt")}
    # the loader is closed last: nothing could be read back after it
    assert shown["steps"][-1]["espefuse"] == "burn-efuse UART_DOWNLOAD_DIS 0x1"
    words += ["--protocol", str(tmp_path / "p.json")]
    for half in (["--yes-burn-efuses"], ["--confirm", "00:00:00:00:00:00"]):
        assert command_line([*words, *half]) == 1
        assert "remedy" in json.loads(capsys.readouterr().err)
    assert desk.fuses.read_bytes() == before
    both = ["--yes-burn-efuses", "--confirm", "00:00:00:00:00:00"]
    assert command_line([*words, *both]) == 0
    capsys.readouterr()
    check_closed(desk)
    written = (tmp_path / "p.json").read_text()
    assert json.loads(written)["done"] is True
    assert FLASH_KEY.hex() not in written and FLASH_KEY[::-1].hex() not in written
    assert command_line([*words, *both]) == 0
    assert json.loads(capsys.readouterr().out) == {"mac": "00:00:00:00:00:00", "done": True, "steps": []}


def test_an_esp32s3_is_closed_though_the_run_is_broken_off_three_times(s3: Desk) -> None:
    class Stopped(Exception):
        pass

    order: list[str] = []
    stops = {"flash key", "flash key hidden", "secure boot on"}
    names = [step.name for step in s3.plan().steps]
    assert names[-1] == "loader closed"
    for number in [0, *sorted(names.index(name) + 1 for name in stops)]:
        found = Protocol.read(s3.folder / "protocol.json")
        known = found is not None and found.knows("00:00:00:00:00:00", "esp32s3", securebuild.fingerprint(FLASH_KEY))
        plan = s3.plan(key_known=known)
        assert [step.name for step in plan.open] == names[number:]

        def stop(step: secure.Step, outcome: str) -> None:
            if outcome == "burnt":
                order.append(step.name)
                if step.name in stops:
                    raise Stopped(step.name)

        with contextlib.suppress(Stopped):
            s3.carry_out(plan, on_step=stop, write_flash=lambda: order.append("flash"))
    # the build is written before anything is burnt, again after a break, and never once the chip decrypts
    assert [name for name in order if name != "flash"] == names
    assert order.count("flash") == 3 and order.index("flash") == 0
    check_closed(s3)
    with pytest.raises(SecureRefused, match=r"step flash key: .* is burnt already"):
        s3.plan(key_known=False)


@pytest.mark.parametrize("chip", CHIPS)
def test_a_chip_on_a_port_is_planned_by_its_own_efuses_and_no_burning_is_believed(tmp_path: Path, chip: str) -> None:
    # the virtual chip's eFuses can be read and not burnt
    with scripted(tmp_path, "print('delivered')", chip=chip) as board:
        board.wait_for("delivered")
        fuses = Efuses(chip, port=board.port)
        plan = secure.plan(chip, fuses.read(), digest=bytes(range(32)), flash_key=FLASH_KEY)
        assert plan.mac == MAC and plan.open == plan.steps
        with pytest.raises(SecureRefused, match="eFuse controller"):
            fuses.burn(["burn-efuse", {"esp32": "JTAG_DISABLE", "esp32s3": "DIS_PAD_JTAG"}[chip], "1"])


def test_another_keys_digest_is_refused(s3: Desk, keys: Path) -> None:
    theirs = str(keys / "theirs.pub.pem")
    espefuse("esp32s3", s3.fuses, "burn-key-digest", "BLOCK_KEY0", theirs, "SECURE_BOOT_DIGEST0")
    with pytest.raises(SecureRefused, match="secure boot key"):
        s3.plan()


def test_nothing_is_burnt_without_both_words(s3: Desk) -> None:
    plan = s3.plan()
    before = s3.fuses.read_bytes()
    for consent in (Consent(False, plan.mac.hex(":")), Consent(True, ""), Consent(True, "00:00:00:00:00:01")):
        with pytest.raises(SecureRefused, match="was not"):
            s3.carry_out(plan, consent=consent)
    other = secure.Plan(plan.chip, bytes.fromhex("020000000001"), plan.steps)
    with pytest.raises(SecureRefused, match="another than was planned"):
        s3.carry_out(other)
    assert s3.fuses.read_bytes() == before


def test_a_step_that_burns_more_than_it_should_ends_the_run(s3: Desk) -> None:
    # an espefuse that burns one more field with the third step
    wrapper = s3.folder / "espefuse.py"
    wrapper.write_text(
        "import subprocess, sys\n"
        "words = sys.argv[1:]\n"
        "status = subprocess.run([sys.executable, '-m', 'espefuse', *words]).returncode\n"
        "if 'read-protect-efuse' in words:\n"
        "    at = words.index('read-protect-efuse')\n"
        "    extra = [sys.executable, '-m', 'espefuse', *words[:at], 'burn-efuse', 'DIS_TWAI', '1']\n"
        "    subprocess.run(extra, check=True)\n"
        "sys.exit(status)\n"
    )
    with pytest.raises(SecureRefused, match="flash key hidden: DIS_TWAI changed too"):
        s3.carry_out(s3.plan(), efuses=s3.efuses(sys.executable, str(wrapper)))
    steps = json.loads((s3.folder / "protocol.json").read_text())["steps"]
    assert steps[-1] == {"step": "flash key hidden", "outcome": "stopped: DIS_TWAI changed too", "at": steps[-1]["at"]}
    assert s3.read()["SECURE_BOOT_EN"].value == 0


def test_the_chip_is_brought_into_its_loader_after_flashing_and_stays_there(s3: Desk) -> None:
    # an espefuse that notes how it was told to reach the chip, and works on the simulated one
    wrapper, noted = s3.folder / "espefuse.py", s3.folder / "noted"
    wrapper.write_text(
        "import subprocess, sys\n"
        "words = sys.argv[1:]\n"
        "at = words.index('--port')\n"
        f"open({str(noted)!r}, 'a').write(' '.join(words[at:at + 6]) + '\\n')\n"
        f"words[at:at + 6] = ['--virt', '--path-efuse-file', {str(s3.fuses)!r}]\n"
        "sys.exit(subprocess.run([sys.executable, '-m', 'espefuse', *words]).returncode)\n"
    )
    chip = Efuses("esp32s3", port="/dev/x", espefuse=[sys.executable, str(wrapper)])

    def stop(step: secure.Step, outcome: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        s3.carry_out(s3.plan(), efuses=chip, write_flash=lambda: noted.open("a").write("flash\n"), on_step=stop)
    into, stays = (f"--port /dev/x --before {before} --after no-reset" for before in ("default-reset", "no-reset"))
    assert noted.read_text().splitlines() == [into, "flash", into, stays]


def test_a_step_that_burns_nothing_ends_the_run(s3: Desk) -> None:
    wrapper = s3.folder / "espefuse.py"
    wrapper.write_text(
        "import subprocess, sys\n"
        "if 'burn-key-digest' not in sys.argv:\n"
        "    sys.exit(subprocess.run([sys.executable, '-m', 'espefuse', *sys.argv[1:]]).returncode)\n"
    )
    with pytest.raises(SecureRefused, match="BLOCK_KEY0 is not what was burnt"):
        s3.carry_out(s3.plan(), efuses=s3.efuses(sys.executable, str(wrapper)))


def test_firmware_that_is_not_signed_is_refused(desk: Desk) -> None:
    desk.parts.pop()
    desk.part("micropython.bin", firmware.factory(desk.chip), 0x10000)
    with pytest.raises(SecureRefused, match=r"micropython\.bin is not signed"):
        desk.load()


def test_firmware_that_another_key_signed_is_refused(s3: Desk, keys: Path) -> None:
    (s3.folder / "key.pub.pem").write_bytes((keys / "theirs.pub.pem").read_bytes())
    with pytest.raises(SecureRefused, match="is not signed by"):
        s3.load()


def test_signed_firmware_with_a_bit_changed_is_refused(s3: Desk, signed: dict[str, bytes]) -> None:
    image = bytearray(signed["esp32s3"])
    image[0x40] ^= 1
    s3.parts.pop()
    s3.part("app.bin", bytes(image), 0x10000)
    with pytest.raises(SecureRefused, match="is not signed"):
        s3.load()


def test_firmware_for_another_chip_is_refused(s3: Desk, signed: dict[str, bytes]) -> None:
    s3.parts.pop()
    s3.part("app.bin", signed["esp32"], 0x10000)
    with pytest.raises(SecureRefused, match="not for the esp32s3"):
        s3.load()


def test_a_file_that_is_not_what_the_build_names_is_refused(s3: Desk) -> None:
    path = s3.build()
    (s3.folder / "app.bin").write_bytes((s3.folder / "app.bin").read_bytes() + b"\0")
    with pytest.raises(SecureRefused, match="has SHA-256"):
        securebuild.load(path)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"file": "../app.bin"}, "no name of a file"),
        ({"offset": 0x10001}, "no multiple"),
        ({"offset": 0}, "overlap"),
        ({"signed": 1}, "true or false"),
        ({"sha256": "00"}, "64 hex digits"),
        ({"encrypted": False}, "not encrypted"),
        ({"signed": False}, "neither is a boot loader"),
        ({"more": 1}, "has not the keys"),
    ],
)
def test_a_malformed_build_is_refused(s3: Desk, change: dict[str, Any], what: str) -> None:
    s3.parts[1] |= change
    with pytest.raises(SecureRefused, match=what):
        securebuild.load(s3.build())


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_flash_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "key"
    securebuild.create_flash_key(path)
    assert len(securebuild.read_flash_key(path)) == 32 and path.stat().st_mode & 0o777 == 0o600
    path.chmod(mode)
    with pytest.raises(SecureRefused, match="can be read by others"):
        securebuild.read_flash_key(path)


@pytest.mark.parametrize("data", [b"", bytes(32), bytes(range(31)), bytes(range(33)), b"password" * 4])
def test_a_flash_key_that_is_none_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_bytes(data)
    with pytest.raises(SecureRefused, match="no key of 32 random bytes"):
        securebuild.read_flash_key(path)


def test_a_part_is_encrypted_as_the_chip_decrypts_it(desk: Desk) -> None:
    part = securebuild.load(desk.build()).parts[-1]
    made = securebuild.encrypted(part, desk.chip, desk.key)
    assert made != part.data and part.data[:64] not in made
    (desk.folder / "made").write_bytes(made)
    words = ["--aes-xts"] if desk.chip == "esp32s3" else ["--flash-crypt-conf", "0xf"]
    words += ["--keyfile", str(desk.key), "--address", "0x10000", "--output", str(desk.folder / "back")]
    tool("espsecure", "decrypt-flash-data", *words, desk.folder / "made")
    assert (desk.folder / "back").read_bytes()[: len(part.data)] == part.data


def test_another_chips_protocol_is_refused(s3: Desk) -> None:
    with pytest.raises(SecureRefused, match="is the protocol of"):
        s3.protocol().knows("02:00:00:00:00:01", "esp32s3", "")


def test_a_finished_chips_protocol_does_not_pass_for_another_chip(s3: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    path = s3.folder / "protocol.json"
    Protocol(path, "02:00:00:00:00:01", "esp32s3", {}, "", "", done=True).write()
    words = ["station", "secure", "--build", str(s3.build()), "--flash-key", str(s3.key), "--rehearsal", str(s3.fuses)]
    words += ["--protocol", str(path), "--yes-burn-efuses", "--confirm"]
    assert command_line([*words, "02:00:00:00:00:02"]) == 1
    assert "is the protocol of 02:00:00:00:00:01" in capsys.readouterr().err
    assert command_line([*words, "02-00-00-00-00-01"]) == 0
    assert "was finished before" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [{"mac": "\x1b[2J"}, {"steps": "burnt"}, {"steps": ["burnt"]}, {"done": "yes"}, {"build": []}, {"more": 1}],
)
def test_a_hostile_protocol_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    path = tmp_path / "protocol.json"
    Protocol(path, "02:00:00:00:00:01", "esp32s3", {}, "", "").write()
    assert Protocol.read(path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(SecureRefused, match="is no protocol"):
        Protocol.read(path)


@pytest.mark.parametrize("text", ["", "espefuse v5\n\n{\n}", '\n{\n "MAC": 1}', '\n{\n "A": {"raw_value": "0"}}'])
def test_output_that_is_no_summary_is_refused(text: str) -> None:
    with pytest.raises(SecureRefused):
        secure.mac(secure.fuses(text))


def test_the_restricted_loader_is_a_choice_of_the_esp32s3(s3: Desk) -> None:
    assert s3.plan(loader="secure").steps[-1].command == ("burn-efuse", "ENABLE_SECURITY_DOWNLOAD", "0x1")
    with pytest.raises(SecureRefused, match="can only be closed"):
        secure.plan(
            "esp32",
            {
                "WAFER_VERSION_MAJOR": secure.Fuse(b"\x03", True, True),
                "CODING_SCHEME": secure.Fuse(b"\x00", True, True),
            },
            digest=bytes(32),
            flash_key=bytes(32),
            loader="secure",
        )


def test_the_chip_number_is_read_where_esptool_writes_it(signed: dict[str, bytes]) -> None:
    assert struct.unpack_from("<H", signed["esp32s3"], 12) == (9,)
