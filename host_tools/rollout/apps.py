"""Names rollouts to Django."""

from django.apps import AppConfig


class RolloutConfig(AppConfig):
    """The app `rollout`; its tables begin with `rollout_`."""

    name = "host_tools.rollout"
    label = "rollout"
