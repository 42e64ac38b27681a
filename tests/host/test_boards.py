"""Board definitions: every board is complete and consistent, and a wrong one is refused with what is wrong."""

import re
from pathlib import Path
from typing import Any

import pytest

import boards
from boards import chips, partitions, regions, sections
from boards.table import Table
from host_tools.release.room import room
from host_tools.sim.parts import bme280, max30102, tmp117
from provisioning.station.firmware import Cache, FirmwareMissing
from sealwire import charge
from tests.support.micropython import ROOT, Micropython

GOOD = (boards.ROOT / "VIRTUAL" / "board.toml").read_text()
# which package of micropython-lib drives which chip (micropython/lora/README.md)
DRIVERS = {"SX126": "lora-sx126x", "SX127": "lora-sx127x"}
# parts that a board bears of itself, with the addresses that their datasheets leave
ON_BOARD = {"BMA423": {0x18, 0x19}, "LSM6DSOX": {0x6A, 0x6B}, "PCF8563": {0x51}, "DRV2605": {0x5A}}
# GPIOs that are not for a board's parts, as ESP-IDF's tables have them (docs/en/api-reference/peripherals/gpio/*.inc):
# missing, flash and PSRAM, console
TAKEN = {
    ("esp32", "none", "uart0"): {20, 24, 28, 29, 30, 31} | {6, 7, 8, 9, 10, 11} | {1, 3},
    ("esp32", "quad", "uart0"): {20, 24, 28, 29, 30, 31} | {6, 7, 8, 9, 10, 11, 16, 17} | {1, 3},
    ("esp32s3", "none", "uart0"): {22, 23, 24, 25} | {26, 27, 28, 29, 30, 31, 32} | {43, 44},
    ("esp32s3", "none", "usb"): {22, 23, 24, 25} | {26, 27, 28, 29, 30, 31, 32} | {19, 20},
    ("esp32s3", "octal", "usb"): {22, 23, 24, 25} | set(range(26, 38)) | {19, 20},
}
# RTC_GPIO of the same tables
RTC = {"esp32": {0, 2, 4, 12, 13, 14, 15, 25, 26, 27, 32, 33, 34, 35, 36, 37, 38, 39}, "esp32s3": set(range(22))}
STRAPPING = {"esp32": {0, 2, 5, 12, 15}, "esp32s3": {0, 3, 45, 46}}
# radio pins as the sources that the definitions name have them: sck, mosi, miso, cs, reset, busy, dio0, dio1
PUBLISHED = {
    "VIRTUAL": (5, 27, 19, 18, 23, 32, None, 33),
    "LILYGO_T_BEAM": (5, 27, 19, 18, 23, 32, None, 33),
    "LILYGO_T_BEAM_SX1276": (5, 27, 19, 18, 23, None, 26, 33),
    "LILYGO_T_WATCH_S3": (3, 1, 4, 5, 8, 7, None, 9),
    "LILYGO_T_SIM7080G_S3": None,
    "HELTEC_WIFI_LORA_32_V3": (9, 10, 11, 8, 12, 13, None, 14),
    "HELTEC_WIRELESS_TRACKER": (9, 10, 11, 8, 12, 13, None, 14),
}
MIB = 1 << 20
GNSS = 'chip = "NEO-6M"\nuart = 2\ntx = 13\nrx = 39\nbaudrate = 9600\n'
SAME_UART = GNSS.replace("39", "14").replace("uart = 2", "uart = 1")
IMAGE = """
file = "ESP32_GENERIC-OTA-20250911-v1.26.1.bin"
sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
offset = 0x1000
source = "https://micropython.org/download/ESP32_GENERIC/"
"""
STUBS = """
import sys
class Machine:
    class Pin:
        OUT = "out"
        def __init__(self, id, mode=None, value=None):
            self.id = id
            if mode == "out":
                driven[id] = value
    class I2C:
        def __init__(self, id, scl, sda, freq): self.set_up = (id, scl.id, sda.id, freq)
        def readfrom_mem_into(self, address, register, buffer):
            for at in range(len(buffer)): buffer[at] = registers.get((address, register + at), 0)
        def writeto_mem(self, address, register, data): registers[address, register] = data[0]
    class ADC:
        ATTN_11DB = 3
        def __init__(self, pin, atten): self.set_up = (pin.id, atten)
sys.modules["machine"] = Machine
registers = {}
driven = {}
class Board: pass
"""


