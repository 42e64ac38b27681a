"""Which simulated part of a board is on which bus and pin."""

from dataclasses import replace

import pytest

import boards
from boards.sections import Part
from host_tools.sim import script
from host_tools.sim.clock import SimClock
from host_tools.sim.outfit import PartUnknown, outfit
from host_tools.sim.script import Script
from host_tools.sim.wearer import Wearer

NOW = 1_795_219_200.0


def wearer() -> Wearer:
    return Wearer(3, script=Script((script.sos(100, holds_s=4),), begins=NOW))


def test_every_part_of_the_virtual_board_is_on_its_bus() -> None:
    board = boards.load("VIRTUAL")
    fitted = outfit(board, wearer(), SimClock(0.0, NOW))
    assert {part.address for part in fitted.parts} == {part.address for part in board.parts}
    assert board.battery is not None
    assert board.gnss is not None
    assert set(fitted.adc) == {board.battery.adc}
    assert set(fitted.serial) == {board.gnss.uart}


def test_button_is_on_its_pin_at_its_level() -> None:
    board = boards.load("VIRTUAL")
    assert board.button is not None
    for active_low in (True, False):
        other = replace(board, button=replace(board.button, active_low=active_low))
        level = outfit(other, wearer(), SimClock(0.0, NOW)).inputs[board.button.pin]
        assert [level(NOW + at) for at in (99, 101, 105)] == ([1, 0, 1] if active_low else [0, 1, 0])


def test_interrupt_lines_are_on_the_pins_of_their_parts() -> None:
    board = boards.load("VIRTUAL")
    pins = {part.interrupt for part in board.parts if part.interrupt is not None}
    assert pins
    assert pins <= set(outfit(board, wearer(), SimClock(0.0, NOW)).inputs)


def test_part_that_is_not_simulated_is_refused_by_its_name() -> None:
    board = boards.load("VIRTUAL")
    with pytest.raises(PartUnknown, match=r"VIRTUAL: XYZ99 is not simulated; there are: .*TMP117"):
        outfit(replace(board, parts=(*board.parts, Part("XYZ99", 0x11))), wearer(), SimClock(0.0, NOW))
