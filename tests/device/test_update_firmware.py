# The firmware component of an update, on a chip with two slots (otachip.py): what is refused, what is written where,
# where it goes on, and that the loader never has an image before it that was not signed.
import hashlib
import os

from device.otachip import BLOCK, BLOCKS, PENDING, VALID, Delivery, OtaWorld, Partition, deflated, image, sections

from sealband.update import firmware
from sealband.update.head import FetchError
from sealband.update.refused import UpdateRefused
from sealboot import record
from sealwire import update

TIMEOUT_S = 120
FOLDER = "/ram/slots"
PATH = "/ram/0123456789abcdef.full"
OLD = image(b"old")
FRESH = image(bytes(i * 7 % 256 for i in range(9000)))  # three blocks, the last one short
EVIL = image(b"evil" * 2000)
# 60,000 zeros, as zlib deflates them (level 9, wbits -10)
ZEROS = bytes.fromhex("edc13101000000c2a0f54f6d0d0fa0") + bytes(58) + bytes.fromhex("be0c")


class Manifest:
    def __init__(self, data=FRESH, sequence=5, component=b"fw"):
        self.component = component
        self.sequence = sequence
        self.digest = hashlib.sha256(data).digest()
        self.size = len(data)


# A started board with a boot record, and a delivery.
def board(delivered=None, floor=1):
    world = OtaWorld(OLD)
    world.mount()
    os.mkdir(FOLDER)
    held = record.Record()
    held.active = 0
    held.slots[0] = (3, bytes(32), 1)
    held.firmware_floor = floor
    record.save(held, FOLDER)
    deliver(sections(FRESH) if delivered is None else delivered)
    Partition.slotless = False
    world.start()
    return world


# What is delivered from here on.
def deliver(data, **named):
    global delivery
    delivery = Delivery(data, **named)


def install(order=None, **named):
    firmware.install(order or Manifest(), delivery, PATH, folder=FOLDER, **named)


# As the updater does it: the note of a delivery that is refused goes.
def code(order=None, **named):
    try:
        install(order, **named)
    except UpdateRefused as error:
        firmware.discard(PATH)
        return error.code
    except FetchError as error:
        return error.code
    return None


def noted():
    return firmware._progress(PATH, hashlib.sha256(FRESH).digest())[0]


def held():
    return record.load(FOLDER)


def test_image_is_written_tried_and_confirmed():
    world = board()
    fed = []
    install(feed=lambda: fed.append(1))
    assert world.chip.held(1) == FRESH and world.chip.held(0) == OLD
    assert bytes(world.chip.slots[1][len(FRESH) : 3 * BLOCK]) == b"\xff" * (3 * BLOCK - len(FRESH))
    assert held().firmware == (5, b"ota_1") and len(fed) == 5  # each block written, and read back but for the first
    assert delivery.asked == [0, 0]
    assert world.start() == 1
    assert firmware.running_label() == b"ota_1" and firmware.on_trial(FOLDER) == 5
    assert firmware.check_outcome(FOLDER, 5) is None
    assert world.chip.notes[1][1] == PENDING
    firmware.confirm(FOLDER)
    assert world.chip.notes[1][1] == VALID
    assert held().firmware == (0, b"") and held().firmware_floor == 5 and held().floor == 0
    assert firmware.check_outcome(FOLDER, 5) == update.OK and firmware.on_trial(FOLDER) == 0
    assert world.start() == 1


def test_unconfirmed_firmware_is_gone_after_a_reset_and_is_reported_until_known():
    world = board()
    install()
    assert world.start() == 1 and world.start() == 0
    for _ in range(3):
        assert firmware.check_outcome(FOLDER, 5) == update.TRIAL_FAILED
    assert held().firmware == (0, b"") and held().outcome == (5, update.TRIAL_FAILED)
    assert held().firmware_floor == 1
    # and it may be tried again
    install()
    assert world.start() == 1


def test_two_updates_take_the_two_slots_in_turn():
    world = board()
    install()
    world.start()
    firmware.confirm(FOLDER)
    second = image(b"second")
    deliver(sections(second))
    install(Manifest(second, 6))
    assert world.start() == 0 and world.chip.held(0) == second
    firmware.confirm(FOLDER)
    assert held().firmware_floor == 6 and world.start() == 0


def test_wrong_orders_are_refused_before_anything_is_written():
    world = board()
    before = [bytes(slot) for slot in world.chip.slots]
    assert code(Manifest(component=b"app")) == update.WRONG_COMPONENT
    assert code(Manifest(sequence=1)) == update.OLD_SEQUENCE
    big = Manifest()
    big.size = BLOCKS * BLOCK + 1
    assert code(big) == update.TOO_LARGE
    Partition.slotless = True
    assert code() == update.WRONG_COMPONENT
    Partition.slotless = False
    assert [bytes(slot) for slot in world.chip.slots] == before and world.power.operations
    assert world.chip.notes == [(1, VALID), None] and held().firmware == (0, b"")


