"""The server's half of the key chains: whose frame it may be, epochs that go on, failures, downlink counters.

State lies in the registry's tables `DeviceChain` and `EpochKey`; this is the only module of ingest that changes them.
What changes them runs in the caller's transaction, the same that stores the frames which are the reason for it. Keys
are derived again from the wrapped chain key when they are needed and kept in a bounded cache, which holds nothing
that the database does not decide: an entry is found by the very chain key that it was derived from.
"""

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import F

from host_tools.ingest.refusals import Reason
from host_tools.ingest.unseal import Candidate
from provisioning import keys
from provisioning.registry import audit
from provisioning.registry.devices import HEARD
from provisioning.registry.models import Device, DeviceChain, EpochKey
from provisioning.registry.vault import Vault, VaultError, chain_label
from sealwire.frame import CTR_MAX, EPOCH_BITS_MASK, EPOCH_MAX
from sealwire.keys import EPOCH_PERIOD_S, EPOCHS_WITHOUT_CONTACT, FAILED_OPENINGS_MAX

CACHED_KEYS_MAX = 16384
# How far ahead a hello may be. A device that is further than the candidates reach talks to a server that lost its
# state, as one does that was restored from a backup; the bound keeps an unauthenticated hello cheap.
HELLO_EPOCHS_AHEAD = 64
# Such a server has forgotten which downlink counters it used in the device's epoch, so it goes on far above them.
DOWNLINK_CTR_AFTER_LOSS = 0x8000
# The counters above are for answers to new frames: whoever replays an old one for days, while its device is silent,
# must not use up what the device's return will need.
REPEATS_CTR_MAX = 0xBFFF

_COLUMNS = (
    "pk",
    "device_id",
    "epoch",
    "epoch_bits",
    "did",
    "failures",
    "device__eui",
    "device__model",
    "device__state",
    "device__chain__newest_epoch",
    "device__chain__ck_wrapped",
    "device__chain__previous_ck_wrapped",
    "device__chain__previous_until",
)


@dataclass(frozen=True, slots=True)
class Key:
    """A device's keys in one epoch.

    Attributes:
        device: primary key of the device.
        model: the device's model.
        newest_epoch: the epoch that the server knows the device in.
        failures: failed openings so far.
        candidate: EUI, epoch and keys.
    """

    device: int
    model: str
    newest_epoch: int
    failures: int
    candidate: Candidate

    @property
    def number(self) -> tuple[int, int]:
        """(device, epoch): what failures and downlink counters are counted by."""
        return self.device, self.candidate.epoch


@dataclass(slots=True)
class Found:
    """Whose frame it may be, and why it is nobody's if `keys` is empty."""

    keys: list[Key] = field(default_factory=list)
    reason: Reason = Reason.UNKNOWN_DEVICE


