"""Board definitions: every board is complete and consistent, and a wrong one is refused with what is wrong."""

import re
from pathlib import Path
from typing import Any

import pytest

import boards
from boards import partitions
from host_tools.sim.parts import max30102, tmp117
from tests.support.micropython import ROOT, Micropython

GOOD = (boards.ROOT / "VIRTUAL" / "board.toml").read_text()
# which package of micropython-lib drives which chip (micropython/lora/README.md)
DRIVERS = {"SX126": "lora-sx126x", "SX127": "lora-sx127x"}
STUBS = """
import sys
class Machine:
    class Pin:
        def __init__(self, id): self.id = id
    class I2C:
        def __init__(self, id, scl, sda, freq): self.set_up = (id, scl.id, sda.id, freq)
        def readfrom_mem_into(self, address, register, buffer): buffer[0] = registers.get((address, register), 0)
        def writeto_mem(self, address, register, data): registers[address, register] = data[0]
    class ADC:
        ATTN_11DB = 3
        def __init__(self, pin, atten): self.set_up = (pin.id, atten)
sys.modules["machine"] = Machine
registers = {}
class Board: pass
"""


@pytest.mark.parametrize("name", boards.names())
def test_board_is_complete(name: str) -> None:
    board = boards.load(name)
    assert board.name == name
    assert board.radio
    assert board.i2c
    assert board.battery
    folder = boards.ROOT / name
    assert {path.name for path in folder.iterdir() if path.name != "__pycache__"} == {
        "board.toml",
        "partitions.csv",
        "manifest.py",
    }


@pytest.mark.parametrize("name", boards.names())
def test_parts_are_where_the_drivers_look_for_them(name: str) -> None:
    addresses = {part.part: part.address for part in boards.load(name).parts}
    assert addresses == {"MAX30102": max30102.ADDRESS, "TMP117": tmp117.ADDRESS}
    for part, address in addresses.items():
        source = (ROOT / "device/lib/sealband/sensors" / f"{part.lower()}.py").read_text()
        assert int(re.findall(r"^ADDRESS = const\((\w+)\)", source, re.MULTILINE)[0], 16) == address


@pytest.mark.parametrize("name", boards.names())
def test_flash_holds_two_firmware_slots_and_a_file_system(name: str) -> None:
    board = boards.load(name)
    rows = {row.name: row for row in board.flash_layout()}
    assert {"nvs", "otadata", "ota_0", "ota_1", "vfs"} <= set(rows)
    assert rows["ota_0"].size == rows["ota_1"].size == 0x180000
    assert max(row.end for row in rows.values()) == board.flash_size


@pytest.mark.parametrize("name", boards.names())
def test_manifest_freezes_the_driver_of_the_radio(name: str) -> None:
    board = boards.load(name)
    required: list[str] = []
    included: list[str] = []
    exec(board.manifest().read_text(), {"require": required.append, "include": included.append})
    assert board.radio
    assert required == ["lora", "lora-sync", DRIVERS[board.radio.chip[:5]]]
    assert included == ["$(PORT_DIR)/boards/manifest.py"]


@pytest.mark.parametrize("name", boards.names())
def test_generated_module_says_on_micropython_what_the_definition_says(name: str, tmp_path: Path) -> None:
    board = boards.load(name)
    assert board.radio
    assert board.i2c
    assert board.battery
    (tmp_path / "board.py").write_text(board.module())
    with Micropython(path=[tmp_path]) as device:
        device.run(STUBS)
        device.run("import board")
        names = ["NAME", "MODEL", "VENDOR", "CHIP", "RADIO", "I2C", "PMU", "BATTERY", "PARTS"]
        values: dict[str, Any] = {key: device.call(f"board.{key}") for key in names}
        assert (values["NAME"], values["MODEL"], values["VENDOR"]) == (name, board.model, board.vendor)
        for key, section in (
            ("RADIO", board.radio),
            ("I2C", board.i2c),
            ("PMU", board.pmu),
            ("BATTERY", board.battery),
        ):
            if section is None:
                assert values[key] is None
            else:
                assert values[key] == {field: value for field, value in vars(section).items() if value is not None}
        assert device.call("board.i2c().set_up") == (board.i2c.id, board.i2c.scl, board.i2c.sda, board.i2c.freq_hz)
        assert device.call("board.i2c() is board.i2c()")
        if board.pmu:
            device.run(f"registers[{board.pmu.address}, 3] = 0x4A")
            device.run("board.power()")
            rail = int(board.pmu.radio_rail[-1]) - 1
            assert device.call(f"registers[{board.pmu.address}, {0x92 + rail}]") == (board.pmu.radio_mv - 500) // 100
            assert device.call(f"registers[{board.pmu.address}, 0x90]") == 1 << rail
        else:
            device.run("board.power()")
        if board.battery.adc is not None:
            assert device.call("board.battery_adc().set_up") == (board.battery.adc, 3)


