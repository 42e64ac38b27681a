"""The board's `lora` module: micropython-lib's API, Semtech's airtimes, and the way over the ether."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from host_tools.sim.airtime import RadioParams, airtime_s
from host_tools.sim.board import VirtualBoard
from host_tools.sim.clock import SimClock
from host_tools.sim.ether import Ether, EtherClient
from host_tools.sim.medium import Medium
from tests.support.boards import BoardMaker, scripted

SPEED = 10
MODEM = """
import time
from machine import SPI, Pin
from lora import ConfigError, RxPacket, SX1262, SX1276
cfg = {"freq_khz": 868100, "sf": 7, "bw": "125", "coding_rate": 5, "preamble_len": 8, "syncword": 0x34}
modem = SX1262(
    SPI(1, baudrate=2000000, sck=Pin(5), mosi=Pin(27), miso=Pin(19)), cs=Pin(18), busy=Pin(32), dio1=Pin(33),
    reset=Pin(23), dio3_tcxo_millivolts=1800, lora_cfg=cfg)
"""
PARAMS = RadioParams(868_100_000, 7)
DOWN = RadioParams(868_100_000, 7, crc=False, invert_iq=True)
# sf, bandwidth, coding rate, preamble, payload, explicit header, crc → ms. As Semtech's "SX1261 LoRa Calculator" gives
# them, recorded in micropython-lib's micropython/lora/tests/test_time_on_air.py.
SEMTECH = [
    (12, "500", 5, 8, 1, True, True, 206.848),
    (12, "500", 5, 12, 64, True, True, 649.216),
    (12, "500", 5, 8, 192, True, True, 1476.608),
    (12, "500", 5, 12, 16, False, False, 280.576),
    (8, "125", 6, 8, 1, True, True, 53.760),
    (8, "125", 6, 8, 3, True, True, 66.048),
    (8, "125", 6, 8, 253, True, True, 827.904),
    (8, "125", 6, 12, 253, False, True, 823.808),
]


@pytest.fixture
def clock() -> SimClock:
    return SimClock.start(SPEED)


@pytest.fixture
def ether(clock: SimClock) -> Iterator[tuple[str, int]]:
    medium = Ether(clock, seed=1)
    address = medium.start()
    yield address
    medium.stop()


@pytest.fixture
def make(tmp_path: Path, clock: SimClock, ether: tuple[str, int]) -> Iterator[BoardMaker]:
    made: list[VirtualBoard] = []

    def make(main: str = "", **settings: Any) -> VirtualBoard:
        arguments = {"clock": clock, "ether": ether} | settings
        made.append(scripted(tmp_path / f"b{len(made)}", MODEM + main, **arguments))
        return made[-1]

    yield make
    for board in made:
        board.stop()


def test_airtimes_are_those_of_semtech_s_calculator(make: BoardMaker) -> None:
    cases = [case[:-1] for case in SEMTECH]
    script = f"""
for sf, bw, coding_rate, preamble_len, length, header, crc in {cases!r}:
    settings = {{"sf": sf, "bw": bw, "coding_rate": coding_rate, "preamble_len": preamble_len, "crc_en": crc}}
    settings["implicit_header"] = not header
    modem.configure(settings)
    print("us", modem.get_time_on_air_us(length))
print("end")
"""
    with make(script) as board:
        board.wait_for("end")
        found = [int(line.split()[1]) for line in board.log if line.startswith("us")]
    assert found == [round(case[-1] * 1000) for case in SEMTECH]


def test_airtime_on_the_board_is_the_ether_s_own(make: BoardMaker) -> None:
    script = """
for sf in range(7, 13):
    modem.configure({"sf": sf})
    print("us", *[modem.get_time_on_air_us(n) for n in range(13, 223, 19)])
