# Whether somebody is on a channel: its level before a transmission, and LoRa activity on it (CAD). The driver has no
# calls for these, so the chip is asked by what its datasheet says; loaded only where a board asks for it.
import time

from micropython import const

_LISTEN_MS = const(6)  # ARIB STD-T108 3.4.1 asks for 5 at least
_SETTLE_MS = const(2)  # until the level is true
_CAD_MS = const(300)  # four symbols at SF12, twice over

# SX1261/2 datasheet rev 2.1
_GET_RSSI_INST = const(0x15)  # 13.5.4
_SET_CAD_PARAMS = const(0x88)  # 13.4.7
_SET_CAD = const(0xC5)  # 13.1.7
_CFG_DIO_IRQ = const(0x08)  # 13.3.1
_IRQ_CAD_DONE = const(0x80)
_IRQ_CAD_DETECTED = const(0x100)
# what the driver has enabled, and its DIO1 mask
_IRQ_DRIVER = const(0x243)
_IRQ_DRIVER_DIO1 = const(0x203)

_PEAKS = b"\x16\x16\x17\x18\x19\x1c"  # SF7 to SF12

# SX1276 datasheet rev 7
_REG_RSSI = const(0x1B)  # 5.5.5: -157 dBm at the upper port
_MODE_CAD = const(7)  # 4.1.7.2
_REG_IRQ_CAD_DONE = const(4)
_REG_IRQ_CAD_DETECTED = const(1)


# The level on the channel that the modem is set to, dBm; its receiver is on.
def level_dbm(modem):
    if hasattr(modem, "_cmd"):
        return modem._cmd("B", _GET_RSSI_INST, n_read=2)[1] / -2
    return modem._reg_read(_REG_RSSI) - 157


# Generator of pauses: whether nobody was heard above the limit, all the time. Ends in standby.
def clear(modem, limit_dbm):
    modem.start_recv(continuous=True)
    yield _SETTLE_MS
    began = time.ticks_ms()
    quiet = True
    while quiet:
        quiet = level_dbm(modem) <= limit_dbm
        if time.ticks_diff(time.ticks_ms(), began) >= _LISTEN_MS:
            break
        time.sleep_ms(1)  # all in one piece: a pause could be long
    modem.standby()
    return quiet


# Generator of pauses: whether there is LoRa activity of the set data rate on the channel, of the polarity that was
# received last. Ends in standby.
def active(modem, sf):
    if hasattr(modem, "_cmd"):
        # symbols and peak: as recommended for the same radio in RM0453 rev 5 table 36; then standby
        modem._cmd("BBBBBBBB", _SET_CAD_PARAMS, 1 if sf < 9 else 2, _PEAKS[sf - 7], 10, 0, 0, 0, 0)
        modem._cmd(">BHHHH", _CFG_DIO_IRQ, _IRQ_DRIVER | _IRQ_CAD_DONE | _IRQ_CAD_DETECTED, _IRQ_DRIVER_DIO1, 0, 0)
        modem._cmd("B", _SET_CAD)
        done, detected = _IRQ_CAD_DONE, _IRQ_CAD_DETECTED
    else:
        modem._set_mode(_MODE_CAD)
        done, detected = _REG_IRQ_CAD_DONE, _REG_IRQ_CAD_DETECTED
    flags = 0
    for _ in range(_CAD_MS // 5):
        yield 5
        flags = modem._get_irq()
        if flags & done:
            break
    modem._clear_irq()
    modem.standby()
    return bool(flags & detected)
