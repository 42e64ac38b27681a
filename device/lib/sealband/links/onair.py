# One frame of LoRa on one of the region's channels, then one receive window with inverted IQ where the answer is to
# come. `link` is lora.py's object, which loads this for a session.
#
# Nothing here blocks: the driver is started and polled, so that sensors are read during a transmission of 2.5 s. The
# driver tells the end of a transmission by its interrupt's time, and the window is aligned to that.
import time

from micropython import const

from sealband import once
from sealwire import radio

_LATE_MS = const(1000)  # a transmission that takes so much longer than computed has failed
_POLL_MS = const(20)
_CHANNELS_TRIED = const(3)  # where others speak on them
_PACKET_SYMBOLS = const(320)  # more than those of the longest downlink, at any rate
_HEADER_SYMBOLS = const(17)  # sync word, start of frame and explicit header, rounded up (SX1261/2 datasheet 6.1.4)
_BAND_M_KHZ = const(868000)  # as lora.py


# One of the channels that were not used for the longest time, by chance, so that nobody knows the next one: one
# that is jammed or taken costs its share of the frames, not all. None: no sub-band has so much left.
def _hop(link, airtime_ms):
    order = link._order
    first = link._random((len(order) + 1) // 2)
    refused = -1
    for i in range(len(order)):
        at = (first + i) % len(order)
        khz = link.channels[order[at]]
        band = 1 if link._bands > 1 and khz < _BAND_M_KHZ else 0
        if band == refused:
            continue
        # taken out of the budget before the first symbol, and not given back if the driver fails half way
        if link._ledger.spend(airtime_ms, band):
            order[at:] = order[at + 1 :] + order[at : at + 1]
            return khz
        refused = band


def send(link, frame):
    link._ended = None
    if link.wait_ms(len(frame)) != 0:
        return False
    link._sf, airtime_ms = link._plan(len(frame))
    ended = None
    # whatever the driver raises, it must not end the node's work
    try:
        if link._modem is None:
            link._modem = link._make(link._board)
        modem = link._modem
        clear = False
        for _ in range(_CHANNELS_TRIED):
            link._khz = _hop(link, airtime_ms)
            if link._khz is None:
                return False
            modem.configure({"sf": link._sf, "freq_khz": link._khz, "bw": "125", "output_power": link._rate[1]})
            level_dbm = link._parts.get("lbt_dbm")
            if level_dbm is None:
                break
            from sealband.links import sense

            clear = yield from sense.clear(modem, level_dbm)
            if clear:
                break
            link._ledger.give_back(airtime_ms, 1 if link._bands > 1 and link._khz < _BAND_M_KHZ else 0)
        else:
            modem.sleep()
            return False
        modem.prepare_send(frame)
        modem.start_send()
        ended = yield from link.poll(modem.poll_send, airtime_ms, _POLL_MS, _LATE_MS)
    except Exception:
        ended = None
    # True: still sending after its time; False: the chip was reset meanwhile, and sent perhaps a part
    if type(ended) is not int:
        link.fault()
        return False
    link._ended = ended
    link.sent_ms += airtime_ms
    return True


def listen(link):
    if link._ended is None:
        return []
    opens = time.ticks_add(link._ended, radio.RX1_DELAY_MS - link._margin_ms)
    packet = None
    modem = link._modem
    khz, sf, bw_khz = once("sealwire.radio").downlink(link.region, link._khz, link._sf, 125)
    symbol_us = (1 << sf) * 1000 // bw_khz
    symbols = radio.PREAMBLE_LEN + radio.RX_WINDOW_SYMBOLS + _HEADER_SYMBOLS
    window_ms = 2 * link._margin_ms + symbols * symbol_us // 1000 + 1
    try:
        if bw_khz != 125:
            modem.configure({"freq_khz": khz, "bw": str(bw_khz)})
        while True:
            left_ms = time.ticks_diff(opens, link._ticks_ms())
            if left_ms <= 0:
                break
            yield left_ms
        # it ends when it should, also if it begins late
        window_ms += left_ms
        if window_ms > 0:
            modem.start_recv(window_ms)
            # a packet whose header came in time may last as long as the longest
            longest_ms = _PACKET_SYMBOLS * symbol_us // 1000
            pause_ms = _POLL_MS + window_ms // 16
            packet = yield from link.poll(modem.poll_recv, pause_ms, pause_ms, window_ms + longest_ms)
            link.heard_ms += window_ms
        modem.sleep()
    except Exception:
        link.fault()
    finally:
        link._ended = None  # until then wake.py leaves the modem alone
    if packet is True or not packet:
        return []
    link.rssi = packet.rssi
    return [bytes(packet)]
