# NMEA 0183, what a satellite receiver says: bytes in, fixes out. Owns no UART and no clock; integers only.
#
# A fix is what GGA and RMC of one moment agree on. Whatever has no right checksum, is longer than a line may be, or has
# a field that is no number is as if it had not been said. Loaded for the occasion (gnss.py).
from micropython import const

_LINE_MAX = const(100)  # 82 by the standard; GSV and GNS of newer receivers are a little longer
# metres of error a unit of HDOP: what a civil receiver under open sky is reckoned with
_UERE_M = const(5)
_DAYS_2025 = const(739633)
_TIME_MAX = const(0x7FFFFFFF)


class Nmea:
    def __init__(self):
        self._line = bytearray(_LINE_MAX)
        self._at = -1  # how much of a line is there, -1: none has begun
        self._moment = self._date = self._place = self._sigma_m = None
        self._flat = False
        self.sentences = 0  # how many were whole and right
        self.sky = None  # whether satellites are heard, None: it does not say
        # the newest: latitude, longitude in 1e-5 degree, altitude in m or None, accuracy in m, seconds since 2025 or
        # None. Whoever takes it puts None in its place
        self.fix = None

    def feed(self, data):
        for byte in data:
            if byte == 0x24:
                self._at = 0
            elif self._at >= 0:
                if byte == 13 or byte == 10:
                    self._end()
                    self._at = -1
                elif self._at == _LINE_MAX or not 32 <= byte < 127:
                    self._at = -1
                else:
                    self._line[self._at] = byte
                    self._at += 1

    def _end(self):
        text = bytes(self._line[: self._at])
        check = 0
        for byte in text[:-3]:
            check ^= byte
        # of any system of satellites: GPS, GLONASS, Galileo, several
        if text[:1] != b"G" or text[-3:].upper() != b"*%02X" % check:
            return
        self.sentences += 1
        fields = text[:-3].split(b",")
        try:
            self._take(fields[0][2:], fields)
        except (ValueError, IndexError, KeyError):
            pass

    def _take(self, kind, fields):
        if kind == b"GGA":
            # what it says is void until the whole sentence was understood
            self._place = None
            # 6 is dead reckoning, 7 and 8 a simulator's
            if fields[6] in (b"1", b"2", b"3", b"4", b"5"):
                metres = number(fields[9].lstrip(b"-"), 1)
                metres = (5 - metres if fields[9][:1] == b"-" else metres + 5) // 10
                # above 18 km a civil receiver has to fall silent
                if not -1000 < metres < 18000:
                    raise ValueError
                self._place = (
                    fields[1],
                    angle(fields[2], {b"N": 1, b"S": -1}[fields[3]], 90),
                    angle(fields[4], {b"E": 1, b"W": -1}[fields[5]], 180),
                    None if self._flat else metres,
                    -(-number(fields[8], 2) * _UERE_M // 100),
                )
        elif kind == b"RMC":
            self._moment = None
            # from version 2.3 on it says how: autonomous, differential, fixed or float RTK, precise
            if fields[2] == b"A" and (len(fields) < 13 or fields[12] in (b"A", b"D", b"F", b"R", b"P")):
                self._date = seconds(fields[9], fields[1])
                self._moment = fields[1]
        elif kind == b"GST":
            self._sigma_m = max(number(fields[6], 0), number(fields[7], 0)) + 1
        elif kind == b"GSA":
            self._flat = fields[2] != b"3"
        elif kind == b"GSV":
            # by satellite: number, elevation, azimuth, strength
            if any(fields[7::4]) or fields[2] == b"1":
                self.sky = any(fields[7::4])
        if self._place and self._place[0] == self._moment:
            _, latitude, longitude, metres, accuracy_m = self._place
            self._place = self._moment = None
            self.fix = latitude, longitude, metres, self._sigma_m or accuracy_m, self._date


# A decimal number with so many places as an integer; the others are cut off.
def number(text, places):
    whole, _, part = text.partition(b".")
    if not whole.isdigit() or (part and not part.isdigit()):
        raise ValueError
    return int(whole + (part + b"00000")[:places])


# dddmm.mmmm, or ddmm.mmmm where 90 is the limit, as 1e-5 degree
def angle(text, sign, limit):
    if len(text.partition(b".")[0]) != limit // 90 + 3:
        raise ValueError
    degrees, minutes = divmod(number(text, 5), 10000000)
    degrees = degrees * 100000 + (minutes + 30) // 60
    if minutes >= 6000000 or degrees > limit * 100000:
        raise ValueError
    return sign * degrees


# Seconds since 2025 of ddmmyy and hhmmss.ss; None: it was before that, or does not say.
def seconds(date, clock):
    if not date:
        return None
    if len(date) != 6 or len(clock.partition(b".")[0]) != 6:
        raise ValueError
    date = number(date, 0)
    clock = number(clock, 0)
    day, month, year = date // 10000, date // 100 % 100, 2000 + date % 100
    hour, minute, second = clock // 10000, clock // 100 % 100, clock % 100
    if not (0 < day < 32 and 0 < month < 13 and hour < 24 and minute < 60 and second < 61):
        raise ValueError
    # days since the year 0, until 2099
    days = 367 * year - 7 * (year + (month + 9) // 12) // 4 + 275 * month // 9 + day - 30
    t = ((days - _DAYS_2025) * 24 + hour) * 3600 + minute * 60 + second
    return t if 0 < t <= _TIME_MAX else None
