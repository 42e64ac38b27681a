"""The option negotiation automaton that PPP's control protocols share (RFC 1661 section 4).

A protocol (LCP, IPCP) is a subclass that says which options it wants and judges those of its peer. No clock and no
line of its own: packets go out through a function, and `tick` is called with the time.
"""

from collections.abc import Callable

REQUEST, ACK, NAK, REJECT, TERMINATE, TERMINATE_ACK, CODE_REJECT = range(1, 8)
PROTOCOL_REJECT, ECHO_REQUEST, ECHO_REPLY, DISCARD = range(8, 12)
INITIAL, STARTING, CLOSED, STOPPED, CLOSING, STOPPING, REQ_SENT, ACK_RCVD, ACK_SENT, OPENED = range(10)

RESTART_S = 3.0  # section 4.6
MAX_TERMINATE = 2
MAX_CONFIGURE = 10
MAX_FAILURE = 5

_WAITING = (CLOSING, STOPPING, REQ_SENT, ACK_RCVD, ACK_SENT)
Options = dict[int, bytes]


class Automaton:
    """One control protocol's state.

    Args:
        send: takes a packet (code, identifier, length, data).
        restart_s: seconds until an unanswered request is repeated.

    Attributes:
        state: one of the states of RFC 1661 section 4.2.
        wanted: the options that are asked for, by type.
        deadline: when `tick` wants to be called, or None.
        failed: it gave up: the peer did not answer, or agreed to nothing.
    """

    def __init__(self, send: Callable[[bytes], None], restart_s: float = RESTART_S) -> None:
        self.state = INITIAL
        self.wanted: Options = {}
        self.deadline: float | None = None
        self.failed = False
        self._send = send
        self._restart_s = restart_s
        self._now = 0.0
        self._left = 0
        self._naks = 0
        self._refusals = 0  # of the peer, in a row
        self._identifier = 0
        self._request_identifier = 0
        self._asked: Options | None = None  # by the request that is not answered yet

    # what a protocol is

    def judge(self, option: int, value: bytes) -> bytes | None:
        """What is right for this option of the peer's request: the same value, another (a Nak), or None (a Reject)."""
        return None

    def accepted(self, options: Options) -> None:
        """The peer's request was acknowledged with these options."""

    def suggested(self, option: int, value: bytes) -> None:
        """The peer wants this value of ours to be another."""

    def refused(self, option: int) -> None:
        """The peer does not know this option."""
        self.wanted.pop(option, None)

    def up(self) -> None:
        """This layer is open."""

    def down(self) -> None:
        """This layer is open no more."""

    def finished(self) -> None:
        """This layer is done; the one beneath may go."""

    def other(self, code: int, identifier: int, data: bytes) -> bool:
        """A code beyond 1 to 7; returns whether this protocol knows it."""
        return False

    # what others do with it

    def open(self, now: float) -> None:
        """The layer beneath is there: begin."""
        self._now = now
        self.failed = False
        self._naks = self._refusals = 0
        if self.state in (INITIAL, STARTING, CLOSED, STOPPED):
            self._left = MAX_CONFIGURE
            self._request()
            self.state = REQ_SENT

    def close(self, now: float) -> None:
        """End it in good order."""
        self._now = now
        if self.state == OPENED:
            self.down()
        if self.state in (REQ_SENT, ACK_RCVD, ACK_SENT, OPENED, STOPPING):
            self._left = MAX_TERMINATE
            self._terminate()
            self.state = CLOSING
        elif self.state in (STARTING, STOPPED):
            self.state = CLOSED
            self.finished()

    def lost(self) -> None:
        """The layer beneath is gone."""
        was, self.state, self.deadline = self.state, INITIAL, None
        if was == OPENED:
            self.down()

    def tick(self, now: float) -> None:
        """Do what is due."""
        self._now = now
        if self.deadline is None or now < self.deadline or self.state not in _WAITING:
            return
        if self._left > 0:
            if self.state in (CLOSING, STOPPING):
                self._terminate()
                return
            self._request()
            if self.state == ACK_RCVD:
                self.state = REQ_SENT
            return
        self.deadline = None
        self.failed = self.state not in (CLOSING, STOPPING)
        self.state = CLOSED if self.state == CLOSING else STOPPED
        self.finished()

    def receive(self, packet: bytes, now: float) -> None:
        """Take one packet; one that is malformed is dropped without a word (section 5)."""
        self._now = now
        if len(packet) < 4 or self.state in (INITIAL, STARTING):
            return
        code, identifier, length = packet[0], packet[1], int.from_bytes(packet[2:4], "big")
        if not 4 <= length <= len(packet):
            return
        data = packet[4:length]
        if code == REQUEST:
            self._requested(identifier, data)
        elif code in (ACK, NAK, REJECT):
            if identifier == self._request_identifier and self._asked is not None:
                self._answered(code, data)
        elif code == TERMINATE:
            self._terminated(identifier)
        elif code == TERMINATE_ACK:
            self._terminate_acknowledged()
        elif code == CODE_REJECT:
            if data and data[0] <= CODE_REJECT:
                self.give_up()  # it rejects what every peer has to know
        elif not self.other(code, identifier, data):
            self._packet(CODE_REJECT, self._next(), packet[:length])

    def give_up(self) -> None:
        """This cannot be agreed on."""
        was, self.state, self.deadline, self.failed = self.state, STOPPED, None, True
        if was == OPENED:
            self.down()
        self.finished()

    def _requested(self, identifier: int, data: bytes) -> None:
        if self.state == CLOSED:
            self._packet(TERMINATE_ACK, identifier)
            return
        if self.state in (CLOSING, STOPPING):
            return
        options = parse_options(data)
        if options is None:
            return
        if self.state == OPENED:
            self.down()
            self._left = MAX_CONFIGURE
            self._request()
            self.state = REQ_SENT
        elif self.state == STOPPED:
            self._left = MAX_CONFIGURE
            self._request()
            self.state = REQ_SENT
        if self._judge_all(identifier, data, options):
            self.accepted(dict(options))
            if self.state == ACK_RCVD:
                self._opened()
            else:
                self.state = ACK_SENT
        elif self.state == ACK_SENT:
            self.state = REQ_SENT

    def _judge_all(self, identifier: int, data: bytes, options: list[tuple[int, bytes]]) -> bool:
        rejected, naked = [], []
        for option, value in options:
            right = self.judge(option, value)
            if right is None:
                rejected.append((option, value))
            elif right != value:
                naked.append((option, right))
        if rejected:
            self._packet(REJECT, identifier, format_options(rejected))
        elif naked:
            self._naks += 1
            kinds = {option for option, _ in naked}
            back = [one for one in options if one[0] in kinds]
            # section 4.6, Max-Failure: one that never agrees is refused instead
            self._packet(
                *(
                    (REJECT, identifier, format_options(back))
                    if self._naks > MAX_FAILURE
                    else (NAK, identifier, format_options(naked))
                )
            )
        else:
            self._naks = 0
            self._packet(ACK, identifier, data)
        return not rejected and not naked

    def _answered(self, code: int, data: bytes) -> None:
        if self.state in (CLOSED, STOPPED):
            self._packet(TERMINATE_ACK, self._request_identifier)
            return
        if self.state not in (REQ_SENT, ACK_RCVD, ACK_SENT, OPENED):
            return
        options = parse_options(data)
        if options is None or (code == ACK and dict(options) != self._asked):
            return
        self._asked = None
        if self.state in (ACK_RCVD, OPENED):
            # a second answer to one request, or one out of the blue: begin again
            if self.state == OPENED:
                self.down()
            self._request()
            self.state = REQ_SENT
            return
        if code == ACK:
            self._left, self._refusals = MAX_CONFIGURE, 0
            if self.state == ACK_SENT:
                self._opened()
            else:
                self.state = ACK_RCVD
            return
        self._refusals += 1
        if self._refusals > MAX_CONFIGURE:
            self.give_up()
            return
        for option, value in options:
            if option in self.wanted or code == NAK:
                self.suggested(option, value) if code == NAK else self.refused(option)
        if self.state not in (REQ_SENT, ACK_SENT):
            return  # what was suggested ended it
        self._request()

    def _terminated(self, identifier: int) -> None:
        self._packet(TERMINATE_ACK, identifier)
        if self.state == OPENED:
            self.down()
            self.state = STOPPED
            self.deadline = None
            self.finished()
        elif self.state in (ACK_RCVD, ACK_SENT):
            self.state = REQ_SENT

    def _terminate_acknowledged(self) -> None:
        if self.state in (CLOSING, STOPPING):
            self.state = CLOSED if self.state == CLOSING else STOPPED
            self.deadline = None
            self.finished()
        elif self.state == ACK_RCVD:
            self.state = REQ_SENT
        elif self.state == OPENED:
            self.down()
            self._request()
            self.state = REQ_SENT

    def _opened(self) -> None:
        self.state = OPENED
        self.deadline = None
        self.up()

    def _request(self) -> None:
        self._left -= 1
        self.deadline = self._now + self._restart_s
        self._asked = dict(self.wanted)
        self._request_identifier = self._next()
        self._packet(REQUEST, self._request_identifier, format_options(list(self.wanted.items())))

    def _terminate(self) -> None:
        self._left -= 1
        self.deadline = self._now + self._restart_s
        self._packet(TERMINATE, self._next())

    def _next(self) -> int:
        self._identifier = (self._identifier + 1) & 0xFF
        return self._identifier

    def _packet(self, code: int, identifier: int, data: bytes = b"") -> None:
        data = data[:1400]
        self._send(bytes((code, identifier)) + (len(data) + 4).to_bytes(2, "big") + data)


def parse_options(data: bytes) -> list[tuple[int, bytes]] | None:
    """Type and value of each option (section 6), or None when they are malformed."""
    options = []
    while data:
        if len(data) < 2 or not 2 <= data[1] <= len(data):
            return None
        options.append((data[0], data[2 : data[1]]))
        data = data[data[1] :]
    return options


def format_options(options: list[tuple[int, bytes]]) -> bytes:
    """The reverse of `parse_options`."""
    return b"".join(bytes((option, len(value) + 2)) + value for option, value in options)
