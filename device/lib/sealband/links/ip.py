# A TCP connection over whatever carries IP, with TLS to a pinned CA or without, for the updater and for MQTT. It knows
# no protocol and no limits: who uses it waits, and how long, as it pleases.
#
# The socket never blocks, also within a TLS handshake, which a blocking one would wait for a byte at a time. Two things
# do: getaddrinfo (lwIP gives up after about 14 s) and a step of the handshake that computes (some 100 ms on the chip).
import errno
import select
import socket
import time

from micropython import const

from sealband.links.base import LinkError
from sealwire.messages import EPOCH_2025

_YEAR_2000_S = const(946684800)
# RFC 5915: version 1, 32 bytes of private key, the curve prime256v1
_SEC1_HEAD = b"\x30\x31\x02\x01\x01\x04\x20"
_SEC1_CURVE = b"\xa0\x0a\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"


class IpError(LinkError):
    # tls: the other end, or what we were given for it, does not pass; else there is no way to it
    def __init__(self, text, tls=False):
        super().__init__(text)
        self.tls = tls


# A client's context: a server must show a certificate for its name, in its time, signed by this CA (DER). certificate
# and key: our own, DER and 32 bytes of P-256. TLS 1.2 is the least that mbedtls 3 speaks.
def pinned(ca, certificate=None, key=None):
    import tls

    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.verify_mode = tls.CERT_REQUIRED
    try:
        context.load_verify_locations(ca)
        if certificate:
            context.load_cert_chain(certificate, _SEC1_HEAD + key + _SEC1_CURVE)
    except (OSError, TypeError, ValueError):
        raise IpError("a certificate of this board is none", True)
    return context


# Certificates are judged by the chip's clock, which a reset may have lost, and no reset puts back when it was set too
# far: it is set to now_s, unless it stands there or up to late_s later.
def set_clock(machine, now_s, late_s):
    seconds = now_s + EPOCH_2025
    if time.gmtime(0)[0] == 2000:
        seconds -= _YEAR_2000_S
    if not seconds <= time.time() <= seconds + late_s:
        year, month, day, hour, minute, second, weekday = time.gmtime(seconds)[:7]
        machine.RTC().datetime((year, month, day, weekday, hour, minute, second, 0))


class Connection:
    def __init__(self):
        self._poller = select.poll()
        self._raw = None
        self._stream = None
        self._secure = False

    # The host's address, and the connection begun. Blocks for the name's resolution.
    def begin(self, host, port):
        try:
            found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0]
            self._raw = self._stream = socket.socket(found[0], found[1], found[2])
            self._raw.setblocking(False)
            try:
                self._raw.connect(found[-1])
            except OSError as error:
                if error.errno != errno.EINPROGRESS:
                    raise
            self._poller.register(self._raw, select.POLLOUT)
        except (OSError, IndexError, ValueError) as error:
            raise self._failed(error)

    # Whether the connection is made within so many ms; also when it was refused: then the first write says so.
    def made(self, ms):
        if not self._poller.poll(ms):
            return False
        self._poller.modify(self._raw, select.POLLIN)
        return True

    # TLS from here on; the first write begins with the handshake.
    def secure(self, context, host):
        self._secure = True
        try:
            self._stream = context.wrap_socket(self._raw, server_hostname=host, do_handshake_on_connect=False)
        except (OSError, ValueError) as error:
            raise self._failed(error)

    # How many of these bytes were taken, maybe none.
    def write(self, data):
        try:
            return self._stream.write(data) or 0
        except (OSError, ValueError) as error:
            raise self._failed(error)

    # How many bytes came into a memoryview; 0: the server closed; None: nothing is there.
    def read(self, view):
        try:
            return self._stream.readinto(view)
        except (OSError, ValueError) as error:
            raise self._failed(error)

    # Until something comes, or so many ms.
    def wait(self, ms):
        self._poller.poll(ms)

    # Closing twice does no harm.
    def close(self):
        # a TLS stream whose handshake failed has let go of its socket
        for stream in (self._stream, self._raw):
            try:
                if stream:
                    stream.close()
            except OSError:
                pass  # it is gone
        self._stream = self._raw = None

    # mbedtls speaks in negative numbers, and in ValueErrors of a certificate; what the socket said is positive. The end
    # of a TCP connection is an error in the handshake only; later, with or without a farewell, it reads as the end.
    def _failed(self, error):
        number = error.errno if type(error) is OSError else -1
        return IpError("%r" % error, self._secure and type(number) is int and number < 0)
