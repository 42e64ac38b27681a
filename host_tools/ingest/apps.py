"""Names the store of frames to Django."""

from django.apps import AppConfig


class IngestConfig(AppConfig):
    """The app `ingest`; its tables begin with `ingest_`."""

    name = "host_tools.ingest"
    label = "ingest"