@pytest.mark.parametrize("name", boards.names())
def test_board_is_complete(name: str) -> None:
    board = boards.load(name)
    assert board.name == name
    assert board.radio or board.modem
    assert board.i2c
    assert board.battery
    folder = boards.ROOT / name
    assert {path.name for path in folder.iterdir() if path.name != "__pycache__"} == {
        "board.toml",
        "partitions.csv",
        "manifest.py",
    }


def test_models_are_told_apart_even_without_case() -> None:
    models = [boards.load(name).model for name in boards.names()]
    assert len({model.upper() for model in models}) == len(models)


@pytest.mark.parametrize("name", sorted(set(boards.names()) - {"VIRTUAL"}))
def test_real_board_names_the_published_sources_of_its_pins(name: str) -> None:
    head = (boards.ROOT / name / "board.toml").read_text().partition("\nname = ")[0]
    sources = re.findall(r"github\.com/([\w.-]+/[\w.-]+)\s+#?\s*([\w./-]+\.(?:h|md|MD|cpp|rst|dts|json))", head)
    assert len(sources) >= 1
    assert "Not checked on" in head.replace("\n# ", " ")


@pytest.mark.parametrize("name", boards.names())
def test_radio_is_wired_as_it_was_published(name: str) -> None:
    radio = boards.load(name).radio
    wired = radio and (radio.sck, radio.mosi, radio.miso, radio.cs, radio.reset, radio.busy, radio.dio0, radio.dio1)
    assert wired == PUBLISHED[name]


@pytest.mark.parametrize("name", boards.names())
def test_pins_are_the_chips_and_free(name: str) -> None:
    board = boards.load(name)
    taken = TAKEN[board.chip, board.psram, board.console]
    pins = [pin for _, pin in board.pins()]
    assert len(pins) == len(set(pins))
    assert not set(pins) & taken
    assert set(board.strapping) == set(pins) & STRAPPING[board.chip]
    if board.chip == "esp32":
        inputs = {"radio.miso", "radio.busy", "radio.dio0", "radio.dio1", "battery.adc", "gnss.rx", "gnss.pps"}
        inputs |= {"button.pin"} | {f"{part.part}.int" for part in board.parts}
        assert all(where in inputs for where, pin in board.pins() if pin >= 34)


@pytest.mark.parametrize("name", boards.names())
def test_whatever_is_to_wake_a_board_is_on_an_rtc_pin(name: str) -> None:
    board = boards.load(name)
    wakes = [pin for where, pin in board.pins() if where == "button.pin" or where.endswith(".int")]
    assert set(wakes) <= RTC[board.chip]


def test_chips_have_the_pins_of_espidfs_tables() -> None:
    for (name, psram, console), taken in TAKEN.items():
        chip = chips.CHIPS[name]
        free = chip.gpio - chip.flash - chip.psram[psram] - chip.console[console]
        assert free == set(range(40 if name == "esp32" else 49)) - taken
        assert chip.strapping == STRAPPING[name]
        assert chip.rtc == RTC[name]


@pytest.mark.parametrize("name", boards.names())
def test_parts_are_where_the_drivers_look_for_them(name: str) -> None:
    wired = {"MAX30102": max30102.ADDRESS, "TMP117": tmp117.ADDRESS, "BME280": bme280.ADDRESS}
    for part in boards.load(name).parts:
        if part.part in ON_BOARD:
            assert part.address in ON_BOARD[part.part]
            continue
        assert part.address == wired[part.part]
        source = (ROOT / "device/lib/sealband/sensors" / f"{part.part.lower()}.py").read_text()
        assert int(re.findall(r"^ADDRESS = const\((\w+)\)", source, re.MULTILINE)[0], 16) == part.address


@pytest.mark.parametrize("name", boards.names())
def test_flash_holds_two_firmware_slots_and_a_file_system(name: str) -> None:
    board = boards.load(name)
    rows = {row.name: row for row in board.flash_layout()}
    assert list(rows) == ["nvs", "otadata", "phy_init", "ota_0", "ota_1", "vfs"]
    # MicroPython's partitions-4MiB-ota.csv and partitions-16MiB-ota.csv; 8 MiB are ours
    slot = 0x180000 if board.flash_size == 4 * MIB else 0x280000
    assert [rows["ota_0"].offset, rows["ota_0"].size] == [0x10000, slot]
    assert [rows["ota_1"].offset, rows["ota_1"].size] == [0x10000 + slot, slot]
    assert rows["vfs"].offset == 0x10000 + 2 * slot
    assert rows["vfs"].end == board.flash_size


