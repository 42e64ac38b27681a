"""The NMEA parser beside pynmea2, and the driver on a simulated receiver: sky and none, garbage, silence, cells."""

import itertools
import math
import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pynmea2
import pytest

from host_tools.sim.gnss import COLD_S, GnssFault, Receiver, sentence
from host_tools.sim.script import DAY_S, Script, sky
from host_tools.sim.uart import TalkerUart
from host_tools.sim.wearer import Wearer
from tests.support.faults import NOW, FaultyBus

METRES_A_DEGREE = 111_319.5
SETUP = """
from sealband.sensors import gnss, nmea

def parse(data):
    parser = nmea.Nmea()
    parser.feed(data)
    return parser.fix, parser.sentences, parser.sky

class Settings:
    pass

def make(cell_m=None):
    global sensor
    sensor = gnss.sensor(board, sensor.kept if sensor else None)
    if cell_m is not None:
        sensor.settings = Settings()
        sensor.settings.position_cell_m = cell_m

def read():
    try:
        begun = dev.us
        sensor.start()
        steps = sensor.measure()
        while True:
            dev.us += 1000 * next(steps)
    except StopIteration as end:
        return end.value, (dev.us - begun) // 1000000
    except Exception as error:
        return repr(error), (dev.us - begun) // 1000000
    finally:
        sensor.stop()

sensor = None
board = dev.Board()
board.GNSS = dict(uart=2, tx=17, rx=16, baudrate=9600)
"""


class GnssBus(FaultyBus):
    """A receiver at the other end of the device's UART, and nothing wrong but what a test asks for."""

    def __init__(self) -> None:
        super().__init__(1, heap="64wK")
        self.run(SETUP)

    def outdoors(
        self, *spans: tuple[float, float], place: tuple[float, float, float] = (48.1372, 11.5756, 519.0)
    ) -> None:
        """A new receiver, under the sky in these seconds from now, and a new driver."""
        begins = math.floor(self.clock())
        script = Script(tuple(sky(begin, end) for begin, end in spans), begins=begins, place=place)
        self.receiver = Receiver(Wearer(5, "fast", script=script), enable=1)
        self.run("sensor = None; make()")

    def later(self, seconds: float) -> None:
        """Time passes."""
        self.run(f"dev.us += {round(seconds * 1e6)}")
        self.call("dev._ask('pin', 0)")


@pytest.fixture(scope="module")
def process() -> Iterator[GnssBus]:
    with GnssBus() as bus:
        yield bus


@pytest.fixture
def bus(process: GnssBus) -> GnssBus:
    process.receiver = None
    return process


# --- the parser


def pair(source: random.Random) -> tuple[list[str], datetime]:
    """RMC and GGA of one moment, in either order, as different receivers write them."""
    when = datetime.fromtimestamp(source.randrange(1_735_700_000, 2_500_000_000), UTC)
    talker = source.choice(("GN", "GP", "GL", "GA"))
    places = source.choice((3, 4, 5, 7))
    width = 3 + places
    where = []
    for limit, digits, signs in ((90, 2, "NS"), (180, 3, "EW")):
        degrees, minutes = source.randrange(limit), source.uniform(0, 59.9)
        where += [f"{degrees:0{digits}d}{minutes:0{width}.{places}f}", source.choice(signs)]
    clock = f"{when:%H%M%S}{source.choice(('', '.00', '.000'))}"
    hdop, height = f"{source.uniform(0.5, 30):.2f}", f"{source.uniform(-400, 9000):.1f}"
    mode = source.choice(("", ",A", ",D,V"))
    lines = [
        f"{talker}RMC,{clock},A,{','.join(where)},{source.uniform(0, 9):.3f},,{when:%d%m%y},,{mode}",
        f"{talker}GGA,{clock},{','.join(where)},{source.choice('12')},08,{hdop},{height},M,47.9,M,,",
    ]
    source.shuffle(lines)
    return lines, when


