# What makes a TLS connection one to be believed: the pinned CA, our own certificate, and the clock that certificates
# are judged by. Loaded while a connection is made, by the updater and under MQTT.
import time

from micropython import const

from sealwire.messages import EPOCH_2025

_YEAR_2000_S = const(946684800)
# RFC 5915: version 1, 32 bytes of private key, the curve prime256v1
_SEC1_HEAD = b"\x30\x31\x02\x01\x01\x04\x20"
_SEC1_CURVE = b"\xa0\x0a\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"


# A client's context: a server must show a certificate for its name, in its time, signed by this CA (DER). certificate
# and key: our own, DER and 32 bytes of P-256. TypeError, ValueError: these are none. TLS 1.2 is the least that
# mbedtls 3 speaks.
def pinned(ca, certificate=None, key=None):
    import tls

    context = tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)
    context.verify_mode = tls.CERT_REQUIRED
    context.load_verify_locations(ca)
    if certificate:
        context.load_cert_chain(certificate, _SEC1_HEAD + key + _SEC1_CURVE)
    return context


# The chip's clock may have been lost by a reset, and no reset puts it back when it was set too far: it is set to now_s,
# unless it stands there or up to late_s later.
def set_clock(machine, now_s, late_s):
    seconds = now_s + EPOCH_2025
    if time.gmtime(0)[0] == 2000:
        seconds -= _YEAR_2000_S
    if not seconds <= time.time() <= seconds + late_s:
        year, month, day, hour, minute, second, weekday = time.gmtime(seconds)[:7]
        if machine is None:
            import machine
        machine.RTC().datetime((year, month, day, weekday, hour, minute, second, 0))