def test_board_without_a_boot_record_takes_no_firmware():
    board()
    os.remove(FOLDER + "/0")
    assert code() == update.INTERNAL
    assert firmware.on_trial(FOLDER) == 0 and firmware.check_outcome(FOLDER) is None


def test_image_that_was_not_signed_is_never_startable():
    # whoever serves the files chooses them: a whole image of somebody else, as long as the signed one
    evil = image(b"e" * (len(FRESH) - 37))
    assert len(evil) == len(FRESH)
    for data in (evil, evil[:-1] + b"\0", EVIL):
        for form in (sections, deflated):
            world = board(form(data))
            assert code() in (update.IMAGE_DIGEST, update.BAD_STREAM)
            assert world.chip.held(1) is None and world.start() == 0
            assert held().firmware == (0, b"")


def test_first_block_of_another_image_is_never_written():
    # whoever serves the files answers the last request with something else than the first one
    world = board()

    def two_faced(at, evil=Delivery(sections(b"\xe9" + bytes(len(FRESH) - 1)))):
        return evil(at) if delivery.asked else delivery(at)

    try:
        firmware.install(Manifest(), two_faced, PATH, folder=FOLDER)
        raise AssertionError("taken")
    except UpdateRefused as error:
        assert error.code == update.IMAGE_DIGEST
    assert world.chip.slots[1][:BLOCK] == b"\xff" * BLOCK and world.chip.slots[1][BLOCK:] != b"\xff" * BLOCK * 3
    assert world.start() == 0


def test_streams_that_are_no_deflate_or_not_the_signed_length_are_refused():
    for data in (
        b"",
        b"\xff" * 50,
        deflated(FRESH)[:-1],
        deflated(FRESH) + b"x",
        deflated(FRESH + b"x"),
        deflated(b"short"),
        sections(FRESH)[:-1],
        sections(FRESH) + b"x",
        sections(FRESH) + deflated(b""),
        sections(FRESH + b"x"),
        sections(FRESH[:BLOCK]) + deflated(b"") + sections(FRESH[BLOCK:]),
        sections(FRESH, BLOCK - 1),
        sections(FRESH, BLOCK + 1),
    ):
        world = board(data)
        assert code() == update.BAD_STREAM, data[:10]
        assert world.chip.held(1) is None and world.start() == 0


def test_small_stream_that_inflates_without_end_stops_at_the_signed_length():
    board(ZEROS)
    fed = []
    assert code(feed=lambda: fed.append(1)) == update.BAD_STREAM
    assert len(fed) == 2  # the blocks of the signed length but the last one, which does not end there


def test_what_is_signed_and_no_image_is_refused_by_the_chip():
    data = b"signed, and no firmware" * 300
    world = board(sections(data))
    assert code(Manifest(data)) == update.FIRMWARE_REFUSED
    assert held().firmware == (0, b"") and world.start() == 0


def test_flash_that_reads_back_differently_is_noticed():
    world = board()
    world.chip.blind = ("read",)
    assert code() == update.FLASH_FAILED and not noted()
    assert world.chip.slots[1][0] == 0xFF and held().firmware == (0, b"") and world.start() == 0
    # also in the first block, which is written when all the others are right
    read = Partition.readblocks

    def first_is_blind(self, block, buffer, offset=0):
        read(self, block, buffer, offset)
        if block == 0:
            buffer[-1] ^= 1

    world = board()
    Partition.readblocks = first_is_blind
    try:
        assert code() == update.FLASH_FAILED
    finally:
        Partition.readblocks = read
    assert world.chip.slots[1][:BLOCK] == b"\xff" * BLOCK and held().firmware == (0, b"") and world.start() == 0


def test_flash_that_refuses_is_no_end():
    for operation in ("erase", "write", "otadata"):
        world = board()
        world.chip.blind = (operation,)
        assert code() == update.FLASH_FAILED, operation
        world.chip.blind = ()
        assert held().firmware == (0, b"") and world.start() == 0
        install()
        assert world.start() == 1


def test_no_firmware_is_installed_over_the_one_that_a_trial_falls_back_to():
    world = board()
    install()
    world.start()
    assert code(Manifest(sequence=6)) == update.FIRMWARE_REFUSED
    assert code() == update.FIRMWARE_REFUSED
    assert world.chip.held(0) == OLD and world.start() == 0


def test_only_the_firmware_on_trial_can_be_confirmed():
    world = board()
    for step in (lambda: None, install):
        step()
        try:
            firmware.confirm(FOLDER)
            raise AssertionError("confirmed")
        except OSError:
            pass
        assert held().firmware_floor == 1
    world.start()
    firmware.confirm(FOLDER)


# Firmware that never gets healthy, installed twice without a start in between, in the first slot: without the anchor
# both of the loader's notes name it, and when both are given up the loader takes the first slot for ever.
def _twice(world):
    install()
    world.start()
    firmware.confirm(FOLDER)
    bad = image(b"bad")
    deliver(sections(bad))
    install(Manifest(bad, 6))
    install(Manifest(bad, 6))
    return [world.start() for _ in range(4)]


def test_second_installation_without_a_start_still_falls_back():
    assert _twice(board()) == [0, 1, 1, 1]


