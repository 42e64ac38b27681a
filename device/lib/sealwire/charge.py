"""The parts by which a device counts the charge that it has used (STATUS_CHARGE), and the order of `board.POWER`."""

BOARD = 0  # what flows always: the board itself, and every part's standby and the processor's deep sleep
CHIP = 1  # the processor while it is awake, on top of that; so are all others
LORA = 2  # sending and listening
WIFI = 3
MODEM = 4
GNSS = 5
PULSE = 6  # the optical sensor
MOTION = 7
SENSORS = 8  # all others
PARTS = 9
# in board.POWER only: LORA is what sending takes there
LORA_RX = 9
