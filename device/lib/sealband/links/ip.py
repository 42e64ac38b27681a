# A TCP connection over whatever carries IP, with TLS or without, for the updater and for MQTT. It knows no protocol and
# no limits: who uses it waits, and how long, as it pleases; what the socket or mbedtls raises (OSError, ValueError) is
# theirs to judge.
#
# The socket never blocks, also within a TLS handshake, which a blocking one would wait for a byte at a time. Two things
# do: getaddrinfo (lwIP gives up after about 14 s) and a step of the handshake that computes (some 100 ms on the chip).
import errno
import select
import socket


class Connection:
    stream = None  # write and readinto: a count, 0 at the end of what comes, None: not now
    secure = False

    # The host's address, and the connection begun. Blocks for the name's resolution; IndexError: there is no such host.
    def begin(self, host, port):
        found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)[0]
        self._raw = self.stream = socket.socket(found[0], found[1], found[2])
        self._raw.setblocking(False)
        try:
            self._raw.connect(found[-1])
        except OSError as error:
            if error.errno != errno.EINPROGRESS:
                raise
        self._poller = select.poll()
        self._poller.register(self._raw, select.POLLOUT)

    # Whether the connection is made within so many ms; also when it was refused: then the first write says so. With a
    # context, the first write begins with the handshake: see secure.py.
    def made(self, ms, context=None, host=None):
        if not self._poller.poll(ms):
            return False
        self._poller.modify(self._raw, select.POLLIN)
        if context:
            self.secure = True
            self.stream = context.wrap_socket(self._raw, server_hostname=host, do_handshake_on_connect=False)
        return True

    # Until something comes, or so many ms.
    def wait(self, ms):
        self._poller.poll(ms)

    # Closing twice does no harm.
    def close(self):
        if self.stream:
            # a TLS stream whose handshake failed has let go of its socket
            for stream in (self.stream, self._raw):
                try:
                    stream.close()
                except OSError:
                    pass  # it is gone
        self.stream = self._raw = None