def test_second_installation_without_the_anchor_would_be_caught():
    anchor = firmware._anchor
    firmware._anchor = lambda running: None
    try:
        assert _twice(board()) == [0, 0, 0, 0]
    finally:
        firmware._anchor = anchor


def test_notes_that_name_nothing_are_made_good():
    world = board()
    world.chip.notes = [None, None]
    install()
    assert world.start() == 1 and world.start() == 0


def test_interrupted_delivery_goes_on_with_the_section_that_is_not_complete():
    # two sections of a block, and the rest; a connection carries a little more than one
    one = len(deflated(FRESH[:BLOCK]))
    world = board()
    delivery.drops = one + 500
    assert [code() for _ in range(3)] == [update.UNREACHABLE] * 2 + [None]
    assert delivery.asked == [0, one, 2 * one, 0]
    assert world.chip.held(1) == FRESH and world.start() == 1


def test_what_lay_in_the_other_slot_is_no_more_started_once_the_delivery_began():
    world = board()
    world.chip.slots[1][: len(EVIL)] = EVIL
    assert world.chip.held(1) == EVIL
    delivery.drops = 1000
    assert code() == update.UNREACHABLE
    assert world.chip.held(1) is None and world.start() == 0


def test_interruption_at_any_byte_costs_less_than_two_sections():
    whole = sections(FRESH)
    for drops in range(len(deflated(FRESH[:BLOCK])), len(whole) + 1, 397):
        world = board()
        delivery.drops = drops
        for _ in range(4):
            if code() is None:
                break
        assert world.chip.held(1) == FRESH, drops
        assert len(delivery.asked) <= 5 and delivery.sent < 3 * len(whole), drops


def test_whole_image_without_its_first_block_needs_that_only():
    world = board()

    def once(at):
        if delivery.asked:
            raise FetchError(update.TIME_OUT)
        return delivery(at)

    try:
        firmware.install(Manifest(), once, PATH, folder=FOLDER)
        raise AssertionError("installed")
    except FetchError:
        pass
    assert noted() == 3 and world.chip.held(1) is None and world.start() == 0
    before = delivery.sent
    install()
    assert delivery.asked == [0, 0] and delivery.sent - before < 2 * BLOCK
    assert world.start() == 1


def test_server_that_cannot_go_on_is_read_from_the_beginning():
    for form in (sections, deflated):
        world = board()
        deliver(form(FRESH), ranges=False)
        delivery.drops = 8500
        assert code() == update.UNREACHABLE
        assert noted() == (2 if form is sections else 0)
        delivery.drops = 100
        assert code() == update.UNREACHABLE and noted() == 0, "of blocks that are written over"
        delivery.drops = None
        assert code() is None and world.start() == 1


def test_server_that_goes_on_after_the_end_is_refused():
    world = board()
    delivery.longer = True
    assert code() == update.TOO_LONG and world.chip.held(1) is None


def test_notes_that_are_wrong_cost_an_attempt_and_not_more():
    digest = hashlib.sha256(FRESH).digest()
    for right, note in (
        (True, b""),
        (True, b"x" * 39),
        (True, b"x" * 40),
        (True, b"x" * 5000),
        (False, digest + b"\0\0\0\1" + b"\0\0\0\1"),
        (True, digest + b"\0\0\0\0" + b"\0\0\0\5"),
        (False, digest + b"\0\0\0\2" + b"\0\0\x10\5"),
        (False, digest + b"\0\0\0\3" + b"\0\0\0\1"),
        (False, digest + b"\xff" * 8),
        (True, hashlib.sha256(EVIL).digest() + b"\0\0\0\3" + b"\0\0\0\1"),
    ):
        world = board()
        with open(PATH, "wb") as file:
            file.write(note)
        first = code()
        assert first is None if right else first in (update.IMAGE_DIGEST, update.BAD_STREAM), note
        assert (world.chip.held(1) is None) == (first is not None)
        if first:
            assert code() is None, note
        assert world.start() == 1


def test_section_of_another_image_is_found_out_and_fetched_anew():
    # somebody answers the first connection, the repository those after it
    world = board(sections(EVIL[: len(FRESH)] + bytes(len(FRESH) - len(EVIL))))
    delivery.drops = 6000
    assert code() == update.UNREACHABLE and noted() == 1
    deliver(sections(FRESH))
    install()  # the first block comes anew in any case
    assert world.start() == 1
    world = board(sections(EVIL[: len(FRESH)] + bytes(len(FRESH) - len(EVIL))))
    delivery.drops = 8300
    assert code() == update.UNREACHABLE and noted() == 2
    deliver(sections(FRESH))
    assert code() == update.IMAGE_DIGEST and world.chip.held(1) is None
    assert code() is None and world.start() == 1


def test_flash_without_room_for_the_note_is_no_end():
    world = board()
    kept, firmware.write_file = firmware.write_file, _full
    try:
        install()
    finally:
        firmware.write_file = kept
    assert world.start() == 1


def _full(path, data):
    raise OSError(28)
