# The shared layouts, read on MicroPython: hostile frames are refused, good ones round-trip.
from sealwire import frame


def refused(data):
    try:
        frame.parse(data)
    except frame.FrameError as error:
        return str(error)
    raise AssertionError("accepted %r" % data)


def test_data_header_round_trips():
    head = frame.header(frame.KIND_DATA, 9, b"\x12\x34", 0x0102)
    parsed = frame.parse(head + b"c" * 5 + b"t" * 8)
    assert (parsed.kind, parsed.epoch_bits, parsed.did, parsed.ctr) == (0, 1, b"\x12\x34", 0x0102)
    assert parsed.sealed == b"ccccctttttttt"


def test_hello_header_round_trips():
    head = frame.hello_header(b"12345678", 11, 7)
    parsed = frame.parse(head + b"t" * 8)
    assert (parsed.kind, parsed.eui, parsed.epoch, parsed.ctr, parsed.did) == (2, b"12345678", 11, 7, None)


def test_short_long_foreign_and_reserved_frames_are_refused():
    assert "shorter" in refused(b"")
    assert "shorter" in refused(b"\xe0" * 12)
    assert "longer" in refused(b"\xe0" * 256)
    assert "first byte" in refused(b"\x40" + bytes(20))
    assert "reserved" in refused(b"\xf8" + bytes(20))
    assert "shorter" in refused(b"\xf0" + bytes(21))


def test_hello_with_two_different_epochs_is_refused():
    head = bytearray(frame.hello_header(b"12345678", 11, 7))
    head[0] ^= 1
    assert "mod 8" in refused(bytes(head) + b"t" * 8)


def test_nonce_carries_the_counter_in_its_last_two_bytes():
    assert frame.nonce(bytes(13), 0x0102) == bytes(11) + b"\x01\x02"
    assert frame.nonce(b"\xff" * 13, 0xFFFF) == b"\xff" * 11 + b"\x00\x00"
