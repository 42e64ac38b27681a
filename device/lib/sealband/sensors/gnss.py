# Position by a satellite receiver on a UART that speaks NMEA 0183 (u-blox, UC6580 and others as they come from the
# maker). Feeds the receiver while it looks, for less than a minute, and less often where there is no sky. What the
# sentences mean is in nmea.py.
#
# Whoever has a transmitter can say any place and any time to a receiver: what it says is a reading and nothing more.
# Its time never reaches the clock.
from micropython import const

from sealband import once
from sealband.sensors.base import Sensor, SensorError
from sealwire.recordids import ALTITUDE, LATITUDE, LONGITUDE

PARTS = ()  # none by name: sensor() sees what there is
_LOOK_MS = const(200)  # at 115,200 baud 2,300 bytes
_CHUNK = const(128)
_CHUNKS = const(20)
_RX_LEN = const(2048)  # a second of a receiver that names all satellites
_LOOKS = const(275)  # 55 s: a cold start under open sky takes 30
_SILENT = const(25)
_DARK = const(100)  # 20 s without one satellite: there is a roof
_GOOD_M = const(25)
_BAD_M = const(200)
_MISSES_MAX = const(4)  # then seven of eight readings are left out
_OFF_TRIES = const(4)
_CELL_M = const(100)
_ALTITUDE_CELL_M = const(1000)


class Position(Sensor):
    records = (LATITUDE, LONGITUDE, ALTITUDE)
    read_ms = _LOOKS * _LOOK_MS

    # kept: the last fix (latitude, longitude, altitude, accuracy in m, seconds since 2025) as coarse as it was told, or
    # None; misses since then; readings to be left out
    def __init__(self, board, kept=None):
        self._board = board
        self._uart = None
        self.kept = kept
        self.settings = None  # `position_cell_m` is asked of it

    def start(self):
        self.kept = self.kept or (None, 0, 0)
        if self.kept[2]:
            return
        pins = self._board.GNSS
        try:
            from machine import UART

            self._board.gnss_power(True)
            self._uart = UART(pins["uart"], baudrate=pins["baudrate"], tx=pins["tx"], rx=pins["rx"], rxbuf=_RX_LEN)
        except (OSError, ValueError) as error:
            raise SensorError("GNSS: %r" % error)

    def measure(self):
        last, misses, rest = self.kept
        if rest:
            self.kept = last, misses, rest - 1
            return (None, None, None)
        parser = once("sealband.sensors.nmea").Nmea()
        chunk = memoryview(bytearray(_CHUNK))
        best = None
        said = heard = found = 0
        for look in range(_LOOKS):
            yield _LOOK_MS
            self._listen(parser, chunk)
            if parser.sentences != said:
                said, heard = parser.sentences, look
            elif look - heard >= _SILENT:
                raise SensorError("GNSS says nothing")
            fix = parser.fix
            parser.fix = None
            if fix:
                found += 1
                if best is None or fix[3] <= best[3]:
                    best = fix
                # the first one after a cold start may be far off
                if found > 2 and best[3] <= _GOOD_M:
                    break
            elif look >= _DARK and parser.sky is False and not best:
                break
        if best is None or best[3] > _BAD_M:
            misses = min(misses + 1, _MISSES_MAX)
            self.kept = last, misses, (1 << misses - 1) - 1
            return (None, None, None)
        cell_m = getattr(self.settings, "position_cell_m", _CELL_M)
        values = coarsen(best[0], best[1], cell_m) + (level(best[2], cell_m),)
        self.kept = values + best[3:], 0, 0
        return values

    def _listen(self, parser, chunk):
        try:
            for _ in range(_CHUNKS):
                count = self._uart.readinto(chunk) or 0
                parser.feed(chunk[:count])
                if count < _CHUNK:
                    break
        except (OSError, ValueError) as error:
            raise SensorError("GNSS: %r" % error)

    def stop(self):
        try:
            if self._uart:
                self._uart.deinit()
        except (OSError, ValueError):
            pass
        # a PMU that does not hear at once: the receiver takes more than all the rest
        for _ in range(_OFF_TRIES):
            try:
                self._board.gnss_power(False)
                break
            except (OSError, ValueError, SensorError):
                pass


# The centre of the cell that the place lies in, of a grid that is the same for everybody and for ever: so a mean of
# many readings tells no more than one, but near a border. In 1e-5 degree; 0: as it is.
def coarsen(latitude, longitude, cell_m):
    if not cell_m:
        return latitude, longitude
    # 1e-5 degree of a meridian is 1.1132 m
    step = max(1, cell_m * 10000 // 11132)
    latitude = latitude // step * step + step // 2
    # the parallel of that row is shorter by its cosine, about (32400 - 4 x x) / (32400 + x x) of x degrees
    x = min(abs(latitude) // 1000, 8990) ** 2
    step = min(step * (324000000 + x) // (324000000 - 4 * x), 36000000)
    longitude = longitude // step * step + step // 2
    return max(-9000000, min(9000000, latitude)), max(-18000000, min(18000000, longitude))


# The altitude, likewise; nothing where the cells are larger than hills.
def level(metres, cell_m):
    if metres is None or cell_m > _ALTITUDE_CELL_M:
        return None
    return metres // cell_m * cell_m + cell_m // 2 if cell_m else metres


def sensor(board, kept=None):
    if not board.GNSS:
        raise SensorError("no GNSS receiver")
    return Position(board, kept)
