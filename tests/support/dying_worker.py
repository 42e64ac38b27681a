"""An ingest worker that loses its power: `python -m tests.support.dying_worker DATABASE PORT MOMENT`.

MOMENT is `ack` (after the commit and the answers, before the broker is told) or `publish` (after the commit, before an
answer leaves). The process kills itself with SIGKILL, so nothing of Python or SQLite gets to clean up.
"""

import os
import signal
import sys
import time

from tests.support.fleet import MASTER_KEY, NOW, Vault, registry, worker


def main() -> None:
    database, port, moment = sys.argv[1:]
    registry.setup(database, extra_apps=("host_tools.ingest", "host_tools.rollout"))
    ingest = worker.IngestWorker("127.0.0.1", int(port), Vault(MASTER_KEY), lambda: NOW, client_id="worker")

    def die(*_args: object, **_options: object) -> None:
        time.sleep(0.5)  # what was handed to the network thread before has left
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(ingest._client, moment, die)
    ingest.start()
    time.sleep(30)


if __name__ == "__main__":
    main()