def told(lines: list[bytes], *, dated: bool = True) -> dict[str, Any]:
    """What pynmea2 makes of the same lines."""
    found: dict[str, Any] = {}
    for line in lines:
        one = pynmea2.parse(line.decode("ascii").strip(), check=True)
        if one.sentence_type == "GGA":
            found |= {"place": (one.latitude, one.longitude), "height": one.altitude, "hdop": float(one.horizontal_dil)}
        elif dated:
            found["when"] = one.datetime
    return found


def test_fix_is_what_pynmea2_reads_in_the_same_sentences(bus: GnssBus) -> None:
    source = random.Random(1)
    for _ in range(300):
        bodies, when = pair(source)
        lines = [sentence(body) for body in bodies]
        fix, count, _ = bus.call(f"parse({b''.join(lines)!r})")
        other = told(lines)
        assert count == 2
        latitude, longitude, metres, accuracy_m, t = fix
        assert (latitude / 1e5, longitude / 1e5) == pytest.approx(other["place"], abs=0.6e-5 + 1e-6)
        assert metres == pytest.approx(other["height"], abs=0.51)
        assert accuracy_m == math.ceil(round(other["hdop"] * 100) * 5 / 100)
        assert (
            t
            == when.timestamp() - datetime(2025, 1, 1, tzinfo=UTC).timestamp()
            == (other["when"].timestamp() - datetime(2025, 1, 1, tzinfo=UTC).timestamp())
        )


def mutated(source: random.Random, line: bytes) -> bytes:
    place = source.randrange(len(line))
    match source.randrange(5):
        case 0:
            return line[:place] + bytes([line[place] ^ 1 << source.randrange(8)]) + line[place + 1 :]
        case 1:
            return line[:place] + line[place + 1 :]
        case 2:
            return line[:place] + source.choice(b"0123456789.,-NSEWAV*$\r\n").to_bytes(1, "big") + line[place:]
        case 3:
            return line[:place]
    other = source.randrange(len(line))
    low, high = sorted((place, other))
    return line[:low] + line[high : high + 1] + line[low + 1 : high] + line[low : low + 1] + line[high + 1 :]


def test_line_that_lost_its_checksum_on_the_way_is_as_if_it_had_not_been_said(bus: GnssBus) -> None:
    source = random.Random(2)
    whole = 0
    for _ in range(1500):
        bodies, _ = pair(source)
        good, bad = sentence(bodies[0]), mutated(source, sentence(bodies[1]))
        lines = good + bad + b"\r\n"
        fix, *_ = bus.call(f"parse({lines!r})")
        if fix is None:
            continue
        whole += 1
        # an exchange of two bytes leaves the sum as it was: then pynmea2 believes it too, and reads the same
        bad = bad[bad.index(b"$") :].split(b"\r")[0].split(b"\n")[0]
        other = told([good, bad], dated=False)
        assert (fix[0] / 1e5, fix[1] / 1e5) == pytest.approx(other["place"], abs=0.7e-5)
    assert whole < 500


def test_sentence_with_the_right_checksum_and_nonsense_in_it_tells_nothing_that_pynmea2_does_not(bus: GnssBus) -> None:
    source = random.Random(3)
    believed = 0
    for _ in range(1500):
        bodies, _ = pair(source)
        body = bodies[1].split(",")
        place = source.randrange(len(body))
        body[place] = source.choice(
            ("", "-", "99999.9", "-1.5", "N", "1e5", "+1", " 1", "0x1", "1_0", ".", body[place][1:])
        )
        lines = [sentence(bodies[0]), sentence(",".join(body))]
        fix, count, _ = bus.call(f"parse({b''.join(lines)!r})")
        assert count <= 2
        if fix is None:
            continue
        believed += 1
        other = told(lines, dated=False)
        assert (fix[0] / 1e5, fix[1] / 1e5) == pytest.approx(other["place"], abs=0.7e-5)
        assert -90 <= fix[0] / 1e5 <= 90 and -180 <= fix[1] / 1e5 <= 180
        assert fix[2] == pytest.approx(other["height"], abs=0.51) and -1000 < fix[2] < 18000
    assert 50 < believed < 1200


