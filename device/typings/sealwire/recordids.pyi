"""Ids of records; names and units are in `sealwire.records`. 64 to 255 are the application's own."""

HEART_RATE: int
"""heart_rate, 1e0 beat/min."""
SPO2: int
"""spo2, 1e0 %."""
SKIN_TEMPERATURE: int
"""skin_temperature, 1e-2 Cel."""
BATTERY_VOLTAGE: int
"""battery_voltage, 1e-3 V."""
STEPS: int
"""steps, 1e0 count."""
ACTIVITY: int
"""activity, 1e0."""
LATITUDE: int
"""latitude, 1e-5 lat."""
LONGITUDE: int
"""longitude, 1e-5 lon."""
ALTITUDE: int
"""altitude, 1e0 m."""
AMBIENT_TEMPERATURE: int
"""ambient_temperature, 1e-1 Cel."""
PRESSURE: int
"""pressure, 1e-1 hPa."""
HRV_RMSSD: int
"""hrv_rmssd, 1e0 ms."""
WEAR_STATE: int
"""wear_state, 1e0."""
LINK_RSSI: int
"""link_rssi, 1e0 dBm."""
ACCELERATION_RMS: int
"""acceleration_rms, 1e-2 m/s2."""
APPLICATION_FIRST: int
RECORD_MAX: int
