"""The queue of commands to devices: what is to be sent, what was, and what a receipt says of it.

What is guaranteed. A command is sent until its receipt comes: not sooner than `REPEAT_S` after the last time, and
`TRIES_MAX` times at most. That it is being sent is committed, with the downlink counter it is sent with, before the
frame leaves; a worker that dies in between has spent one of the tries, and no counter is ever used twice. Two workers
take turns at a device's commands by row locks (SQLite: one writer at all), so one command never leaves twice within
`REPEAT_S`. A device may still get it more than once, when its receipt is lost: commands are such that the second time
changes nothing. A rekey is one too: it is taken in the epoch only that it was sent in (see `chains`), and the first
frame of the new epoch is as good as its receipt.

A receipt counts for the device that sealed it, and for the sending whose counter it names: in the receipt's epoch or,
since an epoch may begin in between, the one before. If both would fit, it says nothing, and the command is repeated.

Functions here run in the caller's transaction.
"""

import struct
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from django.db import connection
from django.db.models import Count, F, Q, QuerySet

from host_tools.ingest.models import Command, Contact
from host_tools.ingest.observer import Ended
from provisioning.registry import audit
from provisioning.registry.vault import Vault, VaultError
from sealwire.messages import CONFIGURE, CONSENT, REKEY, REPORT, RESULT_DONE, RETIRE, UPDATE
from sealwire.names import DOWNLINK_NAMES

REPEAT_S = 60.0
TRIES_MAX = 10
# A device that was not synced for so long is synced first: its clock may be wrong, and its queue full.
SYNC_FIRST_S = 3600.0
OPEN_MAX = 16  # a device
KEPT_MAX = 32  # that ended, a device
ROWS_A_STATEMENT = 500
# rekey and retire are queued by `lifecycle` only: keys change on both sides, and the registry must be told
KINDS = frozenset((CONFIGURE, UPDATE, REPORT, CONSENT, REKEY, RETIRE))
# of these, a new one takes the place of one that was not carried out yet
_REPLACE = frozenset((UPDATE, REPORT, CONSENT))
_OPEN = (Command.State.QUEUED, Command.State.SENT)
_SENDING = struct.Struct(">IH")


class QueueFull(Exception):
    """A device has as many commands waiting as are allowed."""

    remedy = "wait until it was heard, or withdraw some"


@dataclass(frozen=True, slots=True)
class Order:
    """A command to be queued.

    Attributes:
        device: primary key.
        eui: 8 bytes.
        kind: type of the downlink message, one of `KINDS`.
        plaintext: the whole message.
    """

    device: int
    eui: bytes
    kind: int
    plaintext: bytes


