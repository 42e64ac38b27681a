# Downlinks at any time, as an option: a board that stays awake looks at its wake channel again and again for a few
# symbols (CAD), and listens only where it finds LoRa. A downlink for it begins with a preamble longer than the pause
# between two looks; it comes with inverted IQ, and is sealed and numbered as any other.
#
# A listener of the application: App(listeners=[Wake(link)]). The link's own work goes first. Activity that brings no
# frame of the server's doubles the pause, up to 64 times: who fills the channel shall not empty the battery.
import asyncio

from micropython import const

from sealband.links import sense
from sealwire import radio

_IDLE_MAX = const(6)
_PACKET_SYMBOLS = const(320)  # more than those of the longest downlink, at any rate
_HEADER_SYMBOLS = const(32)  # sync word, header, and what the first look was early


class Wake:
    # every_ms: between two looks; channel: its number in the region's table; sf: of the downlinks
    def __init__(self, link, every_ms=1000, channel=0, sf=9):
        self._link = link
        self._every_ms = every_ms
        self._channel = channel
        self._sf = sf
        self._idle = 0  # hearings in a row that brought nothing
        self._modem = None  # which has been told the polarity of downlinks

    async def serve(self, node):
        link = self._link
        while True:
            await asyncio.sleep_ms(self._every_ms << self._idle)
            if link not in node.links:
                continue
            steps = self.look()
            data = None
            try:
                while True:
                    await asyncio.sleep_ms(next(steps))
            except StopIteration as end:
                data = end.value
            except Exception:
                link.errors += 1
            self.heard(data is not None and data != b"" and node.session._receive(data, link), data)

    # What a look came to: whether it was a frame of the server's; data: None where there was no activity.
    def heard(self, ours, data):
        if ours:
            self._idle = 0
        elif data is not None:
            self._idle = min(_IDLE_MAX, self._idle + 1)

    # Generator of pauses: a frame that was heard, b"" for activity without one, None for no activity. Nothing is done
    # while the link sends or waits for an answer.
    def look(self):
        link = self._link
        modem = link._modem
        if modem is None or link.taken or link._ended is not None or not modem.is_idle():
            return None
        link.taken = True
        data = None
        done = False
        try:
            khz, sf, bw_khz = radio.downlink(link.region, link.channels[self._channel], self._sf, 125)
            symbol_us = (1 << sf) * 1000 // bw_khz
            # the receiver has to know of a preamble as long as that (SX1276 datasheet 4.1.1.6)
            preamble_len = radio.PREAMBLE_LEN + self._every_ms * 1000 // symbol_us
            modem.configure({"sf": sf, "freq_khz": khz, "bw": str(bw_khz), "preamble_len": preamble_len})
            if modem is not self._modem:
                modem.start_recv()
                modem.standby()
                self._modem = modem
            if (yield from sense.active(modem, sf)):
                # the rest of the preamble lasts as long as the pause at most
                window_ms = self._every_ms + _HEADER_SYMBOLS * symbol_us // 1000
                modem.start_recv(window_ms)
                data = b""
                packet = yield from link.poll(modem.poll_recv, 20, 20, window_ms + _PACKET_SYMBOLS * symbol_us // 1000)
                if packet and packet is not True:
                    data = bytes(packet)
                modem.standby()
            modem.configure({"preamble_len": radio.PREAMBLE_LEN})
            modem.sleep()
            done = True
        except Exception:
            pass  # counted below
        finally:
            link.taken = False
            if not done:
                # an uplink with that preamble would last longer than the ledger knows: the modem is set up anew
                link.fault()
        return data