RMC = "GNRMC,092725.00,A,4717.11399,N,00833.91590,E,0.004,77.52,091226,,,A"
GGA = "GNGGA,092725.00,4717.11399,N,00833.91590,E,1,08,1.01,499.6,M,48.0,M,,"
FIX = (4728523, 856527, 500, 6, 61118845)


def said(*bodies: str) -> bytes:
    return b"".join(sentence(body) for body in bodies)


def test_sentences_of_a_maker_s_manual_are_whole(bus: GnssBus) -> None:
    # u-blox 6 Receiver Description Including Protocol Specification (GPS.G6-SW-10018), sections 21.5 and 21.11
    gga = b"$GPGGA,092725.00,4717.11399,N,00833.91590,E,1,8,1.01,499.6,M,48.0,M,,0*5B\r\n"
    rmc = b"$GPRMC,083559.00,A,4717.11437,N,00833.91522,E,0.004,77.52,091202,,,A*57\r\n"
    assert bus.call(f"parse({gga + rmc!r})")[:2] == (None, 2)  # of two moments: no fix
    rmc = sentence(rmc[1:-5].decode().replace("083559", "092725"))
    assert bus.call(f"parse({gga + rmc!r})")[0] == (4728523, 856527, 500, 6, None)  # of 2002


@pytest.mark.parametrize(
    ("data", "fix"),
    [
        (said(RMC, GGA), FIX),
        (said(GGA, RMC), FIX),
        (said(RMC, GGA).replace(b"\r\n", b"\n"), FIX),
        (b"\xff\x00garbage$GNRMC,0927" + said(RMC, GGA), FIX),
        (said(RMC) + b"$" + b"x" * 5000 + b"\r\n" + said(GGA), FIX),
        (said(GGA.replace(",N", ",S").replace(",E", ",W"), RMC), (-4728523, -856527, 500, 6, 61118845)),
        (said("GNGSA,A,2,07,,,,,,,,,,,,1.9,1.0,1.2", GGA, RMC), (4728523, 856527, None, 6, 61118845)),
        (said("GNGST,092725.00,1.8,,,,12.3,14.0,3", GGA, RMC), (4728523, 856527, 500, 15, 61118845)),
        (said(RMC.replace("091226", ""), GGA), (*FIX[:4], None)),
        # void
        (said(RMC), None),
        (said(GGA), None),
        (said(RMC.replace(",A,47", ",V,47"), GGA), None),
        (said(RMC, GGA.replace(",E,1,", ",E,0,")), None),
        (said(RMC, GGA.replace(",E,1,", ",E,6,")), None),
        (said(RMC.replace(",,,A", ",,,E"), GGA), None),
        (said(RMC.replace(",,,A", ",,,S"), GGA), None),
        (said(RMC.replace("092725", "092726"), GGA), None),
        (said(RMC, GGA.replace("1.01", "")), None),
        (said(RMC, GGA.replace("4717.1", "717.1")), None),
        (said(RMC, GGA.replace("00833.9", "0833.9")), None),
        (said(RMC, GGA.replace("4717.1", "4760.1")), None),
        (said(RMC, GGA.replace("4717.1", "9017.1")), None),
        (said(RMC, GGA.replace("00833.9", "18033.9")), None),
        (said(RMC, GGA.replace(",N,", ",,")), None),
        (said(RMC, GGA.replace("499.6", "19000")), None),
        (said(RMC.replace("091226", "321326"), GGA), None),
        (said(RMC.replace("091226", "91226"), GGA), None),
        (said(RMC, GGA).replace(b"*", b" "), None),
        (said(RMC, GGA[:-20]), None),
        (said(RMC.replace("GN", "PU"), GGA.replace("GN", "PU")), None),
        (said(RMC) + sentence(GGA, wrong=1), None),
        (said(RMC) + sentence(GGA)[:-4] + said(GGA)[:30], None),
    ],
)
def test_fix_or_void(bus: GnssBus, data: bytes, fix: tuple[int | None, ...] | None) -> None:
    assert bus.call(f"parse({data!r})")[0] == fix


