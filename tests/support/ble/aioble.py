# micropython-lib's aioble as far as a peripheral uses it, and the central on the other side: for tests on MicroPython.
# As the real one: a value longer than its buffer is cut off, a characteristic that captures keeps ten values and loses
# the oldest, a notification is cut off at the MTU, and what waits within `connection.timeout` is cancelled by the
# disconnection or the time.
import asyncio

_QUEUE_LIMIT = 10
_DEFAULT_LEN = 20


class DeviceDisconnectedError(Exception):
    pass


class GattError(Exception):
    pass


class _Air:
    # what a central sees and does
    def __init__(self):
        self.active = None  # (adv_data, resp_data) while advertised
        self.begun = asyncio.Event()
        self.addresses = 0  # how many there were
        self.mode = None
        self.history = []  # every (address number, adv_data, resp_data)
        self.connection = None
        self.services = ()
        self.full = 0  # so many notifications find no buffer

    # None while nothing is advertised
    def connect(self, mtu=None):
        if self.active is None:
            return None
        self.active = None
        self.connection = DeviceConnection(mtu)
        _connected.set()
        return self.connection

    def write(self, data, connection=None):
        self.services[0].characteristics[0]._remote_write(connection or self.connection, data)


class _Timeout:
    def __init__(self, connection, timeout_ms):
        self._connection = connection
        self._timeout_ms = timeout_ms
        self._task = asyncio.current_task()
        self._timer = None
        self._expired = False

    async def _run(self):
        await asyncio.sleep_ms(self._timeout_ms)
        self._expired = True
        self._task.cancel()

    def __enter__(self):
        if self._connection:
            self._connection._waiting.append(self)
        if self._timeout_ms:
            self._timer = asyncio.create_task(self._run())

    def __exit__(self, kind, _value, _trace):
        if self._connection:
            self._connection._waiting.remove(self)
        if self._timer and not self._expired:
            self._timer.cancel()
        if kind is asyncio.CancelledError:
            if self._expired:
                raise asyncio.TimeoutError  # noqa: UP041
            if self._connection and not self._connection.is_connected():
                raise DeviceDisconnectedError


class DeviceConnection:
    def __init__(self, mtu):
        self.mtu = mtu
        self._up = True
        self._waiting = []
        self.notified = []
        self.told = asyncio.Event()

    def is_connected(self):
        return self._up

    def timeout(self, timeout_ms):
        return _Timeout(self, timeout_ms)

    async def disconnect(self, timeout_ms=2000):
        self.drop()
        await asyncio.sleep_ms(0)

    async def disconnected(self, timeout_ms=60000, disconnect=False):
        while self._up:
            await asyncio.sleep_ms(1)

    # the link is gone, whoever ended it
    def drop(self):
        if not self._up:
            return
        self._up = False
        self.told.set()
        for timeout in self._waiting:
            timeout._task.cancel()


class Service:
    def __init__(self, uuid):
        self.uuid = uuid
        self.characteristics = []


class Characteristic:
    _max_len = _DEFAULT_LEN

    def __init__(self, service, uuid, read=False, write=False, notify=False, capture=False, initial=None):
        service.characteristics.append(self)
        self.uuid = uuid
        self._writable = write
        self._notify = notify
        self._capture = capture
        self._values = []
        self._event = asyncio.Event()

    def _remote_write(self, connection, data):
        assert self._writable and self._capture
        self._values.append((connection, bytes(data)[: self._max_len]))
        if len(self._values) > _QUEUE_LIMIT:
            self._values.pop(0)
        self._event.set()

    async def written(self, timeout_ms=None):
        with _Timeout(None, timeout_ms):
            while not self._values:
                self._event.clear()
                await self._event.wait()
        return self._values.pop(0)

    def notify(self, connection, data=None):
        assert self._notify
        if not connection._up:
            raise OSError(128)
        if air.full:
            air.full -= 1
            raise OSError(12)
        connection.notified.append(bytes(data)[: (connection.mtu or 23) - 3])
        connection.told.set()


class BufferedCharacteristic(Characteristic):
    def __init__(self, *args, max_len=20, append=False, **kwargs):
        super().__init__(*args, **kwargs)
        self._max_len = max_len


def register_services(*services):
    air.services = services


def config(**settings):
    assert not air.active, "the address can't change while it is advertised"
    air.mode = settings.get("addr_mode", air.mode)
    air.addresses += 1


async def advertise(interval_us, adv_data=None, resp_data=None, connectable=True, timeout_ms=None):
    assert len(adv_data) <= 31 and len(resp_data) <= 31
    _connected.clear()
    air.active = (adv_data, resp_data)
    air.history.append((air.addresses, adv_data, resp_data))
    air.begun.set()
    try:
        with _Timeout(None, timeout_ms):
            await _connected.wait()
    finally:
        air.active = None
        air.begun.clear()
    return air.connection


air = _Air()
_connected = asyncio.Event()