def test_room_of_a_release_is_what_the_readme_says() -> None:
    readme = (boards.ROOT / "README.md").read_text()
    for name in boards.names():
        board = boards.load(name)
        files = next(row for row in board.flash_layout() if row.name == "vfs")
        line = next(line for line in readme.splitlines() if line.startswith(f"| {name} |"))
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[1:] == [
            board.model,
            f"{board.chip}, {board.flash_size // MIB} MiB",
            board.firmware,
            f"{files.size // 1024} KiB",
            f"{room(files).slot} of {files.size // 4096}",
        ]


@pytest.mark.parametrize("name", boards.names())
def test_board_without_an_image_is_refused_with_what_to_do(name: str, tmp_path: Path) -> None:
    board = boards.load(name)
    assert board.firmware_image is None
    with pytest.raises(FirmwareMissing) as error:
        Cache(tmp_path).read(board)
    assert name in str(error.value) and "firmware_image" in str(error.value) + error.value.remedy


@pytest.mark.parametrize("name", boards.names())
def test_manifest_freezes_the_driver_of_the_radio(name: str) -> None:
    board = boards.load(name)
    required: list[str] = []
    included: list[str] = []
    exec(board.manifest().read_text(), {"require": required.append, "include": included.append})
    radio = ["lora", "lora-sync", DRIVERS[board.radio.chip[:5]]] if board.radio else []
    assert required == [*radio, "aioble-peripheral", "aioble-server"]
    assert included == ["$(PORT_DIR)/boards/manifest.py"]


def plain(section: Any) -> Any:
    if hasattr(section, "__dataclass_fields__"):
        return {field: plain(value) for field, value in vars(section).items() if value is not None}
    return [plain(item) for item in section] if isinstance(section, tuple) else section


@pytest.mark.parametrize("name", boards.names())
def test_generated_module_says_on_micropython_what_the_definition_says(name: str, tmp_path: Path) -> None:
    board = boards.load(name)
    assert board.i2c
    assert board.battery
    (tmp_path / "board.py").write_text(board.module())
    with Micropython(path=[tmp_path]) as device:
        device.run(STUBS)
        device.run("import board")
        assert device.call("[board.NAME, board.MODEL, board.VENDOR, board.CHIP]") == [
            name,
            board.model,
            board.vendor,
            board.chip,
        ]
        for key in ("radio", "i2c", "pmu", "battery", "modem", "gnss"):
            assert device.call(f"board.{key.upper()}") == plain(getattr(board, key))
        assert device.call("board.PARTS") == {part.part: part.address for part in board.parts}
        lines = {part.part: part.interrupt for part in board.parts if part.interrupt is not None}
        assert device.call("board.INTERRUPTS") == lines
        pressed = (board.button.pin, int(not board.button.active_low)) if board.button else None
        assert device.call("board.BUTTON") == pressed
        assert device.call("board.POWER") == board.ledger()
        assert device.call("board.i2c().set_up") == (board.i2c.id, board.i2c.scl, board.i2c.sda, board.i2c.freq_hz)
        assert device.call("board.i2c() is board.i2c()")
        if board.pmu:
            device.run(f"registers[{board.pmu.address}, 3] = 0x4A")
        device.run("board.power()")
        if board.pmu and board.pmu.radio_rail and board.pmu.radio_mv:
            rail = int(board.pmu.radio_rail[-1]) - 1
            assert device.call(f"registers[{board.pmu.address}, {0x92 + rail}]") == (board.pmu.radio_mv - 500) // 100
            assert device.call(f"registers[{board.pmu.address}, 0x90]") == 1 << rail
        else:
            assert device.call("[key for key in registers if key[1] != 3]") == []
        if board.modem:
            assert device.call("board.modem_power(False)") is bool(board.modem.rails)
        if board.battery.adc is not None:
            assert device.call("board.battery_adc().set_up") == (board.battery.adc, 3)
            driven = {} if board.battery.enable is None else {board.battery.enable: not board.battery.enable_low}
            assert device.call("driven") == driven
        else:
            assert board.pmu
            # a battery is there; 0x0EDA are 3802 mV
            device.run(f"registers.update({{({board.pmu.address}, 0): 8, ({board.pmu.address}, 0x34): 0x0E}})")
            device.run(f"registers[{board.pmu.address}, 0x35] = 0xDA")
            assert device.call("board.battery_adc().read_uv()") == 3_802_000
            if board.pmu.i2c:
                bus = board.pmu.i2c
                device.run("buses = []")
                device.run("keep = Machine.I2C.__init__")
                device.run(
                    "def noted(self, id, scl, sda, freq):\n buses.append((id, scl.id, sda.id, freq))\n"
                    " keep(self, id, scl, sda, freq)"
                )
                device.run("Machine.I2C.__init__ = noted")
                device.run("board.battery_adc()")
                assert device.call("buses") == [(bus.id, bus.scl, bus.sda, bus.freq_hz)]


