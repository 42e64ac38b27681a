# Making an MQTT connection for mqtt.py: bearer, clock, certificates, TLS, session. Loaded for that and dropped.
import time

from micropython import const

from sealband import once
from sealband.links.base import LinkError
from sealband.store import CHAIN, TLS

_CONNACK = const(0x20)
_SUBACK = const(0x90)
_KEY_LEN = const(32)
_EUI_LEN = const(8)
_RIGHT_S = const(60)
_PAST_S = const(604800)


# 0, if this board has what the link needs: a way, a broker, a CA, and a certificate of its own; else None.
def provisioned(link):
    site = once("sealband.provision").load()
    way = site and (site.wifi if link.name == "wifi" else site.cellular)
    held = link.store.load(TLS)
    if way and site.broker and site.ca and held and len(held) > 1 + _KEY_LEN:
        return 0


# Bring the bearer up and connect: a publisher.Publisher.
def run(link):
    yield from link.bearer.up()
    held = link.store.load(TLS)
    yield from _set_clock(link, held[1 + _KEY_LEN :])
    site = once("sealband.provision").load()
    context = once("sealband.links.secure").pinned(site.ca, held[1 + _KEY_LEN :], held[1 : 1 + _KEY_LEN])
    host, port = site.broker
    site = held = None  # the handshake needs the memory
    return (yield from connect(link.store.load(CHAIN)[1 : 1 + _EUI_LEN].hex().encode(), host, port, context))


# Connect to a broker as the device of this name; context: for TLS; more: of publisher.Publisher's constructor.
def connect(name, host, port, context, *more):
    publisher = once("sealband.links.publisher")
    topic = b"sb/v1/d/" + name
    client = publisher.Publisher(_text(topic + b"/up"), topic + b"/down", *more)
    done = False
    try:
        began = time.ticks_ms()
        client.ip.begin(host, port)
        while not client.ip.made(0, context, host):
            yield from client.wait(began)
        # Protocol 4, and the session is kept (section 3.1). The subscription is sent with it, which section 3.1.4
        # allows, and also where the session is present: it may have been made and left before it was subscribed in.
        data = b"\x00\x04MQTT\x04\x00" + publisher.KEEPALIVE_S.to_bytes(2, "big") + _text(name)
        data = publisher.build(0x10, data) + publisher.build(0x82, b"\x00\x01" + _text(topic + b"/down") + b"\x01")
        yield from client.write(data)
        # not refused (section 3.2.2.3), and granted (section 3.9.3)
        for kind, begin, most in ((_CONNACK, b"", 0), (_SUBACK, b"\x00\x01", 1)):
            answer = yield from client.until(kind, begin)
            if not answer or answer[-1] > most:
                raise LinkError("MQTT: %d answers %r" % (kind, answer))
        done = True
        return client
    finally:
        if not done:
            client.ip.close()


# with its length in front (section 1.5.3)
def _text(data):
    return len(data).to_bytes(2, "big") + data


# Certificates are judged by the chip's clock. Until the first sync nobody that we believe has told the time: what the
# network says is taken for this only, and never for less than what is surely past, as is the making of our own
# certificate.
def _set_clock(link, certificate):
    now = link.clock.now()
    late_s = _RIGHT_S
    if not link.clock.valid:
        now = max(now, _made(certificate))
        said = link.bearer.time()
        if said is None and link.ntp:
            said = yield from once("sealband.links.ntp").ask(link.ntp[0], link.ntp[1])
        if said is None:
            late_s = _PAST_S
        elif said > now:
            now = said
    once("sealband.links.secure").set_clock(None, now, late_s)


# The beginning of a certificate's validity, in seconds since 2025; 0: its year is not told in two digits, as it is up
# to 2049 (RFC 5280, section 4.1.2.5).
def _made(certificate):
    at = certificate.find(b"\x30\x1e\x17\x0d") + 4
    try:
        parts = [int(certificate[i : i + 2]) for i in range(at, at + 12, 2)] + [0, 0]
        parts[0] += 2000
        return int(time.mktime(tuple(parts)) - time.mktime((2025, 1, 1, 0, 0, 0, 0, 0)))
    except (ValueError, OverflowError):
        return 0
