"""The sync says what is stored, only that, and always something about the frame that it answers."""

import re

import cbor2
from hypothesis import given
from hypothesis import strategies as st

from host_tools.ingest.sync import Sync, anchor, bitmap, seconds
from tests.support.micropython import ROOT


def test_the_worked_example_of_the_wire_format():
    text = (ROOT / "device/lib/sealwire/README.md").read_text()
    plaintext = re.search(r"sync\.plaintext\s+([0-9a-f]+)", text).group(1)
    # the README says in words what it means: 2026-11-24T00:01:00Z, newest 7, all of 6 to 2 and 0 but not 1, release 3
    told = Sync(1795478460 - 1735689600, 7, bitmap(7, [6, 5, 4, 3, 2, 0]), 3)
    assert told.to_bytes().hex() == plaintext


@given(st.sets(st.integers(0, 65535), min_size=1), st.data())
def test_a_sync_is_true_and_speaks_of_the_answered_frame(stored, data):
    answered = data.draw(st.sampled_from(sorted(stored)))
    named = anchor(answered, max(stored))
    bits = bitmap(named, stored)
    said = {named} | {named - 1 - i for i in range(32) if bits >> i & 1}
    assert said == {ctr for ctr in stored if named - 32 <= ctr <= named}
    assert answered in said


def test_the_newest_is_named_as_long_as_the_bitmap_reaches():
    assert anchor(8, 40) == 40
    assert anchor(7, 40) == 7


def test_the_bitmap_is_an_unsigned_number_of_32_bits():
    everything = bitmap(100, range(101))
    assert everything == 2**32 - 1
    assert cbor2.loads(cbor2.dumps(everything)) == everything


def test_a_server_whose_clock_is_wrong_says_zero_and_not_a_negative_time():
    assert seconds(0.0) == 0
    assert seconds(1735689600 + 5.9) == 5
