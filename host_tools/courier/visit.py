"""A visit to one device over any `Air`: find it, prove the label, ask, fetch, hand over. Keeps nothing by itself.

A visit gives up when the device says nothing for `REPLY_S`; nothing is half done then, since every request stands for
itself and what was fetched is on the disk already.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from host_tools.courier.air import Air, Connection, Seen
from host_tools.courier.errors import CourierError, NotTheDevice, VisitEnded
from host_tools.courier.session import Assembler, Session, fragments, recognises
from host_tools.courier.store import Carried, CourierStore
from host_tools.ingest.decode import MessageError, Status, decode
from provisioning.labels import Label
from sealwire import ble, visits

REPLY_S = 10.0
LISTED_MAX = 1024  # keys that a device may list


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a visit came to.

    Attributes:
        queued: frames that the device has.
        fetched: of them, those that were taken along now.
        opened: answers that the device took.
        refused: answers that it did not want: too old, or known already.
    """

    queued: int
    fetched: int
    opened: int
    refused: int


async def find(air: Air, label: Label, seconds: float) -> list[Seen]:
    """Who goes by a name of the label's device. More than one, when somebody repeats a name that the device had.

    Raises:
        CourierError: nobody is in reach.
    """
    found = [seen for seen in await air.scan(seconds) if recognises(label, seen.pseudonym)]
    if found:
        return found
    raise CourierError(
        f"{label.eui.hex()} is not in reach",
        "come closer; a device that somebody has tried wrong labels on stays silent for up to a quarter of an hour",
    )


class Visit:
    """A visit; `begin` opens one."""

    def __init__(self, connection: Connection, session: Session, label: Label) -> None:
        self._connection = connection
        self._session = session
        self._assembler = Assembler()
        self._label = label

    async def prove(self) -> None:
        """Both prove that they hold the secret; raises VisitEnded, NotTheDevice."""
        proof = self._session.challenge(await self._exchange(self._session.begin()))
        self._session.proven(await self._exchange(proof))

    async def _exchange(self, message: bytes) -> bytes:
        try:
            async with asyncio.timeout(REPLY_S):
                for value in fragments(message, self._connection.value_max):
                    await self._connection.write(value)
                while True:
                    answer = self._assembler.take(await self._connection.read())
                    if answer is not None:
                        return answer
        except TimeoutError:
            raise VisitEnded("the device says nothing", "come closer and try again") from None

    async def close(self) -> None:
        """Disconnect; raises nothing."""
        await self._connection.close()

    async def ask(self, request: bytes) -> bytes:
        """What follows a request's own byte in its reply.

        Raises:
            VisitEnded: the device is gone.
            NotTheDevice: the reply was changed, or answers something else.
        """
        reply = self._session.open(await self._exchange(self._session.seal(request)))
        if reply[:1] != request[:1]:
            raise NotTheDevice("a reply answers something else", "try again")
        return reply[1:]

    async def status(self) -> Status:
        """The device's status, as it would report it to the server."""
        try:
            message = decode(await self.ask(bytes((visits.STATUS,))))
        except MessageError as error:
            raise NotTheDevice(f"what the device gave is no status: {error}", "is it of a newer version?") from None
        if not isinstance(message, Status):
            raise NotTheDevice("what the device gave is no status", "is it of a newer version?")
        return message

    async def keys(self) -> list[bytes]:
        """Keys of the frames that it has queued, in its order."""
        listed: list[bytes] = []
        while len(listed) < LISTED_MAX:
            page = await self.ask(bytes((visits.LIST,)) + len(listed).to_bytes(2, "big"))
            listed += [page[at : at + ble.KEY_LEN] for at in range(0, len(page), ble.KEY_LEN)]
            if len(page) < ble.LIST_MAX * ble.KEY_LEN:
                break
        return [key for key in dict.fromkeys(listed) if len(key) == ble.KEY_LEN]

    async def hand_over(self, store: CourierStore) -> tuple[int, int]:
        """Give the device what the server answered: (opened, refused)."""
        counts = [0, 0]
        eui = self._label.eui.hex()
        for name, frame in store.answers(eui):
            try:
                result = await self.ask(bytes((visits.DELIVER,)) + frame)
            except VisitEnded:
                # perhaps at this one: it must not end every visit to come; the server makes another
                store.handed_over(eui, name)
                raise
            store.handed_over(eui, name)
            counts[result != bytes((visits.OPENED,))] += 1
        return counts[0], counts[1]

    async def fetch(
        self, store: CourierStore, progress: Callable[[int, int], None] = lambda done, all_: None
    ) -> Fetched:
        """Hand over the answers, then take along what is queued and not carried yet."""
        opened, refused = await self.hand_over(store)
        listed = await self.keys()
        eui = self._label.eui.hex()
        wanted = store.wanted(eui, listed)
        fetched = 0
        for done, key in enumerate(wanted):
            progress(done, len(wanted))
            frame = await self.ask(bytes((visits.FETCH,)) + key)
            if frame:  # else it has let go of it meanwhile
                store.take(Carried(eui, key, frame))
                fetched += 1
        progress(len(wanted), len(wanted))
        return Fetched(len(listed), fetched, opened, refused)


async def read_status(air: Air, label: Label, seconds: float) -> tuple[Status, int]:
    """The status of the label's device, and how many frames it has queued; raises CourierError."""
    async with meet(air, label, seconds) as visit:
        return await visit.status(), len(await visit.keys())


async def carry(
    air: Air,
    label: Label,
    seconds: float,
    store: CourierStore,
    progress: Callable[[int, int], None] = lambda done, all_: None,
) -> Fetched:
    """Hand over answers to the label's device and take its frames along; raises CourierError."""
    async with meet(air, label, seconds) as visit:
        return await visit.fetch(store, progress)


@asynccontextmanager
async def meet(air: Air, label: Label, seconds: float) -> AsyncIterator[Visit]:
    """Find the label's device, connect and prove.

    Raises:
        CourierError: it is not in reach.
        VisitEnded: no connection, or the device does not take the proof.
        NotTheDevice: what answered does not hold the secret.
    """
    found = await find(air, label, seconds)
    for seen in found:
        try:
            visit = await begin(air, label, seen.address)
        except (VisitEnded, NotTheDevice):
            if seen is found[-1]:
                raise
            continue
        try:
            yield visit
        finally:
            await visit.close()
        return


async def begin(air: Air, label: Label, address: str) -> Visit:
    """The same at this address; the visit is to be closed."""
    connection = await air.connect(address)
    visit = Visit(connection, Session(label), label)
    try:
        await visit.prove()
    except BaseException:
        await connection.close()
        raise
    return visit