def test_flood_of_random_bytes_is_no_fix_and_takes_no_memory(bus: GnssBus) -> None:
    source = random.Random(4)
    bus.run("import gc; parser = nmea.Nmea()")
    bus.run("parser.feed(b'$x'); gc.collect(); before = gc.mem_alloc()")
    for _ in range(60):
        data = bytes(source.choice(b"$*,GPRMCA0123456789\r\n\xff") for _ in range(1000))
        bus.run(f"parser.feed({data!r})")
    bus.run("data = None; gc.collect()")
    assert bus.call("gc.mem_alloc() - before") < 1024
    assert bus.call("parser.fix") is None


# --- the driver


def metres_off(values: tuple[int, int], place: tuple[float, float, float]) -> float:
    north = (values[0] / 1e5 - place[0]) * METRES_A_DEGREE
    east = (values[1] / 1e5 - place[1]) * METRES_A_DEGREE * math.cos(math.radians(place[0]))
    return math.hypot(north, east)


def test_position_is_the_wearer_s_to_within_a_few_metres_when_the_setting_allows_it(bus: GnssBus) -> None:
    place = (-33.8568, 151.2153, 12.0)
    bus.outdoors((0, 3600), place=place)
    assert bus.call("sensor.records") == (7, 8, 9)
    bus.run("make(0)")
    values, took_s = bus.call("read()")
    assert COLD_S <= took_s <= COLD_S + 6
    assert metres_off(values, place) < 10
    assert values[2] == pytest.approx(12, abs=12)
    bus.later(600)
    bus.run("make(0)")
    assert bus.call("read()")[1] <= 6, "a hot start"


def test_receiver_is_fed_only_while_it_is_asked(bus: GnssBus) -> None:
    bus.outdoors((0, 3600))
    assert bus.receiver and not bus.receiver.on
    bus.run("sensor.start()")
    assert bus.receiver.on
    bus.run("sensor.stop()")
    assert not bus.receiver.on
    bus.receiver.fault = GnssFault.SILENT
    bus.call("read()")
    assert not bus.receiver.on


def test_reading_under_a_roof_is_none_soon_and_the_receiver_rests_longer_each_time(bus: GnssBus) -> None:
    bus.outdoors((0, 60), (40_000, 80_000))
    first, _ = bus.call("read()")
    assert first[0] is not None
    spent = []
    for _ in range(40):
        bus.later(600)
        bus.run("make()")
        values, took_s = bus.call("read()")
        assert values == (None, None, None)
        assert bus.call("sensor.kept[0][:3]") == first, "the last one is remembered"
        spent.append(took_s)
    asked = [index for index, took_s in enumerate(spent) if took_s]
    assert all(spent[index] == 20 for index in asked)
    assert [after - before for before, after in itertools.pairwise(asked)] == [1, 2, 4, 8, 8, 8, 8]
    bus.later(18_000)
    for _ in range(9):
        bus.later(600)
        bus.run("make()")
        values, _ = bus.call("read()")
        if values[0] is not None:
            break
    assert values[0] is not None, "and it is back within eight readings"
    assert bus.call("sensor.kept[1:]") == (0, 0)


def test_weak_sky_is_given_up_within_a_minute(bus: GnssBus) -> None:
    bus.outdoors((0, 3600))
    assert bus.receiver
    heard = bus.receiver._bodies
    bus.receiver._bodies = lambda second, place, *more: heard(second, None, *more)  # type: ignore[method-assign]
    values, took_s = bus.call("read()")
    assert values == (None, None, None) and 50 <= took_s <= 56


def test_fix_that_is_worse_than_two_hundred_metres_is_none_told(bus: GnssBus) -> None:
    bus.outdoors((0, 3600))
    assert bus.receiver
    bodies = bus.receiver._bodies
    bus.receiver._bodies = lambda *seen: tuple(  # type: ignore[method-assign]
        re.sub(r"^(GNGGA(,[^,]*){7}),[^,]*", r"\1,45.00", body) for body in bodies(*seen)
    )
    values, took_s = bus.call("read()")
    assert values == (None, None, None) and took_s >= 50
    assert bus.call("sensor.kept[:2]") == (None, 1)


