# A bounded log of what happened on this device: events of a closed list and small integers, so that no reading, no key
# and no text from outside can get into it. The newest entries stay; it is lost with the power.
from micropython import const

_ENTRIES = const(32)

# event, what its numbers are
EVENTS = (
    "boot",  # reset cause
    "synced",  # seconds by which the clock moved
    "clock refused",
    "sensor failed",  # its index in the application
    "downlink refused",  # so far
    "command",  # message type, result code
    "server lost",  # sessions without an answer
    "server found",
    "dropped",  # frames since enrolment
    "epoch",  # the new one
    "chain stopped",  # epoch
    "link failed",  # its index in the application
    "store failed",
    "fault",  # exceptions in our own code, so far
    "sent",  # priority, epoch, counter
    "sealed",  # priority, bytes, counter
    "acknowledged",  # frames
)


class Log:
    # `uptime`: a function, seconds; `echo`: print every entry on the serial port too
    def __init__(self, uptime, echo=False):
        self._uptime = uptime
        self._echo = echo
        self._entries = []

    # only an event of the list, and only integers; anything else is not written down
    def note(self, event, *numbers):
        if event not in EVENTS:
            event = "fault"
        entry = (self._uptime(), event) + tuple([number for number in numbers if type(number) is int])
        if len(self._entries) >= _ENTRIES:
            self._entries.pop(0)
        self._entries.append(entry)
        if self._echo:
            print(line(entry))

    # (uptime, event, numbers ...) from the oldest on
    def entries(self):
        return tuple(self._entries)


# one entry as text
def line(entry):
    return " ".join(["[%d] %s" % entry[:2]] + [str(number) for number in entry[2:]])
