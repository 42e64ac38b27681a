# A bounded log of what happened on this device: events of a closed list and small integers, so that no reading, no key
# and no text from outside can get into it. The newest entries stay; it is lost with the power.
from micropython import const

_ENTRIES = const(16)

# Short, since strings of up to ten characters are kept once.
EVENTS = (
    "boot",  # the board started: reset cause
    "synced",  # the clock moved: seconds
    "time",  # a time that the server told was not believed
    "sensor",  # a reading failed: the sensor's index in the application
    "refused",  # a downlink was refused: how many so far
    "command",  # the server asked for something: message type, result code
    "lost",  # the server counts as lost: sessions without an answer
    "found",  # it answered again
    "dropped",  # frames were given up: how many since enrolment
    "epoch",  # a new one began: its number
    "stopped",  # the chain has no more counters without contact: epoch
    "link",  # a link could not be opened: its index in the application
    "store",  # flash refused a write
    "fault",  # our own code raised: how often so far
    "sent",  # a frame went out: priority, epoch, counter
    "sealed",  # a frame was queued: priority, bytes, counter
    "acked",  # frames were acknowledged: how many
    "update",  # a step of an update was queued as a report: release sequence, state, code
    "restart",  # the board starts anew for an update
    "empty",  # the cell is: everything is saved, and the board sleeps
    "courier",  # a phone that holds the label's secret was there: how often since the start
)


class Log:
    # `uptime`: a function, seconds; `echo`: print every entry on the serial port too
    def __init__(self, uptime, echo=False):
        self._uptime = uptime
        self._echo = echo
        self.entries = []  # (uptime, event, numbers ...), the oldest first

    # only an event of the list, and only integers; anything else is not written down
    def note(self, event, *numbers):
        if event not in EVENTS:
            event = "fault"
        entry = (self._uptime(), event) + tuple([number for number in numbers if type(number) is int])
        if len(self.entries) >= _ENTRIES:
            self.entries.pop(0)
        self.entries.append(entry)
        if self._echo:
            print(line(entry))


# one entry as text
def line(entry):
    return " ".join(["[%d] %s" % entry[:2]] + [str(number) for number in entry[2:]])
