"""Who may look at what a kept demo leaves: an admin, a viewer and an auditor, who set themselves up as people do.

Nobody keeps their passwords; what stays is a token of the viewer and one of the auditor, for a month.
"""

import os
import secrets
import time
from pathlib import Path

from provisioning.registry.vault import Vault

TOKENS = {
    "viewer": (("fleet", "care"), ("device.list", "reading.view", "reading.export", "rollout.view")),
    "auditor": (("audit",), ("audit.view", "audit.export", "operator.view")),
}
DAYS = 30


def leave_tokens(vault: Vault, folder: Path) -> None:
    """Make the three operators, and `viewer.token` and `auditor.token` in the folder, for `--operator`."""
    from provisioning.operators import factors, service, sessions

    service.create_first(vault, "admin", secrets.token_urlsafe(32))
    for name, (roles, scope) in TOKENS.items():
        given, chosen = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        service.create(vault, name, roles, given, by="admin")
        acting = sessions.resolve(vault, sessions.login(vault, name, given))
        service.change_password(vault, acting, given, chosen)
        secret = factors.new_secret()
        session = service.set_totp(vault, name, secret, factors.code_at(secret, time.time()), by=name).session
        token = sessions.create_token(vault, sessions.resolve(vault, session), scope, DAYS, "the demo")
        with open(os.open(folder / f"{name}.token", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(token + "\n")