class Commands:
    """The commands of all devices in the connected database.

    Args:
        vault: seals plaintexts: some kinds say something of the wearer, and none has to be judged by its kind.
        clock: Unix seconds.
    """

    def __init__(self, vault: Vault, clock: Callable[[], float]) -> None:
        self._audit = vault
        self._vault = vault.derived(b"commands")
        self._clock = clock

    def queue(self, orders: Sequence[Order]) -> dict[int, int]:
        """Queue at most one command for each device.

        Returns:
            Primary keys of the commands by device.

        Raises:
            ValueError: a kind that this queue does not carry.
            QueueFull: a device has too many waiting; nothing was queued.
        """
        now_ms = self._now_ms()
        queued: dict[int, int] = {}
        for start in range(0, len(orders), ROWS_A_STATEMENT):
            part = orders[start : start + ROWS_A_STATEMENT]
            if not {order.kind for order in part} <= KINDS:
                raise ValueError("there is a kind of command that is not sent by the queue")
            for kind in _REPLACE:
                replaced = [order.device for order in part if order.kind == kind]
                if replaced:
                    withdraw(Command.objects.filter(device_id__in=replaced, kind=kind), now_ms)
            self._make_room(part)
            rows = Command.objects.bulk_create(
                Command(
                    device_id=order.device,
                    kind=order.kind,
                    plaintext_wrapped=self._vault.wrap(order.plaintext, _label(order.eui, order.kind, now_ms)),
                    plaintext_len=len(order.plaintext),
                    created_at_ms=now_ms,
                )
                for order in part
            )
            queued.update((row.device_id, row.pk) for row in rows)
        return queued

    def _make_room(self, orders: Collection[Order]) -> None:
        piling = Command.objects.filter(
            device_id__in=[order.device for order in orders if order.kind not in _REPLACE], state__in=_OPEN
        )
        if piling.values("device_id").annotate(n=Count("pk")).filter(n__gte=OPEN_MAX).exists():
            raise QueueFull(f"a device has {OPEN_MAX} commands waiting already")
        ended = Command.objects.filter(device_id__in=[order.device for order in orders]).exclude(state__in=_OPEN)
        many = ended.values("device_id").annotate(n=Count("pk")).filter(n__gt=KEPT_MAX)
        for device in list(many.values_list("device_id", flat=True)):
            gone = ended.filter(device_id=device).order_by("-pk").values_list("pk", flat=True)[KEPT_MAX:]
            Command.objects.filter(pk__in=list(gone)).delete()

    def due(self, devices: Collection[int]) -> tuple[dict[int, list[Command]], list[Ended]]:
        """What may be sent to these devices now, oldest first, and what was sent too often: that has failed.

        The rows are locked until the transaction ends. Devices that are to be synced first are left out.

        Args:
            devices: of which a new frame was stored in this transaction.
        """
        now_ms = self._now_ms()
        rest_ms = int(REPEAT_S * 1000)
        concerned = _with_open(devices)
        if not concerned:
            return {}, []
        waiting = Command.objects.filter(device_id__in=concerned, state__in=_OPEN).filter(
            # a clock that was put back must not hold a command up
            Q(sent_at_ms__lte=now_ms - rest_ms) | Q(sent_at_ms__gt=now_ms)
        )
        # no other worker changes these meanwhile: who sent something new was noted in this transaction
        contacts = Contact.objects.in_bulk(concerned)
        found: defaultdict[int, list[Command]] = defaultdict(list)
        ended: list[Ended] = []
        for row in waiting.select_for_update(of=("self",)).select_related("device").order_by("device_id", "pk"):
            if row.tries >= TRIES_MAX:
                ended.append(Ended(row.pk, row.device_id, bytes(row.device.eui), None, row.kind))
            elif _may_follow(contacts.get(row.device_id), row, now_ms):
                found[row.device_id].append(row)
        _end([one.command for one in ended], Command.State.FAILED, now_ms)
        return found, ended

    def open(self, row: Command) -> bytes | None:
        """The plaintext; None if it does not open, and then the command has failed."""
        plaintext = self.read(row)
        if plaintext is None:
            _end([row.pk], Command.State.FAILED, self._now_ms())
        return plaintext

    def read(self, row: Command) -> bytes | None:
        """The plaintext; None if it does not open. Changes nothing."""
        try:
            return self._vault.unwrap(row.plaintext_wrapped, _label(bytes(row.device.eui), row.kind, row.created_at_ms))
        except VaultError:
            return None

    def sent(self, row: Command, epoch: int, ctr: int) -> None:
        """Note a sending; before the frame leaves."""
        first = not row.tries
        row.state = Command.State.SENT
        row.tries += 1
        row.sendings = (bytes(row.sendings) + _SENDING.pack(epoch, ctr))[-TRIES_MAX * _SENDING.size :]
        row.sent_at_ms = self._now_ms()
        row.save(update_fields=["state", "tries", "sendings", "sent_at_ms"])
        if first:
            name = DOWNLINK_NAMES[row.kind]
            self._tell("device_command_sent", bytes(row.device.eui), command=row.pk, kind=name)

    def settle(self, receipts: Iterable[tuple[int, int, int, int]], statuses: Collection[int]) -> list[Ended]:
        """Follow receipts, and statuses that were asked for.

        Args:
            receipts: (device, epoch of the receipt's own frame, downlink counter that it names, result code).
            statuses: devices that sent a status.

        Returns:
            The commands that ended by it.
        """
        told = list(receipts)
        devices = {device for device, *_ in told} | set(statuses)
        if not devices:
            return []
        open_rows: defaultdict[int, list[Command]] = defaultdict(list)
        rows = Command.objects.select_for_update(of=("self",)).select_related("device")
        # also what was withdrawn after it had been sent: the device may have done it
        for row in rows.filter(device_id__in=devices, result=None, tries__gt=0).order_by("pk"):
            open_rows[row.device_id].append(row)
        ended = []
        for device, epoch, ctr, code in told:
            fitting = [row for row in open_rows[device] if _numbers(row) & {(epoch, ctr), (epoch - 1, ctr)}]
            if len(fitting) != 1:
                continue
            ended.append(self._settled(fitting[0], code))
            open_rows[device].remove(fitting[0])
        for device in statuses:
            # a report gets no receipt: the status is what was asked for
            for row in [row for row in open_rows[device] if row.kind == REPORT and row.state == Command.State.SENT]:
                ended.append(self._settled(row, RESULT_DONE))
        return ended

    def rekeyed(self, devices: Collection[int]) -> list[Ended]:
        """Note that these devices carried out the rekey that they were sent; whatever becomes of the receipt.

        Returns:
            The commands that ended by it.
        """
        if not devices:
            return []
        rows = Command.objects.select_for_update(of=("self",)).select_related("device")
        sent = rows.filter(device_id__in=devices, kind=REKEY, result=None, tries__gt=0).order_by("pk")
        return [self._settled(row, RESULT_DONE) for row in sent]

    def _settled(self, row: Command, code: int) -> Ended:
        row.result = code
        if row.state != Command.State.SUPERSEDED or code == RESULT_DONE:
            row.state = Command.State.DONE if code == RESULT_DONE else Command.State.FAILED
        row.ended_at_ms = row.ended_at_ms or self._now_ms()
        row.save(update_fields=["result", "state", "ended_at_ms"])
        return Ended(row.pk, row.device_id, bytes(row.device.eui), code, row.kind)

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)

    def _tell(self, event: str, eui: bytes, **details: audit.Detail) -> None:
        try:
            audit.append(self._audit, event, subject=eui.hex(), actor="ingest", clock=self._clock, **details)
        except audit.AuditBroken:
            # a trail that somebody damaged is found by `audit verify`; it must not cost anybody's readings
            return


