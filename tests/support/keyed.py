"""A fleet in a registry as it is made now: with a random data key, wrapped under a master key that the test has."""

import shutil
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.support.fleet import Fleet, services

# isort: split
# these have models, and fleet.py has connected Django
from django.db import connections

from provisioning import registry
from provisioning.registry import keyring, masters

APPS = ("host_tools.ingest", "host_tools.rollout")
MASTER = masters.KeyMaster(bytes(range(32)))
OTHER_MASTER = masters.KeyMaster(bytes(range(1, 33)))


@cache
def _template() -> TemporaryDirectory[str]:
    folder = TemporaryDirectory(prefix="sealband-template-")
    registry.setup(Path(folder.name, "registry.db"), extra_apps=APPS)
    services.init_registry(keyring.create_vault(MASTER))
    connections.close_all()
    return folder


class KeyedFleet(Fleet):
    """A registry of its own for one test; `close` when done."""

    def __init__(self, folder: Path, **options: object) -> None:
        super().__init__(folder, **options)  # type: ignore[arg-type]
        connections.close_all()
        self.path = folder / "keyed.db"
        shutil.copy(Path(_template().name, "registry.db"), self.path)
        registry.setup(self.path, extra_apps=APPS)
        self.vault = keyring.open_vault(MASTER)
