# What the node asks of every link. A link carries sealed frames; it sees no plaintext and keeps no queue.
#
#     link.name                       for people
#     link.frame_max                  longest frame to seal for it
#     link.grade                      0 free ... 9 dear, as the application sees it: the policy goes by it
#     link.burst                      how many frames go out before it is listened for answers
#     link.addressed                  its connection names this device, so no hello has to
#     link.open(store, clock, settings, random)   once after every reset, quick; LinkError: the hardware is not there
#     link.wait_ms(len)               how long until a frame of this length may be sent: 0 now, None never
#     link.spare(len)                 permille of its airtime that would be left after this frame; 1000: no limit
#     link.energy_mj(len)             what a frame of this length costs, by the board's power table
#     link.connect()                  generator of pauses in ms; LinkError when it does not come up
#     link.send(frame)                generator of pauses; True: it went out, False: refused or failed, maybe gone out
#     link.listen()                   generator of pauses; the list of frames that came
#     link.disconnect()               generator of pauses, at the end of a session; raises nothing
#     link.rest()                     no session is under way any more: what only those need can go
#     link.configure(settings)        settings changed
#     link.margin(db)                 the server's margin report for the frame that was sent last
#     link.silent()                   an exchange on it went unanswered
#     link.airtime_ms()               airtime spent in the last hour
#     link.suspend()                  before deep sleep
#     link.errors                     faults of its hardware since the start
#     link.sent_ms, heard_ms, on_ms   what charge.py counts: on the air, listening (LoRa); connecting and connected
#
# The node waits the pauses, so nothing here blocks for more than about 50 ms.
#
# Compiled, this takes no block of flash: up to 128 bytes lie in their folder.


class LinkError(Exception):
    # The hardware of a link does not answer. The node goes on with the others.
    pass


class Link:
    frame_max = 0
    grade = 1
    errors = 0
    burst = 1
    # time that charge.py counts: on the air, listening; connected
    sent_ms = heard_ms = on_ms = 0
    addressed = False

    # what many links have no use for; nothing to pause for either
    def connect(self, *_):
        return ()

    disconnect = configure = margin = silent = suspend = rest = connect

    def energy_mj(self, frame_len=0):
        return 0

    airtime_ms = energy_mj

    def spare(self, frame_len):
        return 1000
