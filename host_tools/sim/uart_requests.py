"""What the board's modules ask of the UART and of PPP, as bytes, and what these answer.

A letter says what is wanted; numbers are big-endian. Checks what it is given: the other side may be any code.

    UART  i  set up: baud, receive buffer    x  off    a  how much waits    r  read    w  write; then which one
    PPP   c  connect: security, user, key    d  disconnect    x  drop    ?  state, error, address, peer, name server
          t  TCP connection: number, loopback port      u  UDP: loopback port     q  how the connection stands
          h  look up a name: nothing yet, its address, or ENOENT
"""

import errno
import ipaddress
import struct
from collections.abc import Mapping

from host_tools.sim.chip_ip import ChipIp
from host_tools.sim.uart import Line

SEC_NONE, SEC_PAP = 0, 1


class UartRequests:
    """Answers those of `machine.UART`."""

    def __init__(self, uarts: Mapping[int, Line]) -> None:
        self._uarts = uarts

    def answer(self, body: bytes) -> bytes:
        """The result of one request.

        Raises:
            OSError: the line cannot be used.
            ValueError, struct.error: it is no request.
        """
        letter, data = body[:1], body[2:]
        uart = self._uarts.get(body[1]) if len(body) > 1 else None
        if uart is None:
            raise ValueError("no such UART")
        if letter == b"i":
            uart.open(*struct.unpack(">II", data))
        elif letter == b"x":
            uart.close()
        elif letter == b"a":
            return struct.pack(">I", uart.any())
        elif letter == b"r":
            return uart.read(struct.unpack(">I", data)[0])
        elif letter == b"w":
            uart.write(data)
        else:
            raise ValueError("no such request")
        return b""


class PppRequests:
    """Answers those of `network.PPP` and of sockets that go over it."""

    def __init__(self, stack: ChipIp) -> None:
        self._stack = stack

    def answer(self, body: bytes) -> bytes:
        """The result of one request.

        Raises:
            OSError: lwIP refuses.
            ValueError, struct.error: it is no request.
        """
        letter, data = body[:1], body[1:]
        stack = self._stack
        if letter == b"?":
            state, error, *addresses = stack.status()
            return bytes((state, error)) + b"".join(ipaddress.IPv4Address(one).packed for one in addresses)
        if letter == b"q":
            return struct.pack(">H", stack.code(struct.unpack(">H", data)[0]))
        if letter == b"t":
            address, port = struct.unpack(">4sH", data)
            return struct.pack(">HH", *stack.tcp(address, port))
        if letter == b"u":
            return struct.pack(">H", stack.udp())
        if letter == b"h":
            return self._look_up(data.decode("ascii"))
        if letter == b"c":
            user, key = data[1:].split(b"\0")
            stack.connect(user.decode() if data[0] == SEC_PAP else None, key.decode())
        elif letter == b"d":
            stack.disconnect()
        elif letter == b"x":
            stack.close()
        else:
            raise ValueError("no such request")
        return b""

    def _look_up(self, name: str) -> bytes:
        address = self._stack.look_up(name)
        if address == b"":
            raise OSError(errno.ENOENT, "no such name")
        return address or b""
