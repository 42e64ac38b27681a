# A bounded log of what happened on this device: codes of a closed list and small integers, so that no reading, no key
# and no text from outside can get into it. The newest entries stay; it is lost with the power.
from micropython import const

_ENTRIES = const(32)

# code: name. Numbers are never reused.
BOOT = 1  # reset cause
SYNCED = 2  # seconds by which the clock moved
CLOCK_REFUSED = 3
SENSOR_FAILED = 4  # index of the sensor
DOWNLINK_REFUSED = 5
COMMAND = 6  # message type, result code
SERVER_LOST = 7  # sessions without an answer
SERVER_FOUND = 8
DROPPED = 9  # frames since enrolment
EPOCH = 10  # the new one
CHAIN_STOPPED = 11
LINK_FAILED = 12  # index of the link
STORE_FAILED = 13
FAULT = 14  # exceptions in the node's own code, so far
SENT = 15  # priority, epoch, counter
SEALED = 16  # priority, bytes, counter
ACKNOWLEDGED = 17  # frames

NAMES = {
    BOOT: "boot",
    SYNCED: "synced",
    CLOCK_REFUSED: "clock refused",
    SENSOR_FAILED: "sensor failed",
    DOWNLINK_REFUSED: "downlink refused",
    COMMAND: "command",
    SERVER_LOST: "server lost",
    SERVER_FOUND: "server found",
    DROPPED: "dropped",
    EPOCH: "epoch",
    CHAIN_STOPPED: "chain stopped",
    LINK_FAILED: "link failed",
    STORE_FAILED: "store failed",
    FAULT: "fault",
    SENT: "sent",
    SEALED: "sealed",
    ACKNOWLEDGED: "acknowledged",
}


class Log:
    # `uptime`: a function, seconds; `echo`: print every entry on the serial port too
    def __init__(self, uptime, echo=False):
        self._uptime = uptime
        self._echo = echo
        self._entries = []

    # only integers; anything else is not written down
    def note(self, code, *numbers):
        entry = (self._uptime(), code) + tuple(number for number in numbers if type(number) is int)
        if len(self._entries) >= _ENTRIES:
            self._entries.pop(0)
        self._entries.append(entry)
        if self._echo:
            print(line(entry))

    # (uptime, code, numbers...) from the oldest on
    def entries(self):
        return tuple(self._entries)


# one entry as text
def line(entry):
    return "[%d] %s %s" % (entry[0], NAMES.get(entry[1], "code %d" % entry[1]), " ".join(str(n) for n in entry[2:]))
