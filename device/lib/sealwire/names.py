"""Names of what messages.py and update.py number, for people. The device knows the numbers only: names cost it heap."""

from sealwire import charge, update
from sealwire.messages import (
    CONFIGURE,
    CONSENT,
    EVENT,
    RECEIPT,
    REKEY,
    REPORT,
    RESULT_BUSY,
    RESULT_DONE,
    RESULT_FAILED,
    RESULT_MALFORMED,
    RESULT_OUT_OF_RANGE,
    RESULT_UNKNOWN,
    RESULT_UNSUPPORTED,
    RETIRE,
    STATUS,
    STATUS_AIRTIME_MS,
    STATUS_BATTERY_MV,
    STATUS_CHARGE,
    STATUS_CONSENT,
    STATUS_DROPS,
    STATUS_FREE_HEAP,
    STATUS_REFUSED,
    STATUS_RELEASE,
    STATUS_RESET_CAUSE,
    STATUS_RUNNING,
    STATUS_SAMPLES_LOST,
    STATUS_SENSOR_ERRORS,
    STATUS_UPTIME_S,
    SYNC,
    TELEMETRY,
    UPDATE,
    UPDATE_REPORT,
)
from sealwire.recordids import ACTIVITY, WEAR_STATE

UPLINK_NAMES = {
    TELEMETRY: "telemetry",
    EVENT: "event",
    STATUS: "status",
    UPDATE_REPORT: "update_report",
    RECEIPT: "receipt",
}
DOWNLINK_NAMES = {
    SYNC: "sync",
    CONFIGURE: "configure",
    UPDATE: "update",
    REKEY: "rekey",
    RETIRE: "retire",
    REPORT: "report",
    CONSENT: "consent",
}

# Events; 64 and up are the application's own
EVENTS = {
    1: "fall",
    2: "sos",
    3: "low_battery",
    4: "worn",
    5: "taken_off",
    6: "tamper",
    7: "sensor_failed",
}

# What values of these records stand for
MEANINGS = {
    ACTIVITY: {0: "still", 1: "walking", 2: "running", 3: "other"},
    WEAR_STATE: {0: "not worn", 1: "worn"},
}

# The parts of STATUS_CHARGE
CHARGE_PARTS = {
    charge.BOARD: "board",
    charge.CHIP: "chip",
    charge.LORA: "lora",
    charge.WIFI: "wifi",
    charge.MODEM: "modem",
    charge.GNSS: "gnss",
    charge.PULSE: "pulse",
    charge.MOTION: "motion",
    charge.SENSORS: "sensors",
}

STATUS_NAMES = {
    STATUS_UPTIME_S: "uptime_s",
    STATUS_RESET_CAUSE: "reset_cause",
    STATUS_RUNNING: "running",
    STATUS_RELEASE: "release",
    STATUS_FREE_HEAP: "free_heap",
    STATUS_BATTERY_MV: "battery_mv",
    STATUS_DROPS: "drops",
    STATUS_SENSOR_ERRORS: "sensor_errors",
    STATUS_AIRTIME_MS: "airtime_ms",
    STATUS_REFUSED: "refused_downlinks",
    STATUS_SAMPLES_LOST: "samples_lost",
    STATUS_CONSENT: "consent",
    STATUS_CHARGE: "charge_uah",
}

# Result codes of a receipt
RESULTS = {
    RESULT_DONE: "done",
    RESULT_MALFORMED: "malformed",
    RESULT_UNKNOWN: "unknown",
    RESULT_OUT_OF_RANGE: "out_of_range",
    RESULT_UNSUPPORTED: "unsupported",
    RESULT_FAILED: "failed",
    RESULT_BUSY: "busy",
}

# States and codes of an update report
UPDATE_STATES = {
    update.ACCEPTED: "accepted",
    update.VERIFIED: "verified",
    update.FETCHED: "fetched",
    update.INSTALLED: "installed",
    update.STARTED: "started",
    update.CONFIRMED: "confirmed",
    update.ROLLED_BACK: "rolled_back",
    update.REFUSED: "refused",
    update.FAILED: "failed",
    update.GAVE_UP: "gave_up",
    update.TRUSTED: "trusted",
}
UPDATE_CODES = {
    update.OK: "ok",
    update.MALFORMED: "malformed",
    update.UNSUPPORTED: "unsupported",
    update.WRONG_VENDOR: "wrong_vendor",
    update.WRONG_CLASS: "wrong_class",
    update.WRONG_COMPONENT: "wrong_component",
    update.OLD_SEQUENCE: "old_sequence",
    update.TOO_LARGE: "too_large",
    update.MANIFEST_DIGEST: "manifest_digest",
    update.TOO_FEW_SIGNATURES: "too_few_signatures",
    update.NOT_ORDERED: "not_ordered",
    update.TRUST_EXPIRED: "trust_expired",
    update.TRUST_MALFORMED: "trust_malformed",
    update.TRUST_VERSION: "trust_version",
    update.TRUST_SIGNATURES: "trust_signatures",
    update.TRUST_MISSING: "trust_missing",
    update.HOST_REFUSED: "host_refused",
    update.NO_LINK: "no_link",
    update.UNREACHABLE: "unreachable",
    update.HTTP_STATUS: "http_status",
    update.HTTP_MALFORMED: "http_malformed",
    update.TOO_LONG: "too_long",
    update.TOO_SLOW: "too_slow",
    update.TIME_OUT: "time_out",
    update.TLS_REFUSED: "tls_refused",
    update.BAD_STREAM: "bad_stream",
    update.WRONG_BASE: "wrong_base",
    update.PATCH_OUTSIDE: "patch_outside",
    update.PATH_REFUSED: "path_refused",
    update.ENTRY_REFUSED: "entry_refused",
    update.ORDER_REFUSED: "order_refused",
    update.TOO_MANY_FILES: "too_many_files",
    update.IMAGE_DIGEST: "image_digest",
    update.FLASH_FAILED: "flash_failed",
    update.FIRMWARE_REFUSED: "firmware_refused",
    update.TRIAL_FAILED: "trial_failed",
    update.SLOT_CORRUPT: "slot_corrupt",
    update.UNHEALTHY: "unhealthy",
    update.INTERNAL: "internal",
}