def withdraw(commands: QuerySet[Command], now_ms: int) -> int:
    """Send these no more, those that await a receipt included; how many. What was sent cannot be called back."""
    return commands.filter(state__in=_OPEN).update(state=Command.State.SUPERSEDED, ended_at_ms=now_ms)


def count_too_long(commands: Collection[int]) -> None:
    """Note that an answer could not carry these."""
    if commands:
        Command.objects.filter(pk__in=commands).update(too_long=F("too_long") + 1)


def waiting() -> dict[int, tuple[int, int]]:
    """(commands that wait for the device or its receipt, those that no link could carry so far), by device."""
    rows = Command.objects.filter(state__in=_OPEN).values_list("device_id")
    counted = rows.annotate(n=Count("pk"), long=Count("pk", filter=Q(too_long__gt=0, tries=0)))
    return {device: (count, too_long) for device, count, too_long in counted}


def _with_open(devices: Collection[int]) -> set[int]:
    """Which of the devices have a command that has not ended."""
    if not devices:
        return set()
    with connection.cursor() as cursor:
        # Asked for every batch. The states stand in the text, for only so SQLite knows that its index of open commands,
        # which is as good as empty as a rule, will do.
        cursor.execute(
            f"SELECT DISTINCT device_id FROM {Command._meta.db_table}"  # noqa: S608 no input in it
            f" WHERE state IN ('queued', 'sent') AND device_id IN ({', '.join(['%s'] * len(devices))})",
            list(devices),
        )
        return {device for (device,) in cursor.fetchall()}


def _may_follow(contact: Contact | None, row: Command, now_ms: int) -> bool:
    """Whether a command may be the next answer: it never follows another, and a sync goes before it."""
    if contact is None or contact.commanded:
        return False
    return now_ms - contact.synced_at_ms <= SYNC_FIRST_S * 1000 or contact.synced_at_ms > row.created_at_ms


def _end(commands: Collection[int], state: Command.State, now_ms: int) -> None:
    if commands:
        Command.objects.filter(pk__in=commands).update(state=state, ended_at_ms=now_ms)


def _numbers(row: Command) -> set[tuple[int, int]]:
    return set(_SENDING.iter_unpack(bytes(row.sendings)))


def _label(eui: bytes, kind: int, created_at_ms: int) -> bytes:
    return b"command" + eui + bytes([kind]) + created_at_ms.to_bytes(8, "big")
