"""What the two ends of the LoRa link must agree on beside the frame: regions, receive window, sync word.

Regions are those of LoRaWAN Regional Parameters RP002-1.0.4, in its chapters on EU863-870, US902-928, AU915-928, AS923
and IN865. Uplinks are 125 kHz wide. Powers are what the chip may put into a dipole of 2.15 dBi.
"""

SYNC_WORD = 0x34  # public LoRaWAN networks; what gateways listen for
PREAMBLE_LEN = 8
CODING_RATE = 5  # 4/5

# The downlink answers with inverted IQ, this long after the uplink's end, where downlink() says.
RX1_DELAY_MS = 5000
RX_WINDOW_SYMBOLS = 12  # at least so many preamble symbols are listened for

EU868_DUTY_PERMILLE = 10
EU868_POWER_DBM = 14

# Longest frame by spreading factor, so that a frame also passes networks that keep LoRaWAN's limits (DR0 to DR5:
# MACPayload plus MHDR and MIC, less what LoRaWAN itself would spend: 51, 51, 51, 115, 222, 222)
EU868_FRAME_MAX = {12: 51, 11: 51, 10: 51, 9: 115, 8: 222, 7: 222}


def region(name):
    """The table of a region, None for one that is not there. What a board may send:

    channels in kHz; duty cycle in permille of each sub-band, 0: none; longest transmission in ms, 0: no limit; power in
    dBm; longest frame by spreading factor at 125 kHz (a slower one than these is not allowed).
    """
    # ETSI EN 300 220-2 V3.2.1 annex B, bands L (865 to 868 MHz) and M (868.0 to 868.6 MHz): 1 %, 25 mW
    if name == "EU868":
        return (868100, 868300, 868500), EU868_DUTY_PERMILLE, 0, EU868_POWER_DBM, EU868_FRAME_MAX
    # G.S.R. 564(E) of 2005: no duty cycle. The first two are 0.5 kHz higher than RP002's, a 250th of the bandwidth
    if name == "IN865":
        return (865063, 865403, 865985), 0, 0, 27, EU868_FRAME_MAX
    # what lasts 400 ms at most: MACPayload plus MHDR and MIC of RP002's tables for that dwell time
    frame_max = {10: 24, 9: 66, 8: 138, 7: 222}
    if name == "AS923":
        return (923200, 923400), 10, 400, 13, frame_max
    # 47 CFR 15.247 (a)(1)(i) and (f); 21 dBm, since a board may use 8 channels only (RP002)
    if name == "US915":
        return range(902300, 915000, 200), 0, 400, 21, frame_max
    if name == "AU915":
        return range(915200, 928000, 200), 0, 400, 27, frame_max


def downlink(name, freq_khz, sf, bw_khz):
    """Where the answer to an uplink comes: (kHz, spreading factor, bandwidth in kHz), LoRaWAN's RX1 with offset 0."""
    if name in ("US915", "AU915"):
        first_khz = 902300 if name == "US915" else 915200
        # eight channels of 500 kHz
        return 923300 + int(freq_khz - first_khz + 100) // 200 % 8 * 600, sf, 500
    return freq_khz, sf, bw_khz


def downlink_max(sf, bw_khz):
    """The longest frame of a downlink. 500 kHz carry more than two spreading factors less (RP002)."""
    return EU868_FRAME_MAX[max(7, sf - 2) if bw_khz == 500 else sf]
