"""What the two ends of the LoRa link must agree on beside the frame: channels, receive window, sync word.

EU868 default channels and the sub-band's duty cycle: LoRaWAN Regional Parameters RP002-1.0.4 section 2.5,
ETSI EN 300 220-2 band M (868.0 to 868.6 MHz, 1 %).
"""

SYNC_WORD = 0x34  # public LoRaWAN networks; what gateways listen for
PREAMBLE_LEN = 8
CODING_RATE = 5  # 4/5

# The downlink answers on the uplink's channel and data rate, with inverted IQ, this long after the uplink's end.
RX1_DELAY_MS = 5000
RX_WINDOW_SYMBOLS = 12  # at least so many preamble symbols are listened for

EU868_CHANNELS_KHZ = (868100, 868300, 868500)
EU868_BANDWIDTH_KHZ = 125
EU868_DUTY_PERMILLE = 10
EU868_POWER_DBM = 14

# Longest frame by spreading factor, so that a frame also passes networks that keep LoRaWAN's limits (DR0 to DR5:
# MACPayload plus MHDR and MIC, less what LoRaWAN itself would spend: 51, 51, 51, 115, 222, 222)
EU868_FRAME_MAX = {12: 51, 11: 51, 10: 51, 9: 115, 8: 222, 7: 222}
