# Whether new code is healthy: every sensor that gave values before the switch answers, and the server has acknowledged
# something since. Then a start of its own makes it stay (duty.py). Loaded only on trial.
from micropython import const

import sealboot
from sealband.crypto import cbor
from sealband.outbox import REPLY
from sealband.store import write_file
from sealwire import messages
from sealwire.recordids import LATITUDE

_STARTED = const(5)  # sealwire.update, for which the node has no room

_DEADLINE_S = 28800  # then this start has failed; boot.py counts them


class Trial:
    # needed: records that had values before; label: of the partition of a firmware on trial, or ""
    def __init__(self, needed, label, sequence):
        self._needed = needed
        self._label = label
        self._sequence = sequence
        self.acknowledged = False
        self._told = False

    # Whether the sensors that matter, and may be asked, have answered; one at least, if there are any.
    def _sensors_answer(self, node):
        answered = node.sampler.answered
        asked = False
        for index, every in enumerate(node.app.sensors):
            for record in every.sensor.records:
                if node.sampler.may(record):
                    asked = True
                    if record in self._needed and not answered >> index & 1:
                        # with a low cell a receiver is not asked
                        if not (node.low and LATITUDE in every.sensor.records):
                            return False
        return answered > 0 or not asked

    # One look.
    def work(self, node):
        if not self._told and not node.resumed:
            self._told = node.say(REPLY, messages.UPDATE_REPORT, self._sequence, _STARTED, 0)
        if self.acknowledged and self._sensors_answer(node):
            if self._label:
                from esp32 import Partition

                Partition.mark_app_valid_cancel_rollback()
            try:
                write_file(node.update_folder + "/healthy", b"\x01")
                node.restart()
                return
            except OSError:
                pass  # flash refuses: tried again with the next look
        if node.clock.uptime() > _DEADLINE_S:
            node.restart()


# Watch what is on trial.
def begin(node):
    what = None
    try:
        with open(node.update_folder + "/trial", "rb") as file:
            what = cbor.decode(file.read())
    except (OSError, cbor.CborError):
        pass
    if type(what) is not list or len(what) != 3:
        what = ((), "", sealboot.sequence)  # lost: then any sensor will do
    node.trial = Trial(*what)