print("end")
"""
    with make(script) as board:
        board.wait_for("end")
        found = [[int(us) for us in line.split()[1:]] for line in board.log if line.startswith("us")]
    for sf, row in zip(range(7, 13), found, strict=True):
        for length, us in zip(range(13, 223, 19), row, strict=True):
            assert us == pytest.approx(airtime_s(RadioParams(868_100_000, sf), length) * 1e6, abs=1)


def test_settings_that_no_modem_has_are_refused_and_change_nothing(make: BoardMaker) -> None:
    script = """
before = modem.get_time_on_air_us(20)
for bad in ({"sf": 13}, {"sf": 4}, {"coding_rate": 9}, {"freq_khz": 1}, {"bw": "126"}):
    try:
        modem.configure(bad)
        print("TAKEN", bad)
    except (ConfigError, KeyError) as error:
        print("refused", type(error).__name__, error)
try:
    modem.send(bytes(256))
except ConfigError as error:
    print("refused", error)
try:
    SX1276(SPI(1), Pin(18), lora_cfg={"freq_khz": 868100, "sf": 6})
except ConfigError as error:
    print("refused", error)
print("same", before == modem.get_time_on_air_us(20), isinstance(ConfigError("x"), ValueError))
"""
    with make(script) as board:
        board.wait_for("same True True")
        assert sum(line.startswith("refused") for line in board.log) == 7
        assert any("Invalid lora_cfg sf" in line for line in board.log)


def test_packet_goes_from_board_to_board(make: BoardMaker) -> None:
    receiver = make(
        """
print("listening")
packet = modem.recv(20000)
print("got", bytes(packet), packet.valid_crc, packet.rssi < 0, type(packet.snr), isinstance(packet, bytearray))
print("late", time.ticks_diff(time.ticks_ms(), packet.ticks_ms) < 1000)
"""
    )
    sender = make(
        """
begin = time.ticks_ms()
end = modem.send(b"\\xe0hello")
air_ms = modem.get_time_on_air_us(6) // 1000
print("sent", time.ticks_diff(end, begin) >= air_ms, time.ticks_diff(time.ticks_ms(), end) < 1000)
"""
    )
    with receiver, sender:
        # both started together: send once the receiver is on
        receiver.wait_for("listening")
        sender.wait_for("sent True True")
        sender.reset()
        receiver.wait_for("got b'\\xe0hello' True True <class 'int'> True")
        receiver.wait_for("late True")


def test_receiver_times_out_in_virtual_time(make: BoardMaker) -> None:
    script = """
begin = time.ticks_ms()
print("none", modem.recv(3000))
print("after", time.ticks_diff(time.ticks_ms(), begin))
"""
    with make(script) as board:
        board.wait_for("none None")
        assert 3000 <= int(board.wait_for("after").split()[1]) < 6000


def test_downlink_is_heard_with_inverted_polarity_only(
    make: BoardMaker, ether: tuple[str, int], clock: SimClock
) -> None:
    script = """
print("first", modem.recv(4000))
modem.configure({"invert_iq_rx": True})
print("second", modem.recv(20000))
"""
    with make(script) as board, EtherClient(ether, "gateway", clock) as gateway:
        limit = time.monotonic() + 10
        while not any("second" in line for line in board.log) and time.monotonic() < limit:
            gateway.transmit(b"\xe0down", DOWN)
            clock.sleep(1.0)
        board.wait_for("first None")
        board.wait_for("second bytearray(b'\\xe0down')")


def test_control_c_ends_a_receive_without_end_and_the_modem_goes_on(
    make: BoardMaker, ether: tuple[str, int], clock: SimClock
) -> None:
    script = """
try:
    print("listening")
    modem.recv()
except KeyboardInterrupt:
    print("interrupted")
print("again")
print("got", bytes(modem.recv(60000)))
"""
    with make(script) as board, EtherClient(ether, "other", clock) as other:
        board.wait_for("listening")
        time.sleep(0.1)
        board.type("\x03")
        board.wait_for("again")
        time.sleep(0.2)
        other.transmit(b"\xe0later", PARAMS)
        board.wait_for("got b'\\xe0later'")


def test_low_level_calls_work_as_in_the_driver(make: BoardMaker, ether: tuple[str, int], clock: SimClock) -> None:
    script = """
