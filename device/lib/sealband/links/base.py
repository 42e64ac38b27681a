# What the node asks of every link. A link carries sealed frames; it sees no plaintext and keeps no queue.
#
#     link.open(store, clock, settings, random)   once after every reset; LinkError when the hardware is not there
#     link.wait_ms(len)                   how long until a frame of this length may be sent: 0 now, None never
#     link.send(frame)                    False: refused or failed, nothing went out
#     link.opens_ms()                     how long until listen() has something to hear, after a send
#     link.listen()                       frames that came; blocks for the receive window at most
#     link.configure(settings)            settings changed
#     link.airtime_ms()                   airtime spent in the last hour
#     link.suspend()                      before deep sleep
#     link.name                           for people
#
# Compiled, this takes no block of flash: up to 128 bytes lie in their folder.


class LinkError(Exception):
    # The hardware of a link does not answer. The node goes on with the others.
    pass


class Link:
    # longest frame to seal for it
    frame_max = 0
