"""The table of records: id, name, unit (SenML's name for it) and decimal scale. Ids are never reused.

A value travels as an integer; the quantity is integer * 10**scale. Ids from 64 on are the application's own.
"""

HEART_RATE = 1
SPO2 = 2
SKIN_TEMPERATURE = 3
BATTERY_VOLTAGE = 4
STEPS = 5
ACTIVITY = 6
LATITUDE = 7
LONGITUDE = 8
ALTITUDE = 9
AMBIENT_TEMPERATURE = 10
PRESSURE = 11
HRV_RMSSD = 12
WEAR_STATE = 13
LINK_RSSI = 14
ACCELERATION_RMS = 15

APPLICATION_FIRST = 64
RECORD_MAX = 255

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