def test_modem_gets_its_supply_from_the_pmu_and_loses_it_again(tmp_path: Path) -> None:
    """AXP2101 datasheet, "Register list": 0x80 DC1 to DC5, 0x84 DC3 (102: 3.0 V), 0x90 bit 4 BLDO1, bit 5 BLDO2."""
    (tmp_path / "board.py").write_text(boards.load("LILYGO_T_SIM7080G_S3").module())
    with Micropython(path=[tmp_path]) as device:
        device.run(STUBS)
        # DC1 feeds the ESP32 itself; BLDO1 has a voltage that is not ours to change
        device.run("registers.update({(0x34, 3): 0x4A, (0x34, 0x80): 1, (0x34, 0x84): 0x80, (0x34, 0x96): 13})")
        device.run("import board")
        device.run("board.modem_power(True)")
        names = (0x80, 0x84, 0x90, 0x96, 0x97)
        held = f"[registers.get((0x34, at), 0) for at in {names}]"
        assert device.call(held) == [0b101, 0x80 | 102, 1 << 4, 13, 0]
        assert device.call("board.modem_power(False)") is True
        assert device.call(held) == [0b001, 0x80 | 102, 0, 13, 0]


def test_older_t_beam_s_pmu_feeds_radio_and_receiver(tmp_path: Path) -> None:
    """AXP192 datasheet, "Register list": 0x12 outputs, 0x28 LDO2 and LDO3 (15: 3.3 V)."""
    text = (boards.ROOT / "LILYGO_T_BEAM_SX1276" / "board.toml").read_text()
    for old, new in (("AXP2101", "AXP192"), ("ALDO2", "LDO2"), ("ALDO3", "LDO3")):
        text = text.replace(f'"{old}"', f'"{new}"')
    text = text.replace("PMU.AXP2101", "PMU.AXP192")
    (tmp_path / "board.py").write_text(boards.parse(text, "LILYGO_T_BEAM_SX1276").module())
    with Micropython(path=[tmp_path]) as device:
        device.run(STUBS)
        device.run("registers.update({(0x34, 3): 0x03, (0x34, 0x12): 3})")
        device.run("import board")
        device.run("board.power()")
        held = "[registers.get((0x34, at), 0) for at in (0x12, 0x28)]"
        assert device.call(held) == [0b0111, 0xF0]
        device.run("board.gnss_power(True)")
        assert device.call(held) == [0b1111, 0xFF]
        device.run("board.gnss_power(False)")
        assert device.call(held) == [0b0111, 0xFF]
    with pytest.raises(boards.BoardError, match="radio_mv: 3400 is no integer from 1800 to 3300"):
        boards.parse(text.replace("radio_mv = 3300", "radio_mv = 3400"), "LILYGO_T_BEAM_SX1276")


@pytest.mark.parametrize(
    ("name", "levels"), [("VIRTUAL", {13: 1}), ("HELTEC_WIRELESS_TRACKER", {3: 1, 35: 1}), ("LILYGO_T_WATCH_S3", None)]
)
def test_receiver_is_fed_by_its_pin_and_held_out_of_reset(
    name: str, levels: dict[int, int] | None, tmp_path: Path
) -> None:
    (tmp_path / "board.py").write_text(boards.load(name).module())
    with Micropython(path=[tmp_path]) as device:
        device.run(STUBS)
        device.run("import board, machine; seen = {}")
        device.run("machine.Pin.__init__ = lambda keep, id, mode=None, value=None: seen.update({id: value})")
        if levels is None:
            assert device.call("hasattr(board, 'gnss_power')") is (boards.load(name).gnss is not None)
            return
        device.run("board.gnss_power(True)")
        assert device.call("seen") == levels
        device.run("board.gnss_power(False)")
        assert device.call("seen") == dict.fromkeys(levels, 0)


