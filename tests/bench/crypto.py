"""The device's crypto beside its yardstick, each pair measured inside one MicroPython process.

A time is the least of several rounds, yardstick and subject in turn, so that a busy machine disturbs neither more. The
yardsticks: two bare calls of `cryptolib` as a caller must write them (make the object, encrypt) over as many blocks as
CCM has; and `a * b % p` of 256-bit numbers that change at each step, since a division of the same two numbers again
and again is learnt by the branch predictor and would flatter it.
"""

from typing import Any

from host_tools.sim.interpreter import find_micropython
from tests.bench.figure import Figure
from tests.support.micropython import Micropython

# 43 bytes and 30 of associated data (WIRE.md): block 0, two with the associated data, three of payload; four counters
CCM = """
from cryptolib import aes
from sealband.crypto import ccm
from sealwire import frame
import gc, time

key, zero, iv, plaintext = bytes(range(16)), bytes(16), bytes(range(13)), bytes(range(43))
nonce = frame.nonce(iv, 77)
aad = frame.associated_data(frame.control(frame.KIND_DATA, 5), bytes(8), 5, 77)
mac_input, counters = bytes(16 * 6), bytes(16 * 4)
sealed = ccm.encrypt(key, nonce, plaintext, aad)

def bare():
    aes(key, 2, zero).encrypt(mac_input)
    aes(key, 1).encrypt(counters)

def seal():
    ccm.encrypt(key, nonce, plaintext, aad)

def unseal():
    ccm.decrypt(key, nonce, sealed, aad)

def least(functions, rounds, calls):
    times = [1 << 30] * len(functions)
    for _ in range(rounds):
        for i in range(len(functions)):
            function = functions[i]
            gc.collect()
            begun = time.ticks_us()
            for _ in range(calls):
                function()
            times[i] = min(times[i], time.ticks_diff(time.ticks_us(), begun))
    return [took / calls for took in times]
"""

P256 = """
from hashlib import sha256
from sealband.crypto import p256

private = bytes(range(1, 33))
public = p256.public_key(private)
signed = [(sha256(bytes((i,))).digest(), p256.sign(private, sha256(bytes((i,))).digest())) for i in range(8)]
p = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
x, y = int.from_bytes(public[1:33], "big"), int.from_bytes(public[33:], "big")

def multiply():
    a, b, m = x, y, p
    for _ in range(2970):
        a = a * b % m

turn = 0

def verify():
    global turn
    turn = (turn + 1) & 7
    assert p256.verify(public, *signed[turn])

def sign():
    p256.sign(private, signed[0][0])

def ecdh():
    p256.ecdh(private, public)
"""


def figures() -> list[Figure]:
    """CCM over bare AES; P-256 over bare multiplications; the rest in milliseconds, for the record."""
    with Micropython() as device:
        release: Any = device.call("__import__('sys').version")
        device.run(CCM)
        bare, seal, unseal = device.call("least((bare, seal, unseal), 15, 400)", timeout_s=120)
        device.run(P256)
        multiply, verify, sign, ecdh = device.call("least((multiply, verify, sign, ecdh), 15, 8)", timeout_s=240)
    note = f"{release.split('; ')[-1]}, {find_micropython().rsplit('/', 1)[-1]}"
    return [
        Figure("CCM of 43 bytes ÷ two bare AES calls", seal / bare, 12, note=f"sealing; {seal:.1f} µs; {note}"),
        Figure("CCM opening of 43 bytes ÷ two bare AES calls", unseal / bare, 12, note=f"{unseal:.1f} µs"),
        Figure(
            "P-256 verify ÷ (2,970 × a·b mod p)",
            verify / multiply,
            1.2,
            note=f"{verify / 1000:.2f} ms, changing signatures",
        ),
        Figure("P-256 sign", sign / 1000, unit="ms", note="blinded"),
        Figure("P-256 ECDH", ecdh / 1000, unit="ms", note="blinded"),
    ]
