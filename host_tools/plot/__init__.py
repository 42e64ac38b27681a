"""Pictures of readings: what was measured, what is missing, what happened. Needs matplotlib, the extra `plot`."""
