"""One end of a TCP connection, as a state machine (RFC 9293): segments in and out, bytes in and out.

For a serial link that neither reorders nor loses, but whose damaged frames are dropped: what is missing is sent again
from the first byte on, after three doubled acknowledgements or a time-out; what comes out of order is dropped. No
options but MSS, no urgent data, no congestion control: the link's receiver window is the only limit. Both ends of the
simulated cellular path are this class. No clock and no IO: the time is passed in.
"""

import errno
import secrets
from collections.abc import Callable
from enum import Enum, auto

from host_tools.sim.ip import ACK, FIN, MSS, PSH, RST, SYN, Segment

WINDOW = 5760  # lwIP's TCP_WND in ESP-IDF
SEND_BUFFER = 5760
TRIES_MAX = 8
SYN_TRIES_MAX = 5
BACKOFF_MAX = 5
TIME_WAIT_S = 1.0
_MASK = 0xFFFFFFFF
_HALF = 0x80000000


class State(Enum):
    """RFC 9293 section 3.3.2, without LISTEN."""

    SYN_SENT = auto()
    SYN_RECEIVED = auto()
    ESTABLISHED = auto()
    FIN_WAIT_1 = auto()
    FIN_WAIT_2 = auto()
    CLOSE_WAIT = auto()
    CLOSING = auto()
    LAST_ACK = auto()
    TIME_WAIT = auto()
    CLOSED = auto()


_SENDS = (State.ESTABLISHED, State.CLOSE_WAIT, State.FIN_WAIT_1, State.CLOSING, State.LAST_ACK)
_RECEIVES = (State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2)


def _after(a: int, b: int) -> bool:
    """Whether sequence number a is later than b."""
    return 0 < (a - b & _MASK) < _HALF


