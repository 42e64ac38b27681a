"""Names the operators to Django."""

from django.apps import AppConfig


class OperatorsConfig(AppConfig):
    """The app `operators`; its tables begin with `operators_`."""

    name = "provisioning.operators"
    label = "operators"
