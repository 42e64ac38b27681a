"""Messages inside a frame: types, map keys and codes. A plaintext is a CBOR sequence, the message type first."""

EPOCH_2025 = 1735689600  # 2025-01-01T00:00:00Z in Unix seconds; message times count from here

# Up
TELEMETRY = 0  # t0, then [record, dt, v0, d1, d2 ...] ...
EVENT = 1  # t, event id, value ...
STATUS = 2  # t, map
UPDATE_REPORT = 3  # release sequence, state, code
RECEIPT = 4  # downlink ctr, result code

# Down
SYNC = 16  # t, newest uplink ctr stored, bitmap of the 32 before it, newest release sequence
CONFIGURE = 17  # map of settings
UPDATE = 18  # release sequence, manifest digest, where from
REKEY = 19  # r
RETIRE = 20
REPORT = 21
CONSENT = 22  # record ids that may be sampled

SYNC_BITMAP_LEN = 32  # bit i (least significant first) stands for newest - 1 - i

# Keys of the status map
STATUS_UPTIME_S = 1
STATUS_RESET_CAUSE = 2
STATUS_RUNNING = 3  # first 8 bytes of the running image's digest
STATUS_RELEASE = 4  # its release sequence
STATUS_FREE_HEAP = 5  # bytes
STATUS_BATTERY_MV = 6
STATUS_DROPS = 7  # frames dropped from the outbox since enrolment
STATUS_SENSOR_ERRORS = 8  # failed readings since the last cold start
STATUS_AIRTIME_MS = 9  # used in the last hour
STATUS_REFUSED = 10  # downlinks refused since the last cold start: forged, replayed, malformed
STATUS_SAMPLES_LOST = 11  # samples that were given up before they could be sealed, since the last cold start
STATUS_CHARGE = 13  # used since the last cold start: [[part (charge.py), microampere hours] ...]
STATUS_CONSENT = 12  # record ids that may be sampled, one byte each; absent: the server has not said

# Result codes of a receipt
RESULT_DONE = 0
RESULT_MALFORMED = 1
RESULT_UNKNOWN = 2
RESULT_OUT_OF_RANGE = 3
RESULT_UNSUPPORTED = 4
RESULT_FAILED = 5  # flash did not keep it; nothing changed
RESULT_BUSY = 6  # another update is on trial; ask again