class Chains:
    """The chains of all devices in the connected database.

    Args:
        vault: opens the wrapped chain keys.
        clock: Unix seconds.
    """

    def __init__(self, vault: Vault, clock: Callable[[], float]) -> None:
        self._vault = vault
        self._clock = clock
        self._cache: OrderedDict[tuple[int, int, bytes], Candidate] = OrderedDict()

    def check(self) -> None:
        """Raise VaultError if the vault's master key is not the one that the chains are wrapped under."""
        row = DeviceChain.objects.values_list("device__eui", "newest_epoch", "ck_wrapped").first()
        if row:
            self._vault.unwrap(row[2], chain_label(bytes(row[0]), row[1]))

    def by_pseudonym(self, wanted: Iterable[tuple[int, bytes]]) -> Mapping[tuple[int, bytes], Found]:
        """The candidates for frames that name (epoch mod 8, did); one query for all of them."""
        pairs = set(wanted)
        found: defaultdict[tuple[int, bytes], Found] = defaultdict(Found)
        if not pairs:
            return found
        rows = EpochKey.objects.filter(
            epoch_bits__in={bits for bits, _ in pairs}, did__in={did for _, did in pairs}
        ).order_by("pk")
        for row in rows.values_list(*_COLUMNS):
            pair = row[3], bytes(row[4])
            if pair in pairs and (row[9] is None or row[2] <= row[9] + EPOCHS_WITHOUT_CONTACT):
                self._judge(row, found[pair])
        return found

    def by_eui(self, wanted: Iterable[tuple[bytes, int]]) -> Mapping[tuple[bytes, int], Found]:
        """The candidate, at most one, for each hello that names (EUI, epoch)."""
        pairs = set(wanted)
        found: defaultdict[tuple[bytes, int], Found] = defaultdict(Found)
        if not pairs:
            return found
        euis, epochs = {eui for eui, _ in pairs}, {epoch for _, epoch in pairs}
        for row in EpochKey.objects.filter(device__eui__in=euis, epoch__in=epochs).values_list(*_COLUMNS):
            pair = bytes(row[6]), row[2]
            if pair in pairs:
                self._judge(row, found[pair])
        missing = {eui for eui, epoch in pairs if (eui, epoch) not in found}
        for chain in DeviceChain.objects.filter(device__eui__in=missing).select_related("device"):
            eui = bytes(chain.device.eui)
            for epoch in {epoch for other, epoch in pairs if other == eui and (eui, epoch) not in found}:
                self._judge(_row_ahead(chain, epoch), found[eui, epoch])
        return found

    def _judge(self, row: tuple[Any, ...], found: Found) -> None:
        _, device, epoch, _, _, failures, eui, model, state, newest, ck, previous_ck, previous_until = row
        if state not in HEARD or newest is None:
            found.reason = Reason.DEVICE_NOT_ACTIVE
            return
        if epoch > newest + HELLO_EPOCHS_AHEAD:
            return
        base = newest
        if epoch < newest:
            if epoch < newest - 1 or previous_ck is None or previous_until.timestamp() <= self._clock():
                found.reason = Reason.OLD_EPOCH
                return
            base, ck = newest - 1, previous_ck
        if failures >= FAILED_OPENINGS_MAX:
            found.reason = Reason.KEY_EXHAUSTED
            return
        try:
            candidate = self._candidate(device, bytes(eui), epoch, base, bytes(ck))
        except VaultError:
            # one damaged row must not stop everybody's frames
            found.reason = Reason.CHAIN_DAMAGED
            return
        found.keys.append(Key(device, model, newest, failures, candidate))

    def _candidate(self, device: int, eui: bytes, epoch: int, base: int, wrapped: bytes) -> Candidate:
        place = device, epoch, wrapped
        candidate = self._cache.get(place)
        if candidate is None:
            ck = _ratchet(self._vault.unwrap(wrapped, chain_label(eui, base)), epoch - base)
            candidate = self._cache[place] = Candidate(eui, epoch, keys.epoch_keys(ck, eui))
            if len(self._cache) > CACHED_KEYS_MAX:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(place)
        return candidate

    def advance(self, device: int, epoch: int) -> bool:
        """Go on to the epoch that a frame of the device was opened in; False if the chain stands there or beyond.

        CK of the epoch before is kept for one epoch period, for what was still queued; all older ones are gone.
        """
        chain = DeviceChain.objects.select_for_update(of=("self",)).select_related("device").get(device_id=device)
        steps = epoch - chain.newest_epoch
        if steps <= 0:
            return False
        eui = bytes(chain.device.eui)
        ck = self._vault.unwrap(chain.ck_wrapped, chain_label(eui, chain.newest_epoch))
        previous_ck = _ratchet(ck, steps - 1)
        ck = _ratchet(previous_ck, 1)
        chain.newest_epoch = epoch
        chain.ck_wrapped = self._vault.wrap(ck, chain_label(eui, epoch))
        chain.previous_ck_wrapped = self._vault.wrap(previous_ck, chain_label(eui, epoch - 1))
        chain.previous_until = datetime.fromtimestamp(self._clock(), UTC) + timedelta(seconds=EPOCH_PERIOD_S)
        chain.save()
        EpochKey.objects.filter(device_id=device, epoch__lt=epoch - 1).delete()
        window = {epoch - 1: previous_ck, epoch: ck}
        for ahead in range(epoch + 1, min(epoch + EPOCHS_WITHOUT_CONTACT, EPOCH_MAX) + 1):
            window[ahead] = ck = _ratchet(ck, 1)
        present = set(EpochKey.objects.filter(device_id=device).values_list("epoch", flat=True))
        EpochKey.objects.bulk_create(
            _epoch_row(device, at, keys.epoch_keys(key, eui).did) for at, key in window.items() if at not in present
        )
        if steps > 1:
            EpochKey.objects.filter(
                device_id=device, epoch__in=(epoch - 1, epoch), downlink_ctr__lt=DOWNLINK_CTR_AFTER_LOSS
            ).update(downlink_ctr=DOWNLINK_CTR_AFTER_LOSS)
        self._tell("device_epoch_changed", eui, epoch=epoch, epochs_skipped=steps - 1)
        return True

    def count_failures(self, failed: Sequence[Key]) -> None:
        """Add one failed opening for each mention of a key that was tried."""
        counts = Counter(key.number for key in failed)
        tried = {key.number: key for key in failed}
        if not tried:
            return
        # a hello may have tried a key that has no row yet
        EpochKey.objects.bulk_create(
            (_epoch_row(*number, key.candidate.keys.did) for number, key in tried.items()),
            ignore_conflicts=True,
        )
        with connection.cursor() as cursor:
            cursor.executemany(
                f"UPDATE {EpochKey._meta.db_table} SET failures = failures + %s"  # noqa: S608 no input in it
                " WHERE device_id = %s AND epoch = %s",
                [(count, *number) for number, count in sorted(counts.items())],
            )
        for number, key in tried.items():
            if key.failures + counts[number] >= FAILED_OPENINGS_MAX:
                self._tell("key_exhausted", key.candidate.eui, epoch=key.candidate.epoch)

    def take_downlink_counters(
        self, numbers: Iterable[tuple[int, int]], repeated: Collection[tuple[int, int]] = ()
    ) -> dict[tuple[int, int], int]:
        """One unused downlink counter for each (device, epoch); none where the epoch has no more.

        A counter may be used after the transaction was committed, and not before.

        Args:
            repeated: those of them that sent nothing new.
        """
        wanted = set(numbers)
        if not wanted:
            return {}
        rows = EpochKey.objects.select_for_update().filter(
            device_id__in={device for device, _ in wanted},
            epoch__in={epoch for _, epoch in wanted},
            downlink_ctr__lte=CTR_MAX,
        )
        taken = {
            pk: (device, epoch, ctr)
            for pk, device, epoch, ctr in rows.order_by("pk").values_list("pk", "device_id", "epoch", "downlink_ctr")
            if (device, epoch) in wanted and (ctr <= REPEATS_CTR_MAX or (device, epoch) not in repeated)
        }
        EpochKey.objects.filter(pk__in=taken).update(downlink_ctr=F("downlink_ctr") + 1)
        return {(device, epoch): ctr for device, epoch, ctr in taken.values()}

    def forget_expired(self) -> int:
        """Erase the keys of epochs whose time is over; how many. Their rows stay: a late frame gets its reason."""
        return DeviceChain.objects.filter(previous_until__lte=datetime.fromtimestamp(self._clock(), UTC)).update(
            previous_ck_wrapped=None, previous_until=None
        )

    def _tell(self, event: str, eui: bytes, **details: int) -> None:
        try:
            audit.append(self._vault, event, subject=eui.hex(), actor="ingest", clock=self._clock, **details)
        except audit.AuditBroken:
            # a trail that somebody damaged is found by `audit verify`; it must not cost anybody's readings
            return


def _ratchet(ck: bytes, steps: int) -> bytes:
    for _ in range(steps):
        ck = keys.ratchet(ck)
    return ck


def _epoch_row(device: int, epoch: int, did: bytes) -> EpochKey:
    return EpochKey(device_id=device, epoch=epoch, epoch_bits=epoch & EPOCH_BITS_MASK, did=did)


def _row_ahead(chain: DeviceChain, epoch: int) -> tuple[Any, ...]:
    """The columns of an epoch that has no row."""
    device = chain.device
    return (
        None,
        device.pk,
        epoch,
        epoch & EPOCH_BITS_MASK,
        None,
        0,
        device.eui,
        device.model,
        device.state,
        chain.newest_epoch,
        chain.ck_wrapped,
        chain.previous_ck_wrapped,
        chain.previous_until,
    )