class Tcp:
    """One end.

    Args:
        ports: its own and the peer's.
        send: takes a segment for the peer.
        on_change: called when something has changed: connected, bytes there, room there, closed.
        rto_s: seconds until what is not acknowledged is sent again; doubled each time.
        window: how many bytes it takes before they are read.

    Attributes:
        state: of the connection.
        error: errno of what ended it, 0 while nothing has.
        peer_done: the peer sends nothing more.
    """

    def __init__(
        self,
        ports: tuple[int, int],
        send: Callable[[Segment], None],
        on_change: Callable[[], None],
        *,
        rto_s: float = 1.0,
        window: int = WINDOW,
    ) -> None:
        self.state = State.CLOSED
        self.error = 0
        self.peer_done = False
        self.deadline: float | None = None
        self._ports = ports
        self._send = send
        self._on_change = on_change
        self._rto_s = rto_s
        self._capacity = window
        self._tries = 0
        self._now = 0.0
        self._una = self._nxt = self._start = secrets.randbits(32)
        self._out = bytearray()  # from `_una` on, a SYN or FIN not counted
        self._syn_pending = False
        self._fin_wanted = False
        self._fin_sent = False
        self._peer_window = 0
        self._mss = 536  # RFC 9293 section 3.7.1
        self._rcv_nxt = 0
        self._in = bytearray()
        self._told_window = window
        self._doubled = 0

    # what its owner does

    def connect(self, now: float) -> None:
        """Send a SYN."""
        self._now = now
        self.state = State.SYN_SENT
        self._syn_pending = True
        self._nxt = self._una + 1 & _MASK
        self._emit(SYN, seq=self._una, mss=MSS)
        self._arm()

    def accept(self, syn: Segment, now: float) -> None:
        """Answer a SYN."""
        self._now = now
        self.state = State.SYN_RECEIVED
        self._syn_pending = True
        self._rcv_nxt = syn.seq + 1 & _MASK
        self._peer_window, self._mss = syn.window, min(syn.mss or 536, MSS)
        self._nxt = self._una + 1 & _MASK
        self._emit(SYN | ACK, seq=self._una, mss=MSS)
        self._arm()

    @property
    def connected(self) -> bool:
        """Whether the handshake is over and the connection not."""
        return self.state not in (State.SYN_SENT, State.SYN_RECEIVED, State.CLOSED)

    @property
    def room(self) -> int:
        """How many bytes `write` takes now."""
        if self._fin_wanted or self.state not in (State.ESTABLISHED, State.CLOSE_WAIT):
            return 0
        return max(0, SEND_BUFFER - len(self._out))

    @property
    def waiting(self) -> int:
        """How many bytes wait to be read."""
        return len(self._in)

    def write(self, data: bytes, now: float) -> int:
        """Take bytes for the peer; returns how many."""
        self._now = now
        data = data[: self.room]
        if data:
            self._out += data
            self._push()
        return len(data)

    def peek(self, n: int) -> bytes:
        """What the peer has sent, without taking it."""
        return bytes(self._in[:n])

    def take(self, n: int, now: float) -> None:
        """Take what was peeked at; opens the window."""
        self._now = now
        del self._in[:n]
        if self.state in _RECEIVES and self._window() - self._told_window >= min(2 * MSS, self._capacity // 2):
            self._emit(ACK)

    def shutdown(self, now: float) -> None:
        """Send no more after what was written."""
        self._now = now
        if self.state in (State.SYN_SENT, State.SYN_RECEIVED):
            self.abort(now)
        elif not self._fin_wanted and self.state in (State.ESTABLISHED, State.CLOSE_WAIT):
            self._fin_wanted = True
            self._push()

    def abort(self, now: float, error: int = errno.ECONNABORTED) -> None:
        """End it with a RST."""
        self._now = now
        if self.state not in (State.CLOSED, State.SYN_SENT, State.TIME_WAIT):
            self._emit(RST | ACK, seq=self._nxt)
        self.fail(error)

    def fail(self, error: int) -> None:
        """It is over, and nobody is told."""
        if self.state is not State.CLOSED:
            self.error = self.error or error
            self._close()

    def _close(self) -> None:
        self.state = State.CLOSED
        self.deadline = None
        self._on_change()

    # time

    def _arm(self) -> None:
        self.deadline = self._now + self._rto_s * (1 << min(self._tries, BACKOFF_MAX))

    def tick(self, now: float) -> None:
        """Do what is due."""
        if self.deadline is None or now < self.deadline:
            return
        self._now = now
        if self.state is State.TIME_WAIT:
            self._close()
            return
        self._tries += 1
        if self._tries > (SYN_TRIES_MAX if self._syn_pending else TRIES_MAX):
            self.fail(errno.ETIMEDOUT)
            return
        if self._syn_pending:
            flags = SYN if self.state is State.SYN_SENT else SYN | ACK
            self._emit(flags, seq=self._una, mss=MSS)
        else:
            self._again(probe=not self._peer_window)
        self._arm()

    def _again(self, *, probe: bool = False) -> None:
        """Send from the first byte that was not acknowledged; to a closed window one byte."""
        self._nxt, self._fin_sent = self._una, False
        if probe and self._out:
            self._emit(ACK | PSH, payload=bytes(self._out[:1]))
        else:
            self._push()

    # out

    def _window(self) -> int:
        return max(0, min(self._capacity - len(self._in), 0xFFFF))

    def _emit(self, flags: int, *, seq: int | None = None, payload: bytes = b"", mss: int | None = None) -> None:
        self._told_window = self._window()
        ack = self._rcv_nxt if flags & ACK else 0
        seq = self._nxt if seq is None else seq
        self._send(Segment(*self._ports, seq, ack, flags, self._told_window, payload, mss))

    def _push(self) -> None:
        if self.state not in _SENDS:
            return
        while True:
            sent = self._nxt - self._una & _MASK
            n = min(len(self._out) - sent, self._mss, self._peer_window - sent)
            if n <= 0:
                break
            last = sent + n == len(self._out)
            self._emit(ACK | (PSH if last else 0), payload=bytes(self._out[sent : sent + n]))
            self._nxt = self._nxt + n & _MASK
        if self._fin_wanted and not self._fin_sent and (self._nxt - self._una & _MASK) == len(self._out):
            self._emit(FIN | ACK)
            self._fin_sent = True
            self._nxt = self._nxt + 1 & _MASK
            self.state = {State.ESTABLISHED: State.FIN_WAIT_1, State.CLOSE_WAIT: State.LAST_ACK}.get(
                self.state, self.state
            )
        if self.deadline is None and (self._out or self._fin_sent):
            self._arm()

    # in

    def receive(self, segment: Segment, now: float) -> None:
        """Take one segment of this connection."""
        self._now = now
        if self.state is State.CLOSED:
            return
        if self.state is State.SYN_SENT:
            self._answered(segment)
            return
        if segment.flags & RST:
            # only exactly in order: a blind RST does not end it (RFC 5961)
            if segment.seq == self._rcv_nxt:
                self.fail(errno.ECONNRESET)
            return
        if segment.flags & SYN:
            if self.state is State.SYN_RECEIVED and segment.seq + 1 & _MASK == self._rcv_nxt:
                self._emit(SYN | ACK, seq=self._una, mss=MSS)
            else:
                self._emit(ACK)
            return
        if not segment.flags & ACK:
            return
        if self._acknowledged(segment):
            self._take_in(segment)
            self._on_change()

    def _answered(self, segment: Segment) -> None:
        if segment.flags & ACK and segment.ack != self._nxt:
            return
        if segment.flags & RST:
            if segment.flags & ACK:
                self.fail(errno.ECONNREFUSED)
            return
        if segment.flags & SYN and segment.flags & ACK:
            self._rcv_nxt = segment.seq + 1 & _MASK
            self._mss = min(segment.mss or 536, MSS)
            self._peer_window = segment.window
            self._established()
            self._emit(ACK)
            self._on_change()

    def _established(self) -> None:
        self.state = State.ESTABLISHED
        self._syn_pending = False
        self._una = self._nxt
        self._tries, self.deadline = 0, None

    def _acknowledged(self, segment: Segment) -> bool:
        ack = segment.ack
        if self.state is State.SYN_RECEIVED:
            if ack != self._nxt:
                return False
            self._established()
        highest = self._una + len(self._out) + (1 if self._fin_wanted else 0) & _MASK
        if _after(ack, highest):
            self._emit(ACK)
            return False  # it acknowledges what was never sent
        if _after(ack, self._una):
            n = ack - self._una & _MASK
            fin = self._fin_wanted and n > len(self._out)
            del self._out[: min(n, len(self._out))]
            if _after(ack, self._nxt):
                self._nxt = ack
            self._una = ack
            self._tries, self.deadline, self._doubled = 0, None, 0
            if fin:
                self._fin_acknowledged()
        elif ack == self._una and self._out and not segment.payload and segment.window == self._peer_window:
            self._doubled += 1
            if not segment.window:
                self._tries = 0  # it is there, and its reader is slow
            elif self._doubled == 3:
                self._again()
        self._peer_window = segment.window
        self._push()
        return True

    def _fin_acknowledged(self) -> None:
        self._fin_sent = False
        if self.state is State.FIN_WAIT_1:
            self.state = State.FIN_WAIT_2
        elif self.state is State.CLOSING:
            self._wait_out()
        elif self.state is State.LAST_ACK:
            self.state = State.CLOSED

    def _wait_out(self) -> None:
        self.state = State.TIME_WAIT
        self.deadline = self._now + TIME_WAIT_S

    def _take_in(self, segment: Segment) -> None:
        payload, seq, fin = segment.payload, segment.seq, bool(segment.flags & FIN)
        if not payload and not fin:
            if seq != self._rcv_nxt and self.state is not State.CLOSED:
                self._emit(ACK)
            return
        if _after(self._rcv_nxt, seq):
            skip = self._rcv_nxt - seq & _MASK
            fin = fin and skip <= len(payload)
            payload, seq = payload[skip:], self._rcv_nxt
        if seq == self._rcv_nxt and self.state in _RECEIVES:
            taken = payload[: self._capacity - len(self._in)]
            self._in += taken
            self._rcv_nxt = self._rcv_nxt + len(taken) & _MASK
            if fin and len(taken) == len(payload):
                self._rcv_nxt = self._rcv_nxt + 1 & _MASK
                self._peer_fin()
        if self.state is not State.CLOSED:
            self._emit(ACK)

    def _peer_fin(self) -> None:
        self.peer_done = True
        if self.state is State.ESTABLISHED:
            self.state = State.CLOSE_WAIT
        elif self.state is State.FIN_WAIT_1:
            self.state = State.CLOSING
        elif self.state is State.FIN_WAIT_2:
            self._wait_out()