@pytest.mark.parametrize("fault", [GnssFault.SILENT, GnssFault.GARBAGE, GnssFault.CHECKSUM, GnssFault.ENDLESS])
def test_receiver_that_says_nothing_whole_is_a_sensor_error_within_six_seconds(bus: GnssBus, fault: GnssFault) -> None:
    bus.outdoors((0, 3600))
    assert bus.receiver
    bus.receiver.fault = fault
    outcome, took_s = bus.call("read()")
    assert outcome == "SensorError('GNSS says nothing',)" and took_s <= 6
    bus.receiver.fault = None
    bus.run("make()")
    assert bus.call("read()")[0][0] is not None, "and it works again"


def test_receiver_of_another_baud_rate_is_a_sensor_error(bus: GnssBus) -> None:
    bus.outdoors((0, 3600))
    assert bus.receiver
    bus.receiver.baudrate = 115200
    assert bus.call("read()")[0] == "SensorError('GNSS says nothing',)"


def test_board_without_a_receiver_has_no_position(bus: GnssBus) -> None:
    bus.run("class bare: GNSS = None")
    with pytest.raises(AssertionError, match=r"SensorError.*no GNSS receiver"):
        bus.run("gnss.sensor(bare)")


# --- privacy


def test_a_day_of_readings_in_one_place_tells_one_cell_and_averaging_them_nothing_more(bus: GnssBus) -> None:
    place = (48.13715, 11.57561, 519.0)
    bus.outdoors((0, DAY_S), place=place)
    seen = set()
    for _ in range(40):
        bus.run("make()")
        values, _ = bus.call("read()")
        seen.add(values[:2])
        assert values[2] is None or values[2] % 100 == 50
        bus.later(1800)
    # noise of some metres may reach over one border of the grid, never further
    assert len(seen) <= 2
    assert all(metres_off(cell, place) < 100 for cell in seen)


@pytest.mark.parametrize("cell_m", [1, 10, 100, 1000, 20_000, 100_000])
def test_cell_is_as_large_as_the_setting_says_and_the_same_for_all_that_lies_in_it(bus: GnssBus, cell_m: int) -> None:
    source = random.Random(cell_m)
    for _ in range(60):
        latitude, longitude = source.randrange(-8_000_000, 8_000_000), source.randrange(-17_500_000, 17_500_000)
        cell = bus.call(f"gnss.coarsen({latitude}, {longitude}, {cell_m})")
        # the centre is in its own cell, and nobody is further from it than half a diagonal
        assert bus.call(f"gnss.coarsen({cell[0]}, {cell[1]}, {cell_m})") == cell
        off = metres_off(cell, (latitude / 1e5, longitude / 1e5, 0.0))
        assert off <= cell_m * 0.75 + 1.2, (latitude, longitude, cell)
        # half a cell to the side is this cell or the next one
        east = round(cell_m / 2 / (1.1132 * math.cos(math.radians(latitude / 1e5))))
        other = bus.call(f"gnss.coarsen({latitude}, {longitude + east}, {cell_m})")
        assert metres_off(other, (cell[0] / 1e5, cell[1] / 1e5, 0.0)) <= cell_m * 1.2 + 2.4


@pytest.mark.parametrize("cell_m", [0, 1, 100, 100_000])
def test_ends_of_the_world_stay_on_it(bus: GnssBus, cell_m: int) -> None:
    for latitude in (-9_000_000, -8_999_999, 0, 8_999_999, 9_000_000):
        for longitude in (-18_000_000, -17_999_999, 0, 17_999_999, 18_000_000):
            cell = bus.call(f"gnss.coarsen({latitude}, {longitude}, {cell_m})")
            assert abs(cell[0]) <= 9_000_000 and abs(cell[1]) <= 18_000_000


def test_altitude_is_as_coarse_as_the_place(bus: GnssBus) -> None:
    assert [bus.call(f"gnss.level(517, {cell_m})") for cell_m in (0, 10, 100, 1000, 1001)] == [517, 515, 550, 500, None]
    assert bus.call("gnss.level(-3, 100)") == -50


