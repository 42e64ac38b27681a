"""Names the registry to Django."""

from django.apps import AppConfig


class RegistryConfig(AppConfig):
    """The app `registry`; its tables begin with `registry_`."""

    name = "provisioning.registry"
    label = "registry"
