"""Names of what messages.py numbers, for people. The device knows the numbers only: names cost it heap."""

from sealwire.messages import (
    CONFIGURE,
    CONSENT,
    EVENT,
    RECEIPT,
    REKEY,
    REPORT,
    RETIRE,
    STATUS,
    STATUS_AIRTIME_MS,
    STATUS_BATTERY_MV,
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
}