@pytest.mark.parametrize("chip", sorted(sections.MODEMS))
def test_modem_has_a_module_with_its_family_s_table(chip: str) -> None:
    path = ROOT / "device/lib" / (sections.MODEMS[chip].replace(".", "/") + ".py")
    text: dict[str, str] = {}
    exec(path.read_text(), text)
    entries = [line.split("|")[0] for line in text["TABLE"].splitlines()]
    assert {"rat any", "rat lte", "setting", "clock", "pins", "off", "boot"} <= set(entries)
    assert len(entries) == len(set(entries))


def test_every_radio_setting_reaches_the_device_by_the_drivers_names() -> None:
    # micropython-lib: SX1262(spi, cs, busy, dio1, dio2_rf_sw, dio3_tcxo_millivolts, ..., reset, lora_cfg)
    radio = boards.load("VIRTUAL").radio
    assert radio
    assert {"cs", "busy", "dio1", "reset", "dio2_rf_sw", "dio3_tcxo_mv"} <= set(vars(radio))


def test_a_sub_band_is_eight_channels_of_the_region() -> None:
    for region, first in (("US915", 903_900), ("AU915", 916_800)):
        # RP002, chapters on US902-928 and AU915-928: 64 channels of 200 kHz; sub-band 2 is what most gateways hear
        channels = regions.channels(Table({"sub_band": 2}, "board"), region)
        assert channels == tuple(range(first, first + 1600, 200))
        assert regions.channels(Table({}, "board"), region) is None


def test_further_channels_reach_the_device() -> None:
    channels = [867_100, 867_300, 867_500, 867_700, 867_900, 868_100, 868_300, 868_500]
    assert regions.channels(Table({"channels_khz": channels}, "board"), "EU868") == tuple(channels)


