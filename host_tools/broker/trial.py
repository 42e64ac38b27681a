"""Trying a broker's folder without touching the broker that runs: what mosquitto itself says of the configuration.

mosquitto before 2.1 cannot check a configuration, so it is started for a moment: same files, on free loopback ports and
with a state folder of its own. It has passed when both doors ask for a certificate with the broker's own.
"""

import os
import socket
import ssl
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from host_tools.broker import folder as folders
from host_tools.broker import mosquitto, trust
from host_tools.broker.folder import FolderError, Settings
from host_tools.gateway.broker import MosquittoBroker, free_port

CONNECT_S = 5.0


def check(folder: Path, settings: Settings) -> dict[str, str]:
    """Start mosquitto on a copy of the configuration and look at it from outside.

    Returns:
        What was found, by name, as text.

    Raises:
        TrustError: the broker's certificate or a list does not do by now.
        BrokerError: mosquitto is missing or ends at once; its words are in the text.
        FolderError: a door does not answer as it must.
    """
    now = datetime.now(UTC)
    ends = trust.broker(
        (folder / folders.CERTIFICATE).read_bytes(), (folder / folders.KEY).read_bytes(), settings.host_name, now
    )
    found = {"certificate until": f"{ends:%F}"}
    listed = f"\ncrlfile {folder.absolute() / folders.CRL}\n" in (folder / folders.CONF).read_text()
    if listed:
        lists = trust.split_lists((folder / folders.CRL).read_bytes())
        soonest = min((each.next_update_utc for each in lists if each.next_update_utc), default=now)
        if soonest <= now:
            raise trust.TrustError(
                f"a revocation list ended at {soonest:%F %T} UTC: mosquitto refuses its devices",
                "renew it: sealband broker reload",
            )
        found["revocation lists until"] = f"{soonest:%F %T} UTC"
    with tempfile.TemporaryDirectory(prefix="sealband-broker-") as name:
        trial = Path(name)
        ports = free_port("127.0.0.1"), free_port("127.0.0.1")
        tried = folders.on_loopback(settings, *ports)
        text = mosquitto.text(folders.configuration(folder.absolute(), tried, lists=listed))
        state = trial / folders.STATE
        state.mkdir(mode=0o700)
        text = text.replace(str(folder.absolute() / folders.STATE), str(state))
        (trial / folders.CONF).write_text(text)
        folders.write_settings(trial, tried)
        if owner := folders.owner_of(settings.user):
            # mosquitto becomes another user, and gets what is its own. Nobody else may write here: root's mosquitto
            # runs whatever plugin a configuration names.
            os.chown(state, *owner)
            trial.chmod(0o711)
        with MosquittoBroker(folder=trial) as broker:
            for door, port in (("devices", ports[0]), ("services", ports[1])):
                found[door] = _asks_for_a_certificate(folder, door, port, settings.host_name)
            warned = [line for line in broker.log().splitlines() if " Error: " in line]
    if warned:
        found["mosquitto said"] = warned[0]
    return found


def _asks_for_a_certificate(folder: Path, door: str, port: int, host_name: str) -> str:
    """Knock without a certificate; the broker must show its own, and refuse."""
    context = ssl.create_default_context(cadata=(folder / folders.CERTIFICATE).read_text())
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # its own certificate is what is expected, whoever signed it
    try:
        with (
            socket.create_connection(("127.0.0.1", port), CONNECT_S) as raw,
            context.wrap_socket(raw, server_hostname=host_name) as link,
        ):
            version = link.version() or "?"
            try:
                link.sendall(b"\xc0\x00")
                said = link.recv(1)
            except OSError:
                return f"{version}, refuses whoever has no certificate"
            if not said:
                return f"{version}, refuses whoever has no certificate"
    except ssl.SSLCertVerificationError as error:
        raise FolderError(f"the {door}' door shows another certificate: {error.verify_message}", "reload it") from None
    except OSError as error:
        if "CERTIFICATE_REQUIRED" in str(error) or "handshake failure" in str(error).lower():
            return "refuses whoever has no certificate"
        raise FolderError(f"the {door}' door does not answer: {error}", "look into mosquitto's log") from None
    raise FolderError(f"the {door}' door lets in who has no certificate", "write the folder anew")
