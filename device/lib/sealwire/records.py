"""The table of records: id, name, unit (SenML's name for it) and decimal scale. Ids are never reused.

A value travels as an integer; the quantity is integer * 10**scale. Ids from 64 on are the application's own.
"""

from sealwire.recordids import (
    ACCELERATION_RMS,
    ACTIVITY,
    ALTITUDE,
    AMBIENT_TEMPERATURE,
    APPLICATION_FIRST,
    BATTERY_VOLTAGE,
    HEART_RATE,
    HRV_RMSSD,
    LATITUDE,
    LINK_RSSI,
    LONGITUDE,
    PRESSURE,
    RECORD_MAX,
    SKIN_TEMPERATURE,
    SPO2,
    STEPS,
    WEAR_STATE,
)

__all__ = [
    "ACCELERATION_RMS",
    "ACTIVITY",
    "ALTITUDE",
    "AMBIENT_TEMPERATURE",
    "APPLICATION_FIRST",
    "BATTERY_VOLTAGE",
    "HEART_RATE",
    "HRV_RMSSD",
    "LATITUDE",
    "LINK_RSSI",
    "LONGITUDE",
    "PRESSURE",
    "RECORDS",
    "RECORD_MAX",
    "SKIN_TEMPERATURE",
    "SPO2",
    "STEPS",
    "WEAR_STATE",
    "lookup",
]

# id, name, unit, scale
RECORDS = (
    (HEART_RATE, "heart_rate", "beat/min", 0),
    (SPO2, "spo2", "%", 0),
    (SKIN_TEMPERATURE, "skin_temperature", "Cel", -2),
    (BATTERY_VOLTAGE, "battery_voltage", "V", -3),
    (STEPS, "steps", "count", 0),
    (ACTIVITY, "activity", "", 0),
    (LATITUDE, "latitude", "lat", -5),
    (LONGITUDE, "longitude", "lon", -5),
    (ALTITUDE, "altitude", "m", 0),
    (AMBIENT_TEMPERATURE, "ambient_temperature", "Cel", -1),
    (PRESSURE, "pressure", "hPa", -1),
    (HRV_RMSSD, "hrv_rmssd", "ms", 0),
    (WEAR_STATE, "wear_state", "", 0),
    (LINK_RSSI, "link_rssi", "dBm", 0),
    (ACCELERATION_RMS, "acceleration_rms", "m/s2", -2),
)


def lookup(record):
    """(name, unit, scale) of a record id; an id that is not in the table has a name made of its number."""
    for row in RECORDS:
        if row[0] == record:
            return row[1], row[2], row[3]
    return "record_%d" % record, "", 0