def test_what_is_kept_is_as_coarse_as_what_is_told(bus: GnssBus) -> None:
    bus.outdoors((0, 3600))
    values, _ = bus.call("read()")
    kept = bus.call("sensor.kept[0]")
    assert kept[:3] == values and 0 < kept[3] <= 25
    assert kept[4] == pytest.approx(bus.clock() - datetime(2025, 1, 1, tzinfo=UTC).timestamp(), abs=2)


SAMPLED = """
from sealband.sampler import Every, Sampler
from sealband.batch import Batch
from sealband.sensors.part import part

class Config:
    quiet_from_min = quiet_to_min = 0
    position_cell_m = {cell_m}

told = {{}}
sampler = Sampler([Every(60, part("gnss", board))], Batch(), lambda r, t, v: told.update({{r: v}}), config=Config())
sampler.consent = {consent}
sampler.start(60)
for task in sampler.due(120):
    for pause_ms in task:
        dev.us += 1000 * pause_ms
"""


@pytest.mark.parametrize(("cell_m", "off_m"), [(0, 10), (100, 80), (20_000, 15_000)])
def test_setting_of_the_server_says_how_coarse_a_position_is(bus: GnssBus, cell_m: int, off_m: int) -> None:
    place = (47.28523, 8.56527, 500.0)
    bus.outdoors((0, 3600), place=place)
    bus.run(SAMPLED.format(cell_m=cell_m, consent=None))
    told = bus.call("told")
    assert set(told) == ({7, 8, 9} if cell_m <= 1000 else {7, 8})
    assert metres_off((told[7], told[8]), place) < off_m
    assert cell_m < 1000 or metres_off((told[7], told[8]), place) > 1000


def test_receiver_is_not_even_fed_without_consent_to_any_of_its_records(bus: GnssBus) -> None:
    bus.outdoors((0, 3600))
    assert bus.receiver
    fed = []
    bus.receiver.pin = lambda number, level, now: fed.append(level)  # type: ignore[method-assign]
    bus.run(SAMPLED.format(cell_m=100, consent="(1, 3)"))
    assert bus.call("told") == {} and not any(fed)
    bus.outdoors((0, 3600))
    bus.run(SAMPLED.format(cell_m=100, consent="(1, 9)"))
    assert set(bus.call("told")) == {9}


CLOCK = """
from sealband.clock import Clock

class Store:
    def load_number(self, name):
        return 1000
    def save_number(self, name, number):
        raise AssertionError

clock = Clock(Store(), dev.ticks_ms, dev.time)
dev.RTC = None  # whoever sets the chip's clock fails
"""


def test_forged_satellites_move_the_position_and_never_the_clock(bus: GnssBus) -> None:
    bus.outdoors((0, 3600))
    assert bus.receiver
    bus.run(CLOCK)
    before = bus.call("clock.now() - clock.uptime(), clock.valid")
    bus.receiver.spoof, bus.receiver.ahead_s = (-54.8019, -68.3030, 20.0), 20 * 365 * 86400
    bus.run(SAMPLED.format(cell_m=100, consent=None))
    told = bus.call("told")
    assert metres_off((told[7], told[8]), bus.receiver.spoof) < 100
    assert bus.call("clock.now() - clock.uptime(), clock.valid") == before == (1000, False)
    assert bus.call("sampler.errors") == 0


# --- the line


def test_line_has_the_speed_of_its_baud_rate_and_loses_what_has_no_room() -> None:
    now = [NOW]
    receiver = Receiver(Wearer(5, script=Script((sky(0.0, DAY_S),))))
    uart = TalkerUart(receiver, lambda: now[0])
    uart.open(9600, 256)
    now[0] += 0.5
    uart.any()
    now[0] += 1.0
    first = uart.any()
    assert 0 < first <= 0.5 * 960 + 1
    said = b""
    for _ in range(40):
        now[0] += 0.1
        said += uart.read(1000)
    assert said.count(b"$GNRMC") in (4, 5) and uart.lost == 0
    now[0] += 20
    uart.any()
    now[0] += 20
    assert uart.any() <= 256 + 128 and uart.lost > 0