def test_unknown_board_is_refused_and_cannot_leave_the_folder() -> None:
    for name in ("NONE", "", "virtual", "../VIRTUAL", "VIRTUAL/../VIRTUAL", "/etc", "A" * 100):
        with pytest.raises(boards.BoardError, match=r"there are: .*LILYGO_T_BEAM, .*VIRTUAL"):
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
        ('region = "EU868"', 'region = "EU868"\nchannels_khz = [868700]', "868700 is not within a band of EU868"),
        ('region = "EU868"', 'region = "EU868"\nchannels_khz = [868000]', "868000 is not within a band of EU868"),
        ('region = "EU868"', 'region = "EU868"\nchannels_khz = [867100]', "868100, 868300 and 868500 must be among"),
        ('region = "EU868"', 'region = "EU868"\nchannels_khz = []', "1 to 16 channels"),
        ('region = "EU868"', 'region = "EU868"\nchannels_khz = [868300, 868100]', "must be in rising order"),
        ('region = "EU868"', 'region = "EU868"\nsub_band = 2', "sub_band: unknown key"),
        ('region = "EU868"', 'region = "US915"\nsub_band = 9', "sub_band: 9 is no integer from 1 to 8"),
        ('region = "EU868"', 'region = "US915"\nchannels_khz = [902300]', "channels_khz: unknown key"),
        ('region = "EU868"', 'region = "IN865"\nchannels_khz = [867100]', "867100 is not within a band of IN865"),
        ('region = "EU868"', 'region = "AS923"\nlbt_dbm = 80', "lbt_dbm: 80 is no integer"),
        ("sck = 5", "sck = true", "sck: True is no integer"),
        ("sck = 5", "sck = 5.0", "sck: 5.0 is no integer"),
        ("sck = 5", "sck = 6", "esp32 has no GPIO 6 to spare"),
        ("sck = 5", "sck = 24", "esp32 has no GPIO 24$"),
        ("sck = 5", "sck = 3", r"no GPIO 3 to spare: its console \(uart0\)"),
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
        ("[button]\npin = 36", "[button]\npin = 16", "pin: GPIO 16 is no RTC pin: it cannot wake the esp32"),
        ("[button]\npin = 36", "[button]\npin = 32", "GPIO 32 is both radio.busy and button.pin"),
        ("active_low = true", "", "button: active_low: missing"),
        ('part = "TMP117"', 'int = 18\npart = "TMP117"', "int: GPIO 18 is no RTC pin"),
        ('part = "TMP117"', 'int = 36\npart = "TMP117"', "both button.pin and TMP117.int|both TMP117.int and"),
        ("[power]", "[powder]", "power: missing"),
        ("capacity_mah = 1000", "capacity_mah = 1", "capacity_mah: 1 is no integer from 10"),
        ("efficiency = 0.85", "", "efficiency: missing"),
        ("efficiency = 0.85", "efficiency = 85", "efficiency: 85 is no number from 0.3 to 1.0"),
        ('regulator = "switching"', 'regulator = "linear"', "efficiency: unknown key"),
        ("quiescent_ma = 0.05", "quiescent_ma = nan", "quiescent_ma: nan is no number"),
        ("usable = 0.85", "usable = 1.5", "usable: 1.5 is no number from 0.1 to 1.0"),
        ("[button]", "[power.currents.SX1276]\nsource = 'x'\n[button]", "SX1276: the board has no such part"),
        ("[button]", "[power.currents.SX1262]\nrx = 5\n[button]", "SX1262: source: missing"),
        ("[button]", "[power.currents.SX1262]\nsource = ''\n[button]", "source: '' is no line of text"),
        ("[button]", "[power.currents.SX1262]\nsource = 'x'\nrx = -1\n[button]", "rx: -1 is no number from 0.0"),
        ("psram", "# psram", "psram: missing"),
        ('psram = "none"', 'psram = "octal"', "psram: 'octal' is none of"),
        ('console = "uart0"', 'console = "usb"', "console: 'usb' is none of"),
        ("strapping = [5]", "", r"strapping: must be \[5\]"),
        ("strapping = [5]", "strapping = [5, 12]", r"strapping: must be \[5\]"),
        ("strapping = [5]", "strapping = [5, 5]", "strapping: must be in rising order"),
        ("strapping = [5]", 'strapping = ["5"]', "strapping: must be an array of integers"),
        ("strapping = [5]", "strapping = [true]", "strapping: must be an array of integers"),
        ('model = "virtual-wearable"', f'model = "{"x" * 33}"', "model: .* does not match"),
        ("[battery]", "[battery]\nenable = 4", "enable_low: missing"),
        ("[battery]", "[battery]\nenable_low = true", "enable_low: unknown key"),
        ("[gnss]", "[gnss]\nrail = 'ALDO3'", "a rail needs a .pmu."),
        ("uart = 2", "uart = 0", "uart: 0 is no integer"),
        ("rx = 16", "rx = 33", "both radio.dio1 and gnss.rx"),
        ('part = "TMP117"', 'part = "MAX30102"', "two parts have the same name"),
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
    ("name", "old", "new", "complaint"),
    [
        ("LILYGO_T_BEAM", "tx = 12", "tx = 17", "no GPIO 17 to spare: its quad PSRAM"),
        ("LILYGO_T_WATCH_S3", "busy = 7", "busy = 33", "no GPIO 33 to spare: its octal PSRAM"),
        ("LILYGO_T_WATCH_S3", "busy = 7", "busy = 20", r"no GPIO 20 to spare: its console \(usb\)"),
        ("LILYGO_T_WATCH_S3", "busy = 7", "busy = 28", "no GPIO 28 to spare: its flash chip"),
        ("LILYGO_T_WATCH_S3", "busy = 7", "busy = 22", "esp32s3 has no GPIO 22$"),
        ("LILYGO_T_WATCH_S3", 'radio_rail = "ALDO4"\nradio_mv = 3300', "", "radio_rail is there just if"),
        ("LILYGO_T_WATCH_S3", 'radio_rail = "ALDO4"', 'radio_rail = "DC3"', "radio_rail: 'DC3' is none of"),
        ("LILYGO_T_WATCH_S3", "address = 0x19", "address = 0x34", "two parts have the same address"),
        ("LILYGO_T_SIM7080G_S3", "[pmu.i2c]\nid = 1", "[pmu.i2c]\nid = 0", "two buses have the id 0"),
        ("LILYGO_T_SIM7080G_S3", "sda = 15", "sda = 1", "GPIO 1 is both i2c.sda and pmu.i2c.sda"),
        ("LILYGO_T_SIM7080G_S3", 'feeds = "level"', 'feeds = "lamp"', "feeds: 'lamp' is none of"),
        ("LILYGO_T_SIM7080G_S3", "power_key = 41", "", "power_key: missing"),
        ("LILYGO_T_SIM7080G_S3", "power_key = 41", "power_key = 5", "both modem.tx and modem.power_key"),
        ("LILYGO_T_SIM7080G_S3", "power_key_ms = 1000", "power_key_ms = 0", "power_key_ms: 0 is no integer"),
        ("LILYGO_T_SIM7080G_S3", 'chip = "SIM7080G"', 'chip = "SIM800L"', "chip: 'SIM800L' is none of"),
        ("LILYGO_T_SIM7080G_S3", "uart = 1", "uart = 0", "uart: 0 is no integer"),
        ("LILYGO_T_SIM7080G_S3", "baudrate = 115200", "baudrate = 5000000", "baudrate: 5000000 is no integer"),
        ("LILYGO_T_SIM7080G_S3", 'rail = "DC3"', 'rail = "DC2"', "rail: 'DC2' is none of"),
        ("LILYGO_T_SIM7080G_S3", "mv = 3000", "mv = 1500", "mv: 1500 is no integer from 1600"),
        ("LILYGO_T_SIM7080G_S3", "mv = 3000", "mv = 3050", "mv: goes in steps of 100"),
        ("LILYGO_T_SIM7080G_S3", 'rail = "BLDO2"', 'rail = "BLDO1"', "rails: one is there twice"),
        ("LILYGO_T_SIM7080G_S3", 'feeds = "modem"', 'feeds = "gnss"', "rails: none feeds the modem"),
        ("LILYGO_T_SIM7080G_S3", "[battery]", f"[gnss]\n{SAME_UART}[battery]", "the same uart"),
        ("HELTEC_WIFI_LORA_32_V3", "adc = 1", "adc = 15", "GPIO 15 is no input of ADC1"),
        ("HELTEC_WIRELESS_TRACKER", "strapping = [3]", "", r"strapping: must be \[3\]"),
    ],
)
def test_definition_that_does_not_fit_its_chip_or_itself_is_refused(
    name: str, old: str, new: str, complaint: str
) -> None:
    good = (boards.ROOT / name / "board.toml").read_text()
    assert old in good
    with pytest.raises(boards.BoardError, match=complaint):
        boards.parse(good.replace(old, new, 1), name)


