"""Which LoRa channels a board may be told to use, by region: the rules behind `channels_khz` and `sub_band`.

A band is here what regulation and LoRaWAN's tables leave for 125 kHz channels; the regions themselves are
`sealwire.radio`'s.
"""

from boards.table import Table
from sealwire import radio

REGIONS = frozenset({"EU868", "US915", "AS923", "AU915", "IN865"})
CHANNELS_MAX = 16  # as many as LoRaWAN end devices keep
_HALF_KHZ = 63

# Where a channel has to lie with all of its width, kHz. EU868: sub-bands L and M of ETSI EN 300 220-2, whose duty
# cycles are the ones that a board keeps; IN865: G.S.R. 564(E); AS923: the groups 1 to 4 of RP002
BANDS_KHZ = {
    "EU868": ((865_000, 868_000), (868_000, 868_600)),
    "IN865": ((865_000, 867_000),),
    "AS923": ((915_000, 928_000),),
}


def channels(table: Table, region: str) -> tuple[int, ...] | None:
    """Takes `channels_khz` or `sub_band` (1 to 8, of US915 and AU915); None where neither is given.

    Raises:
        BoardError: a channel that the region has not.
    """
    if region in BANDS_KHZ:
        if not table.has("channels_khz"):
            return None
        chosen = table.integers("channels_khz")
        if not 1 <= len(chosen) <= CHANNELS_MAX:
            raise table.error("channels_khz", f"1 to {CHANNELS_MAX} channels")
        for khz in chosen:
            if not any(low + _HALF_KHZ <= khz <= high - _HALF_KHZ for low, high in BANDS_KHZ[region]):
                raise table.error("channels_khz", f"{khz} is not within a band of {region}")
        if region == "EU868" and not set(radio.region(region)[0]) <= set(chosen):
            # those that every gateway hears (RP002), and without which there would be a sub-band without a channel
            raise table.error("channels_khz", "868100, 868300 and 868500 must be among them")
        return chosen
    # eight channels, which is what most gateways hear
    number = table.optional_integer("sub_band", 1, 8)
    return None if number is None else tuple(radio.region(region)[0][8 * number - 8 : 8 * number])
