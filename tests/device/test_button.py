# The SOS button on MicroPython: held, bouncing, stuck, asleep. The pin and the clock are the test's.
import time

from sealband.sensors import button
from sealband.sensors.base import SensorError


class Clock:
    def __init__(self):
        self.ms = 1000

    def ticks_ms(self):
        return self.ms

    def ticks_diff(self, one, other):
        return one - other


class Board:
    BUTTON = (36, 0)


class Pin:
    def __init__(self):
        self.level = 1

    def value(self):
        return self.level


class Node:
    def __init__(self):
        self.events = []
        self.refuses = 0  # so many events can't be sealed: flash refuses, memory is short

    def event(self, *event):
        if self.refuses:
            self.refuses -= 1
            return False
        self.events.append(event)
        return True


class Held:
    # a button, a node, and a clock that the looks move
    def __init__(self, woken=False, pressed=False):
        self.clock = button.time = Clock()
        self.pin = Pin()
        self.pin.level = 0 if pressed else 1
        self.node = Node()
        self.button = button.Button(Board, self.pin)
        if woken:
            self.button.woken()
        self.watch = self.button.watch(self.node)

    # so long with the button pressed or not; late_ms: what a look comes late by
    def look(self, seconds, pressed, late_ms=0):
        self.pin.level = 0 if pressed else 1
        end = self.clock.ms + int(seconds * 1000)
        while self.clock.ms < end:
            self.clock.ms += next(self.watch) + late_ms

    def done(self):
        button.time = time


def test_three_seconds_are_an_sos_and_less_are_none():
    for seconds, events in ((0.5, 0), (2.5, 0), (3.6, 1), (20, 1)):
        held = Held()
        held.look(1, False)
        held.look(seconds, True)
        held.look(2, False)
        assert held.node.events == [(2,)] * events, (seconds, held.node.events)
        held.done()


def test_each_press_is_one_event():
    held = Held()
    for _ in range(5):
        held.look(1, False)
        held.look(10, True)
    assert len(held.node.events) == 5
    held.done()


def test_a_contact_that_bounces_neither_ends_a_press_nor_makes_a_second_one():
    held = Held()
    held.look(1, False)
    for _ in range(8):
        held.look(1, True)
        held.look(0.25, False)
    assert held.node.events == [(2,)]
    held.done()


def test_short_presses_in_a_row_are_no_sos():
    held = Held()
    for _ in range(20):
        held.look(1, True)
        held.look(0.75, False)
    assert held.node.events == []
    held.done()


def test_a_busy_node_that_looks_seldom_hears_it_all_the_same():
    held = Held()
    held.look(1, False)
    held.look(6, True, late_ms=1500)
    assert held.node.events == [(2,)]
    held.done()


def test_a_stuck_button_is_an_error_and_no_storm_of_events():
    held = Held()
    held.look(1, False)
    errors = 0
    for _ in range(10):
        try:
            held.look(70, True)
        except SensorError:
            errors += 1
        # the node begins anew a minute later
        held.clock.ms += 60000
        held.watch = held.button.watch(held.node)
    assert errors == 10
    assert held.node.events == [(2,)]
    # it is heard again when it comes loose
    held.look(2, False)
    held.look(5, True)
    assert held.node.events == [(2,), (2,)]
    held.done()


def test_what_is_pressed_while_the_node_starts_is_no_sos_until_it_was_released():
    held = Held(pressed=True)
    held.look(10, True)
    assert held.node.events == []
    held.look(1, False)
    held.look(4, True)
    assert held.node.events == [(2,)]
    held.done()


def test_a_press_that_ended_deep_sleep_counts():
    held = Held(woken=True, pressed=True)
    held.look(4, True)
    assert held.node.events == [(2,)]
    held.done()


def test_it_is_armed_with_the_level_of_a_pressed_button_but_not_while_it_is_pressed():
    held = Held()
    assert held.button.arm() == (36, 0)
    held.pin.level = 0
    assert held.button.arm() is None
    held.done()


def test_a_button_of_the_other_polarity():
    class High:
        BUTTON = (36, 1)

    held = Held()
    held.button = button.Button(High, held.pin)
    held.watch = held.button.watch(held.node)
    held.look(1, True)
    held.look(4, False)
    assert held.node.events == [(2,)] and held.button.arm() is None
    held.done()


def test_it_asks_for_no_consent():
    assert button.Button.records == ()


def test_a_board_without_button_has_nothing_to_watch():
    class Bare:
        BUTTON = None

    none = button.Button(Bare)
    assert none.arm() is None
    assert next(none.watch(Node())) > 60000
    none.close()


def test_an_sos_that_cannot_be_sealed_at_once_is_told_when_it_can_be_also_after_the_release():
    for refuses, events in ((1, 1), (30, 1), (1000, 0)):
        held = Held()
        held.look(1, False)
        held.node.refuses = refuses
        held.look(4, True)
        held.look(120, False)
        assert held.node.events == [(2,)] * events, refuses
        # it gives up after a minute: each try takes what a frame takes
        assert refuses < 1000 or held.node.refuses > 700
        held.done()
