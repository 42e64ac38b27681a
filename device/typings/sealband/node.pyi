"""The node, as far as an application meets it: in `on_sample` and in a watcher's `watch`."""

from sealband.app import App
from sealband.clock import Clock
from sealband.config import Config
from sealband.log import Log

class Node:
    """What runs the application. It is given to you; do not make one."""

    app: App
    clock: Clock
    log: Log
    config: Config

    def event(self, event: int, *values: int) -> bool:
        """Something happened that must not wait: sealed at once, sent before all telemetry.

        Args:
            event: 1 fall, 2 SOS, 3 low battery …; 64 to 255 are your own.
            values: up to sixteen whole numbers.

        Returns:
            False: it could not be sealed, so nobody will hear of it.
        """

    def pace(self, level: int) -> None:
        """How often sensors are read from now on.

        Args:
            level: 0 rest, 1 motion, 2 alarm; an alarm lasts for ten minutes after the last call.
        """

    def report(self) -> bool:
        """Queue a status; False: it could not be sealed."""

    def stop(self) -> None:
        """End the node's work after what is under way."""