@pytest.mark.parametrize("name", boards.names())
def test_somebody_has_figures_of_every_part_of_a_board_and_says_where_from(name: str) -> None:
    board = boards.load(name)
    assert board.power.unknown == ()
    for part, known in board.power.currents.items():
        assert re.search(r"datasheet|data sheet|hardware design|measured|assumed", known.source), part
    states = {state for known in board.power.currents.values() for state in known.ma}
    assert {"awake", "deep_sleep"} <= states
    assert not board.radio or {"sleep", "rx"} <= set(board.power.currents[board.radio.chip].ma)
    assert not board.modem or {"off", "psm", "session"} <= set(board.power.currents[board.modem.chip].ma)


def test_currents_are_the_datasheets() -> None:
    """SX1261/2 datasheet rev 2.1 tables 3-3 to 3-5; SX1276 rev 7 table 6; ESP32 series datasheet, deep sleep; MAX30102
    19-7740: 0.6 mA beside two LEDs of 6.2 mA that are lit for 411 us a hundred times a second.
    """
    virtual, tbeam = boards.load("VIRTUAL").power, boards.load("LILYGO_T_BEAM_SX1276").power
    assert virtual.currents["SX1262"].ma["rx"] == 4.6
    assert [virtual.currents["SX1262"].ma[f"tx_{dbm}"] for dbm in (14, 17, 20, 22)] == [90, 95, 102, 118]
    assert [tbeam.currents["SX1276"].ma[state] for state in ("rx", "tx_17", "tx_20")] == [12, 87, 120]
    assert virtual.currents["esp32"].ma["deep_sleep"] == 0.01
    assert virtual.currents["MAX30102"].ma["measuring"] == pytest.approx(0.6 + 2 * 6.2 * 0.0411, abs=0.005)


