"""A small soak: boards on LoRa and LTE while frames are lost and everything fails in turn. The hour is in the bench."""

from pathlib import Path

import pytest

from host_tools.gateway.broker import mosquitto_path
from tests.support.boards import has_raw_repl
from tests.support.soak import Soak

pytestmark = [
    pytest.mark.skipif(not has_raw_repl(), reason="MicroPython's unix port has a raw REPL from 1.27 on"),
    pytest.mark.skipif(mosquitto_path() is None, reason="mosquitto is not installed"),
]


def test_no_frame_is_lost_and_no_nonce_used_twice_while_everything_fails_in_turn(tmp_path: Path) -> None:
    verdict = Soak(tmp_path, boards=4, minutes=6, calm=6, speed=8, seed=7).run()
    assert verdict.wrong == []
    assert sum(verdict.faults.values()) >= 3
    sealed, stored = verdict.events
    assert 8 <= sealed <= stored + verdict.queued
    # three boards on LoRa, where what is lost goes again, and one on LTE alone
    assert verdict.by_link.get("lora") and verdict.by_link.get("mqtt")
    assert verdict.on_air > verdict.by_link["lora"] and verdict.violations == {}
