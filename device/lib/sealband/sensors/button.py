# The SOS button: held for three seconds, it is an event. It needs nobody's consent. On a board without a button it does
# nothing.
import time

from micropython import const

from sealband.sensors.base import SensorError

SOS = const(2)  # sealwire.names.EVENTS

# It is looked at four times a second, which is slower than any contact bounces; one look that says "released" between
# two that say "pressed" is none. How long it is held is told by the clock: a session at work makes looks rare.
_POLL_MS = const(250)
_LOOKS = const(2)
_HELD_MS = const(3000)
_STUCK_MS = const(60000)
_TRIES = const(240)  # at looks: a minute, where an event cannot be sealed
_NO_BUTTON_MS = const(3600000)


class Button:
    records = ()

    # pin: what board.BUTTON is on, unless given
    def __init__(self, board, pin=None):
        self._where = board.BUTTON
        self._pin = pin
        self._woken = False
        if pin is None and self._where:
            from machine import Pin

            self._pin = Pin(self._where[0], Pin.IN, Pin.PULL_DOWN if self._where[1] else Pin.PULL_UP)

    def _pressed(self):
        return self._pin.value() == self._where[1]

    # An event once for each time that it is held. What is pressed from the start, or for a minute, is stuck; that is
    # an error once a minute and no event, until it was released.
    def watch(self, node):
        while not self._where:
            yield _NO_BUTTON_MS
        told = self._pressed() and not self._woken
        self._woken = False
        looks = released = begun = owed = 0
        while True:
            if owed:
                owed = owed - 1 if node.event(SOS) is False else 0
            if self._pressed():
                now = time.ticks_ms()
                if not looks:
                    begun = now
                looks += 1
                released = 0
                held_ms = time.ticks_diff(now, begun)
                if held_ms >= _HELD_MS and looks >= _LOOKS and not told:
                    told = True
                    owed = _TRIES if node.event(SOS) is False else 0
                elif held_ms >= _STUCK_MS:
                    raise SensorError("the button is stuck")
            else:
                released += 1
                if released > 1:
                    told = False
                    looks = 0
            yield _POLL_MS

    def close(self):
        pass

    # before deep sleep: what is pressed now would end it at once
    def arm(self):
        if self._where and not self._pressed():
            return self._where

    def woken(self):
        self._woken = True
