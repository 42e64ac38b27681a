"""The server's half of the key chains: whose frame it may be, epochs that go on, failures, downlink counters.

State lies in the registry's tables `DeviceChain` and `EpochKey`; this is the only module of ingest that changes them.
What changes them runs in the caller's transaction, the same that stores the frames which are the reason for it. Keys
are derived again from the wrapped chain key when they are needed and kept in a bounded cache, which holds nothing
that the database does not decide: an entry is found by the very chain key that it was derived from.

A device that is sent a rekey may carry it out or not, and its receipt may be lost. So from the first sending on both
are kept: the chain as the ratchet goes on, and the one that the rekey begins (`expect_rekey`). The first frame that
opens in an epoch after the sending's decides, since a device has one chain only; the other chain is then erased.
"""

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from django.db import connection
from django.db.models import F

from host_tools.ingest import dated
from host_tools.ingest.refusals import Reason
from host_tools.ingest.unseal import Candidate
from provisioning import keys
from provisioning.registry import audit
from provisioning.registry import restored as restores
from provisioning.registry.devices import HEARD
from provisioning.registry.models import DeviceChain, EpochKey
from provisioning.registry.vault import Vault, VaultError, chain_label
from sealwire.frame import EPOCH_BITS_MASK, EPOCH_MAX
from sealwire.keys import CHAIN_KEY_LEN, EPOCH_PERIOD_S, EPOCHS_WITHOUT_CONTACT, FAILED_OPENINGS_MAX