def test_every_radio_setting_reaches_the_device_by_the_drivers_names() -> None:
    # micropython-lib: SX1262(spi, cs, busy, dio1, dio2_rf_sw, dio3_tcxo_millivolts, ..., reset, lora_cfg)
    radio = boards.load("VIRTUAL").radio
    assert radio
    assert {"cs", "busy", "dio1", "reset", "dio2_rf_sw", "dio3_tcxo_mv"} <= set(vars(radio))


def test_unknown_board_is_refused_and_cannot_leave_the_folder() -> None:
    for name in ("NONE", "", "virtual", "../VIRTUAL", "VIRTUAL/../VIRTUAL", "/etc", "A" * 100):
        with pytest.raises(boards.BoardError, match="there are: LILYGO_T_BEAM, VIRTUAL"):
            boards.load(name)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('model = "virtual-wearable"', "", "model: missing"),
        ('model = "virtual-wearable"', 'model = "Virtual Wearable"', "model: .* does not match"),
        ('model = "virtual-wearable"', "model = 7", "model: 7 does not match"),
        ('name = "VIRTUAL"', 'name = "OTHER"', "name is 'OTHER', the folder 'VIRTUAL'"),
        ('vendor = "sealband.example"', 'vendor = "sealband"', "vendor: .* does not match"),
        ('chip = "esp32"', 'chip = "esp8266"', "chip: 'esp8266' is none of"),
        ('chip = "SX1262"', 'chip = "SX9999"', "chip: 'SX9999' is none of"),
        ('region = "EU868"', 'region = "MARS"', "region: 'MARS' is none of"),
        ("sck = 5", "sck = true", "sck: True is no integer"),
        ("sck = 5", "sck = 5.0", "sck: 5.0 is no integer"),
        ("sck = 5", "sck = 6", "esp32 has no GPIO 6 to spare"),
        ("sck = 5", "sck = 24", "esp32 has no GPIO 24"),
        ("sck = 5", "sck = 34", "GPIO 34 can only be an input"),
        ("sck = 5", "sck = 21", "GPIO 21 is both radio.sck and i2c.sda"),
        ("sck = 5", "sck = 5\ncolour = 1", "radio: colour: unknown key"),
        ("busy = 32", "", "radio: busy: missing"),
        ("dio3_tcxo_mv = 1800", "dio3_tcxo_mv = 18", "dio3_tcxo_mv: 18 is no integer from 1600"),
        ("adc = 35", "adc = 25", "GPIO 25 is no input of ADC1"),
        ("adc = 35", "", "divider: unknown key|needs adc"),
        ("divider = 2.0", 'divider = "2"', "divider: '2' is no number"),
        ("divider = 2.0", "divider = nan", "divider: nan is no number"),
        ("low_mv = 3500", "low_mv = 3200", "low_mv: must lie between"),
        ("address = 0x48", "address = 0x57", "two parts have the same address"),
        ("address = 0x48", "address = 0x78", "parts.1.: address: 120 is no integer"),
        ("[i2c]", "[i3c]", "i3c: unknown key"),
        ("flash_size = 0x400000", "flash_size = 0", "flash_size: 0 is no integer"),
        ('name = "VIRTUAL"', "name = VIRTUAL", "VIRTUAL/board.toml: "),
        ('[[parts]]\npart = "MAX30102"', '[parts]\npart = "MAX30102"', "VIRTUAL/board.toml: "),
    ],
)
def test_wrong_definition_is_refused(old: str, new: str, complaint: str) -> None:
    assert old in GOOD
    with pytest.raises(boards.BoardError, match=complaint):
        boards.parse(GOOD.replace(old, new, 1), "VIRTUAL")


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("a, data, nvs, 0x9000", "4 cells"),
        ("a, other, nvs, 0x9000, 0x1000", "neither app nor data"),
        ("a, data, nvs, here, 0x1000", "'here' is no number"),
        ("a, data, nvs, 0x9000, 0", "not aligned"),
        ("a, data, nvs, 0x9100, 0x1000", "not aligned"),
        ("a, app, ota_0, 0x11000, 0x1000", "not aligned"),
        ("a, data, nvs, 0x8000, 0x1000", "before 0x9000"),
        ("a, data, nvs, 0x9000, 4M", "behind the flash"),
        ("a, data, nvs, 0x9000, 0x2000\nb, data, nvs, 0xa000, 0x1000", "line 2: b begins at 0xa000, before 0xb000"),
        ("a, data, nvs, 0x9000, 0x1000\na, data, nvs, 0xa000, 0x1000", "a is there twice"),
        (", data, nvs, 0x9000, 0x1000", "a name has"),
    ],
)
def test_wrong_partition_table_is_refused(row: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "partitions.csv"
    path.write_text(row)
    with pytest.raises(partitions.PartitionError, match=complaint):
        partitions.read(path, 0x400000)


def test_missing_partition_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(partitions.PartitionError, match="No such file"):
        partitions.read(tmp_path / "partitions.csv", 0x400000)
