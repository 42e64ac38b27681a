# What time it is, by one NTP server (RFC 5905, section 7.3): a hint, since whoever controls the network can say
# anything. Only certificates are judged by it, see links/mqtt.py. Loaded while nobody else says the time.
import os
import select
import socket
import time

from micropython import const

from sealwire.messages import EPOCH_2025

_TRIES = const(2)
_ANSWER_MS = const(2000)
_STEP_MS = const(25)
_REQUEST = b"\x23" + bytes(39)  # version 4, mode 3: client
_YEAR_1900_S = const(2208988800)  # from then to 1970


# Seconds since 2025, or None: a generator of pauses in ms. Blocks for the name's resolution.
def ask(host, port):
    asked = None
    try:
        found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_DGRAM)[0]
        asked = socket.socket(found[0], socket.SOCK_DGRAM)
        asked.setblocking(False)
        poller = select.poll()
        poller.register(asked, select.POLLIN)
        for _ in range(_TRIES):
            # in place of our time, which the server gives back: who does not see it can't answer
            mark = os.urandom(8)
            asked.sendto(_REQUEST + mark, found[-1])
            began = time.ticks_ms()
            while time.ticks_diff(time.ticks_ms(), began) < _ANSWER_MS:
                while poller.poll(0):
                    said = read(asked.recv(128), mark)
                    if said is not None:
                        return said
                yield _STEP_MS
    except (OSError, IndexError):
        pass  # no way there
    finally:
        if asked:
            asked.close()


# The time in an answer to the request with this mark, or None. Pure.
def read(data, mark):
    # a server's answer, whose clock is set, and which is no kiss of death (stratum 0)
    if len(data) < 48 or data[0] & 7 != 4 or data[0] >> 6 == 3 or not 0 < data[1] < 16 or data[24:32] != mark:
        return None
    # seconds of era 0, or of era 1 from 2036 on
    seconds = int.from_bytes(data[40:44], "big")
    if not seconds:
        return None
    if seconds < 1 << 31:
        seconds += 1 << 32
    seconds -= _YEAR_1900_S + EPOCH_2025
    return seconds if seconds > 0 else None