def test_what_the_cell_gives_is_what_the_part_takes_through_the_regulator() -> None:
    # 4.6 mA of 3.3 V are 15.18 mW; 17.86 mW of the cell at 85 %, 4.827 mA at 3.7 V; a linear one passes 4.6 mA on
    assert boards.load("VIRTUAL").power.cell_ua("SX1262", "rx") == pytest.approx(4827, abs=1)
    assert boards.load("HELTEC_WIFI_LORA_32_V3").power.cell_ua("SX1262", "rx") == pytest.approx(4600)
    assert boards.load("VIRTUAL").power.cell_ua("SIM7080G", "session") == pytest.approx(80_000)
    assert boards.load("VIRTUAL").power.cell_ua("NONE", "rx") == 0


def test_a_transmission_takes_what_is_listed_for_the_next_higher_power() -> None:
    power = boards.load("VIRTUAL").power
    assert [power.tx_state("SX1262", dbm) for dbm in (2, 14, 15, 21, 22, 27)] == [
        "tx_14",
        "tx_14",
        "tx_17",
        "tx_22",
        "tx_22",
        "tx_22",
    ]
    american = boards.parse(GOOD.replace('region = "EU868"', 'region = "US915"'), "VIRTUAL")
    assert american.radio and american.radio.tx_mw == round(118 * 3.3)


def test_a_board_s_own_measurement_takes_the_place_of_the_part_s() -> None:
    own = "[power.currents.esp32]\nsource = 'measured by somebody'\nawake = 25.5\n\n[button]"
    power = boards.parse(GOOD.replace("[button]", own), "VIRTUAL").power
    assert power.currents["esp32"].source == "measured by somebody"
    assert power.currents["esp32"].ma["awake"] == 25.5
    assert power.currents["esp32"].ma["deep_sleep"] == 0.01


def test_a_part_that_nobody_has_figures_of_is_named_and_counts_as_nothing() -> None:
    text = GOOD.replace('part = "TMP117"', 'part = "SHT40"').replace('[[parts]]\npart = "BME280"\naddress = 0x76\n', "")
    power = boards.parse(text, "VIRTUAL").power
    assert power.unknown == ("SHT40",)
    assert boards.parse(text, "VIRTUAL").ledger()[charge.SENSORS] == 0


def test_the_device_counts_with_the_same_table() -> None:
    """Microamperes of the cell at 3.7 V behind a regulator of 85 %, in the order of `sealwire.charge`."""
    ledger = boards.load("VIRTUAL").ledger()
    through = 3300 / (3700 * 0.85)
    assert len(ledger) == charge.LORA_RX + 1
    assert ledger[charge.CHIP] == round((40_000 - 10) * through)
    assert ledger[charge.LORA] == round(90_000 * through)
    assert ledger[charge.LORA_RX] == round(4_600 * through)
    assert ledger[charge.MODEM] == 80_000
    # 50 uA of the board, the chip's 10, the modem's 7, less than one of every sensor in standby
    assert 67 <= ledger[charge.BOARD] <= 75


def test_board_that_cannot_send_is_refused() -> None:
    without = re.sub(r"\[radio\].*?(?=\[i2c\])|\[modem\].*?(?=\[battery\])", "", GOOD, flags=re.DOTALL)
    with pytest.raises(boards.BoardError, match="nothing to send with"):
        boards.parse(without.replace("[5]", "[]"), "VIRTUAL")


def test_image_that_a_definition_names_is_read() -> None:
    image = boards.parse(f"{GOOD}\n[firmware_image]\n{IMAGE}", "VIRTUAL").firmware_image
    assert image == boards.FirmwareImage(
        file="ESP32_GENERIC-OTA-20250911-v1.26.1.bin",
        sha256="0123456789abcdef" * 4,
        offset=0x1000,
        source="https://micropython.org/download/ESP32_GENERIC/",
    )


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("0123", "01234", "sha256: .* does not match"),
        ("abcdef", "ABCDEF", "sha256: .* does not match"),
        ("ESP32_GENERIC-OTA-", "../", "file: .* does not match"),
        (".bin", ".exe", "file: .* does not match"),
        ("0x1000", "0", "offset: this chip's image begins at 0x1000"),
        ("https://", "http://", "source: .* does not match"),
        ("source", "# source", "source: missing"),
    ],
)
def test_image_that_is_named_wrongly_is_refused(old: str, new: str, complaint: str) -> None:
    assert old in IMAGE
    with pytest.raises(boards.BoardError, match=f"firmware_image: {complaint}"):
        boards.parse(f"{GOOD}\n[firmware_image]\n{IMAGE.replace(old, new, 1)}", "VIRTUAL")


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
