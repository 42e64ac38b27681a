"""Sealband's tools around the device: gateway, ingest, releases, simulation and the command line."""