CACHED_KEYS_MAX = 16384
# How far ahead a hello may be. A device that is further than the candidates reach talks to a server that lost its
# state, as one does that was restored from a backup; the bound keeps an unauthenticated hello cheap.
HELLO_EPOCHS_AHEAD = 64
# Such a server has forgotten which downlink counters it used in the device's epoch. If it was restored by the command
# for that it knows (dated.py); if a file was just put back it can't, and going on far above them is the best it can do.
DOWNLINK_CTR_AFTER_LOSS = 0x2000
# The counters above are for answers to new frames: whoever replays an old one for days, while its device is silent,
# must not use up what the device's return will need.
REPEATS_CTR_MAX = 0x2FFF
COUNTED_MAX = dated.DATED_FIRST - 1
# A version before there were dated counters went on at 0x8000 after a loss, and devices take none below what they had.
EARLIER_CTRS = range(restores.EARLIER_FIRST, restores.EARLIER_END)

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
    "rekeyed",
    "device__chain__rekeyed_wrapped",
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
        state: of the device.
        rekeyed: of the chain that a rekey begins.
    """

    device: int
    model: str
    newest_epoch: int
    failures: int
    candidate: Candidate
    state: str
    rekeyed: bool = False

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

    @cached_property
    def _restored_at(self) -> float | None:
        # a registry is restored into a new database, never under a process that runs
        return restores.restored_at()

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
        """The candidates for each hello that names (EUI, epoch): one, or two while a rekey is not decided."""
        pairs = set(wanted)
        found: defaultdict[tuple[bytes, int], Found] = defaultdict(Found)
        if not pairs:
            return found
        euis, epochs = {eui for eui, _ in pairs}, {epoch for _, epoch in pairs}
        there: set[tuple[bytes, int]] = set()
        for row in EpochKey.objects.filter(device__eui__in=euis, epoch__in=epochs).values_list(*_COLUMNS):
            pair = bytes(row[6]), row[2]
            if pair in pairs:
                self._judge(row, found[pair])
                if row[9] is not None and not row[13]:  # else of an identity that is over, and another may be there
                    there.add(pair)
        missing = pairs - there
        for chain in DeviceChain.objects.filter(device__eui__in={eui for eui, _ in missing}).select_related("device"):
            eui = bytes(chain.device.eui)
            for epoch in {epoch for other, epoch in missing if other == eui}:
                self._judge(_row_ahead(chain, epoch), found[eui, epoch])
                if chain.rekeyed_wrapped is not None:
                    self._judge(_row_ahead(chain, epoch, rekeyed=True), found[eui, epoch])
        return found

    def _judge(self, row: tuple[Any, ...], found: Found) -> None:
        _, device, epoch, _, _, failures, eui, model, state, newest, ck, previous_ck, previous_until = row[:13]
        rekeyed, rekeyed_ck = row[13:]
        if state not in HEARD or newest is None:
            found.reason = Reason.DEVICE_NOT_ACTIVE
            return
        if epoch > newest + (HELLO_EPOCHS_AHEAD if self._restored_at is None else dated.HELLO_EPOCHS_AHEAD):
            return
        base = newest
        if rekeyed:
            if rekeyed_ck is None or epoch <= newest:
                return
            base, ck = newest + 1, rekeyed_ck
        elif epoch < newest:
            if epoch < newest - 1 or previous_ck is None or previous_until.timestamp() <= self._clock():
                found.reason = Reason.OLD_EPOCH
                return
            base, ck = newest - 1, previous_ck
        if failures >= FAILED_OPENINGS_MAX:
            found.reason = Reason.KEY_EXHAUSTED
            return
        try:
            candidate = self._candidate(device, bytes(eui), epoch, base, bytes(ck), rekeyed=rekeyed)
        except VaultError:
            # one damaged row must not stop everybody's frames
            found.reason = Reason.CHAIN_DAMAGED
            return
        found.keys.append(Key(device, model, newest, failures, candidate, state, rekeyed))

    def _candidate(self, device: int, eui: bytes, epoch: int, base: int, wrapped: bytes, *, rekeyed: bool) -> Candidate:
        place = device, epoch, wrapped
        candidate = self._cache.get(place)
        if candidate is None:
            label = _rekey_label(eui, base) if rekeyed else chain_label(eui, base)
            ck = _ratchet(self._vault.unwrap(wrapped, label)[:CHAIN_KEY_LEN], epoch - base)
            candidate = self._cache[place] = Candidate(eui, epoch, keys.epoch_keys(ck, eui))
            if len(self._cache) > CACHED_KEYS_MAX:
                self._cache.popitem(last=False)
        else:
            self._cache.move_to_end(place)
        return candidate

    def advance(self, device: int, epoch: int, *, rekeyed: bool = False) -> bool:
        """Go on to the epoch that a frame of the device was opened in; False if the chain stands there or beyond.

        CK of the epoch before is kept for one epoch period, for what was still queued; all older ones are gone. So is
        the other chain, while a rekey was not decided.

        Args:
            rekeyed: the frame was opened with the chain that a rekey begins.
        """
        chain = self._locked(device)
        if chain is None or epoch <= chain.newest_epoch or (rekeyed and chain.rekeyed_wrapped is None):
            return False
        steps = epoch - chain.newest_epoch
        eui = bytes(chain.device.eui)
        ck = self._vault.unwrap(chain.ck_wrapped, chain_label(eui, chain.newest_epoch))
        if rekeyed and chain.rekeyed_wrapped is not None:
            label = _rekey_label(eui, chain.newest_epoch + 1)
            first = self._vault.unwrap(chain.rekeyed_wrapped, label)[:CHAIN_KEY_LEN]
            previous_ck = ck if steps == 1 else _ratchet(first, steps - 2)
            ck = _ratchet(first, steps - 1)
        else:
            previous_ck = _ratchet(ck, steps - 1)
            ck = _ratchet(previous_ck, 1)
        if chain.rekeyed_wrapped is not None:
            rows = EpochKey.objects.filter(device_id=device, epoch__gt=chain.newest_epoch)
            rows.filter(rekeyed=not rekeyed).delete()
            rows.filter(rekeyed=True).update(rekeyed=False)
            chain.rekeyed_wrapped = None
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
        event = "device_rekeyed" if rekeyed else "device_epoch_changed"
        self._tell(event, eui, epoch=epoch, epochs_skipped=steps - 1)
        return True

    def _locked(self, device: int) -> DeviceChain | None:
        """None: the device is over, and its keys are destroyed."""
        rows = DeviceChain.objects.select_for_update(of=("self",)).select_related("device")
        return rows.filter(device_id=device).first()

    def expect_rekey(self, device: int, epoch: int, r: bytes) -> bool:
        """Be ready for frames of the chain that a rekey in this epoch begins; call it before the command is sealed.

        Returns:
            False if it must not be sent now: the chain does not stand in this epoch, or another one was sent in it.
        """
        chain = self._locked(device)
        if chain is None or chain.newest_epoch != epoch or epoch >= EPOCH_MAX:
            return False
        eui = bytes(chain.device.eui)
        if chain.rekeyed_wrapped is not None:
            return self._random_part(chain) == r
        ck = keys.rekey(self._vault.unwrap(chain.ck_wrapped, chain_label(eui, epoch)), r)
        chain.rekeyed_wrapped = self._vault.wrap(ck + r, _rekey_label(eui, epoch + 1))
        chain.save(update_fields=["rekeyed_wrapped"])
        rows = []
        # what a worker counted against the chain of an earlier rekey, after another one had decided that one
        EpochKey.objects.filter(device_id=device, rekeyed=True).delete()
        for ahead in range(epoch + 1, min(epoch + EPOCHS_WITHOUT_CONTACT, EPOCH_MAX) + 1):
            rows.append(_epoch_row(device, ahead, keys.epoch_keys(ck, eui).did, rekeyed=True))
            ck = _ratchet(ck, 1)
        EpochKey.objects.bulk_create(rows)
        return True

    def expected_rekey(self, device: int) -> bytes | None:
        """The random part of the rekey that was sent in the device's newest epoch and is not decided, if there is one.

        In one epoch there is one only: the device may have carried it out, so another would begin a third chain.
        """
        chain = self._locked(device)
        return None if chain is None or chain.rekeyed_wrapped is None else self._random_part(chain)

    def _random_part(self, chain: DeviceChain) -> bytes:
        label = _rekey_label(bytes(chain.device.eui), chain.newest_epoch + 1)
        assert chain.rekeyed_wrapped is not None
        return self._vault.unwrap(chain.rekeyed_wrapped, label)[CHAIN_KEY_LEN:]

    def count_failures(self, failed: Sequence[Key]) -> None:
        """Add one failed opening for each mention of a key that was tried."""
        counts = Counter((*key.number, key.rekeyed) for key in failed)
        tried = {(*key.number, key.rekeyed): key for key in failed}
        if not tried:
            return
        # a hello may have tried a key that has no row yet
        EpochKey.objects.bulk_create(
            (_epoch_row(*key.number, key.candidate.keys.did, rekeyed=key.rekeyed) for key in tried.values()),
            ignore_conflicts=True,
        )
        with connection.cursor() as cursor:
            cursor.executemany(
                f"UPDATE {EpochKey._meta.db_table} SET failures = failures + %s"  # noqa: S608 no input in it
                " WHERE device_id = %s AND epoch = %s AND rekeyed = %s",
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
        known = self._known_from(device for device, _ in wanted)
        rows = EpochKey.objects.select_for_update().filter(
            device_id__in={device for device, _ in wanted},
            epoch__in={epoch for _, epoch in wanted},
            rekeyed=False,
        )
        taken: dict[tuple[int, int], int] = {}
        counted: list[int] = []
        jumped: list[tuple[int, int]] = []
        for pk, *number, following in rows.order_by("pk").values_list("pk", "device_id", "epoch", "downlink_ctr"):
            device, epoch = number
            if (device, epoch) not in wanted:
                continue
            again = (device, epoch) in repeated
            is_known = self._restored_at is None or known.get(device, epoch + 1) <= epoch
            if self._restored_at is not None and not (is_known and following <= COUNTED_MAX):
                # also where dated ones were used before the proof came: a device takes only higher ones after them
                ctr = dated.take(following, self._clock(), self._restored_at, again)
            else:
                is_counted = following <= (REPEATS_CTR_MAX if again else COUNTED_MAX)
                ctr = following if is_counted or (not again and following in EARLIER_CTRS) else None
            if ctr is None:
                continue
            taken[device, epoch] = ctr
            if ctr == following:
                counted.append(pk)
            else:
                jumped.append((pk, ctr + 1))
        EpochKey.objects.filter(pk__in=counted).update(downlink_ctr=F("downlink_ctr") + 1)
        for pk, following in jumped:
            EpochKey.objects.filter(pk=pk).update(downlink_ctr=following)
        return taken

    def _known_from(self, devices: Iterable[int]) -> dict[int, int]:
        """By device, the first epoch in which a restored server has sent all that was ever sent."""
        if self._restored_at is None:
            return {}
        rows = DeviceChain.objects.filter(device_id__in=set(devices), downlink_from_epoch__gt=0)
        return dict(rows.values_list("device_id", "downlink_from_epoch"))

    def unproven(self, devices: Iterable[int]) -> set[int]:
        """Those of the devices that must be asked for a receipt, for the registry was restored; see dated.py."""
        if self._restored_at is None:
            return set()
        rows = DeviceChain.objects.filter(device_id__in=set(devices), downlink_from_epoch=0)
        return set(rows.values_list("device_id", flat=True))

    def prove(self, receipts: Iterable[tuple[int, int, int]]) -> None:
        """Follow receipts after a restore; see dated.py.

        Args:
            receipts: (device, epoch of the receipt's own frame, downlink counter that it names).
        """
        if self._restored_at is None:
            return
        for device, epoch, ctr in receipts:
            if dated.proves(ctr, self._restored_at):
                DeviceChain.objects.filter(device_id=device, downlink_from_epoch=0).update(
                    downlink_from_epoch=epoch + 1
                )

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


def _epoch_row(device: int, epoch: int, did: bytes, *, rekeyed: bool = False) -> EpochKey:
    return EpochKey(device_id=device, epoch=epoch, epoch_bits=epoch & EPOCH_BITS_MASK, did=did, rekeyed=rekeyed)


def _rekey_label(eui: bytes, epoch: int) -> bytes:
    """`aad` of the wrapped CK[epoch] that a rekey begins, and its random part."""
    return b"rekey" + chain_label(eui, epoch)


def _row_ahead(chain: DeviceChain, epoch: int, *, rekeyed: bool = False) -> tuple[Any, ...]:
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
        rekeyed,
        chain.rekeyed_wrapped,
    )