modem.start_recv(continuous=True)
try:
    modem.configure({"sf": 8})
except RuntimeError:
    print("busy refused")
got = 0
while got < 3:
    packet = modem.poll_recv()
    if packet is not True:
        got += 1
        print("got", bytes(packet))
    time.sleep_ms(20)
modem.standby()
print("idle", modem.is_idle(), modem.poll_recv(), modem.poll_send())
modem.configure({"sf": 12})
modem.prepare_send(b"\\xe0x" * 20)
modem.start_send()
print("sending", modem.poll_send())
while True:
    ticks = modem.poll_send()
    if ticks is not True:
        break
print("done", type(ticks), modem.poll_send())
modem.sleep()
"""
    with make(script) as board, EtherClient(ether, "other", clock) as other:
        board.wait_for("busy refused")
        for number in range(3):
            other.transmit(b"\xe0%d" % number, PARAMS)
            board.wait_for(f"got b'\\xe0{number}'")
        board.wait_for("idle True False False")
        board.wait_for("sending True")
        board.wait_for("done <class 'int'> False")


def test_power_cut_while_receiving_leaves_the_ether_usable(
    make: BoardMaker, ether: tuple[str, int], clock: SimClock
) -> None:
    script = "print('listening')\nprint('got', bytes(modem.recv()))"
    with make(script) as board, EtherClient(ether, "other", clock) as other:
        for _ in range(3):
            mark = board.line_count
            board.power_cut()
            board.power_on()
            board.wait_for("listening", after=mark)
        time.sleep(0.1)
        other.transmit(b"\xe0still", PARAMS)
        board.wait_for("got b'\\xe0still'")


def test_board_without_an_ether_sends_into_the_void(make: BoardMaker) -> None:
    script = "modem.send(b'x')\nprint('sent')\nprint('heard', modem.recv(1000))"
    for address in (None, ("127.0.0.1", 1)):
        with make(script, ether=address) as board:
            board.wait_for("sent")
            board.wait_for("heard None")


SENSE = (Path(__file__).resolve().parents[2] / "device/lib/sealband/links/sense.py").read_text()
DRIVE = """
def drive(steps):
    try:
        while True:
            time.sleep_ms(next(steps))
    except StopIteration as end:
        return end.value

def ask(frequency_khz, chip=modem):
    chip.configure({"freq_khz": frequency_khz, "sf": 12, "invert_iq_rx": True})
    return drive(clear(chip, -80)), drive(active(chip, 12)), chip.is_idle()

older = SX1276(SPI(1), Pin(18), dio0=Pin(26), lora_cfg=dict(cfg, tx_ant="PA_BOOST"))
print("ready")
while modem.recv(2000) is None:
    pass
time.sleep_ms(1000)  # the neighbour's long packet has begun
print("on air", ask(868100), ask(868100, older))
print("beside", ask(868500), ask(868500, older))
print("end")
"""


def test_a_neighbour_on_the_channel_is_sensed_by_level_and_by_its_symbols(
    tmp_path: Path, clock: SimClock, make: BoardMaker
) -> None:
    medium = Ether(clock, medium=Medium(default_path_loss_db=60.0))
    medium.start()
    near = EtherClient(medium.address or ("", 0), "near", clock)
    with medium, near, make(SENSE + DRIVE, ether=medium.address) as board:
        board.wait_for("ready")
        limit = time.monotonic() + 15
        while not any("on air" in line for line in board.log) and time.monotonic() < limit:
            near.transmit(b"\xe0wake", PARAMS)
            clock.sleep(0.2)
            sent = near.transmit(bytes(255), RadioParams(868_100_000, 12, invert_iq=True))
            clock.sleep(sent.end - clock.now())
        board.wait_for("end")
        assert any("on air (False, True, True) (False, True, True)" in line for line in board.log), board.log
        assert any("beside (True, False, True) (True, False, True)" in line for line in board.log), board.log
