"""Service access: how a station opens a closed board's REPL, line by line on the serial port, and what a token says.

A board is closed from `sealband.enrol.console("service", key)` on, the station's last question: with its next reset it
runs the signed release and nothing else. An empty key closes a board that nobody is to unlock.

    host   UNLOCK                     again and again until the challenge comes: the board looks once a second, and not
                                      while it sleeps or restarts
    board  CHALLENGE hex(CBOR [CHALLENGE_LABEL, eui (8), nonce (16), model, release sequence])
    host   TOKEN hex(COSE_Sign1)      within HOLD_S; one try
    board  UNLOCKED                   the REPL is open until the next reset
       or  REFUSED code text          and it restarts to its work

token  COSE_Sign1 (tag 18), protected header {1: -9} and nothing else, by the service key; payload
       CBOR [TOKEN_LABEL, eui (8), nonce (16), not_after (seconds since 2025), operator (text)]
"""

UNLOCK = "sealband/1 unlock"
CHALLENGE = "sealband/1 challenge "
TOKEN = "sealband/1 token "
UNLOCKED = "sealband/1 unlocked"
REFUSED = "sealband/1 refused "

CHALLENGE_LABEL = "sealband/1 challenge"
TOKEN_LABEL = "sealband/1 service"
EUI_LEN = 8
NONCE_LEN = 16
OPERATOR_MAX = 64  # bytes of UTF-8
TOKEN_MAX = 256  # bytes; a longer one is refused before it is parsed
LINE_MAX = len(TOKEN) + 2 * TOKEN_MAX + 2  # characters with the line's end
HOLD_S = 120  # so long a board waits for the token

# Why a token was refused, on the serial port and as the first value of the tamper event. Numbers are never reused.
MALFORMED = 1  # no token: not hex, too long, not of the shape above
SIGNATURE = 2  # by another key, or changed since
DEVICE = 3  # for another device
NONCE = 4  # for another challenge
EXPIRED = 5
CODES = {MALFORMED: "malformed", SIGNATURE: "signature", DEVICE: "device", NONCE: "nonce", EXPIRED: "expired"}

# Refused without a token, on the serial port only
BUSY = "busy"  # an update is on trial; a restart would disturb it
NO_KEY = "no_key"  # closed for good: no service key was given
TIME_OUT = "timeout"
FLASH = "flash"  # it does not keep the mark for the next start

TAMPER_EVENT = 6  # values: code, refusals since the last such event
TELL_EVERY_S = 3600  # no more often than this
