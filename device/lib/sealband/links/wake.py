# Downlinks at any time, as an option: a board that stays awake looks at its wake channel again and again for a few
# symbols (CAD), and listens only where it finds LoRa. A downlink for it begins with a preamble longer than the pause
# between two looks; it comes with inverted IQ, and is sealed and numbered as any other.
#
# A listener of the application: App(listeners=[Wake(link)]). The link's own work goes first.
import asyncio

from micropython import const

from sealband.links import sense
from sealwire import radio

_HEADER_SYMBOLS = const(32)  # sync word, header, and what the first look was early


class Wake:
    # every_ms: between two looks; channel: its number in the region's table; sf: of the downlinks
    def __init__(self, link, every_ms=1000, channel=0, sf=9):
        self._link = link
        self._every_ms = every_ms
        self._channel = channel
        self._sf = sf
        self._modem = None  # which has been told the polarity of downlinks

    async def serve(self, node):
        link = self._link
        while True:
            await asyncio.sleep_ms(self._every_ms)
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
            if data:
                node.session._receive(data, link)

    # Generator of pauses: a frame that was heard, or None. Nothing while the link sends or waits for an answer.
    def look(self):
        link = self._link
        modem = link._modem
        if modem is None or link.taken or link._ended is not None or not modem.is_idle():
            return None
        link.taken = True
        packet = None
        try:
            khz, sf, bw_khz = radio.downlink(link.region, link.channels[self._channel], self._sf, 125)
            modem.configure({"sf": sf, "freq_khz": khz, "bw": str(bw_khz)})
            if modem is not self._modem:
                modem.start_recv()
                modem.standby()
                self._modem = modem
            if (yield from sense.active(modem, sf)):
                symbol_us = (1 << sf) * 1000 // bw_khz
                # the rest of the preamble lasts as long as the pause at most
                window_ms = self._every_ms + _HEADER_SYMBOLS * symbol_us // 1000
                modem.start_recv(window_ms)
                packet = yield from link.poll(modem.poll_recv, 20, 20, window_ms + 320 * symbol_us // 1000)
            modem.sleep()
        except Exception:
            link.fault()
        finally:
            link.taken = False
        return bytes(packet) if packet and packet is not True else None
