"""The text of `mosquitto.conf`, for mosquitto 2.0 or later. Pure: paths and figures in, text out.

Two listeners, because a device and a service must never be taken for one another: each trusts its own authority alone,
and a flood at the devices' door takes no connection from ingest. On both a client is its certificate: user name and
client id come from the subject, so nobody ends or inherits another's session by naming its client id. mosquitto reads
rules, revocation lists and its certificate anew by the signal HUP; ports and limits by a restart.
"""

from dataclasses import dataclass
from pathlib import Path

from host_tools.gateway.envelope import ENVELOPE_MAX

# forward secrecy and an AEAD, what mbedTLS on the boards has too; TLS 1.3 has no others
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
KEPT = "14d"  # what waits for a client that stays away is dropped after it


@dataclass(frozen=True)
class Limits:
    """What clients can make the broker hold.

    Attributes:
        devices: connections of devices.
        services: connections of ingest and bridges.
        packet: bytes of one MQTT packet; who sends a longer one is disconnected.
        in_flight: messages that one client has not acknowledged.
        queued: messages that wait for one client.
        queued_bytes: the same, in bytes.
        memory_mb: of the whole broker; what would take more is refused.
    """

    devices: int = 10_000
    services: int = 64
    packet: int = ENVELOPE_MAX + 256  # and its topic
    in_flight: int = 500
    queued: int = 20_000
    queued_bytes: int = 16 << 20
    memory_mb: int = 512


@dataclass(frozen=True)
class Listener:
    """One door.

    Attributes:
        authority: PEM of those that may have signed who comes in.
        crl: PEM of revocation lists, one for each of them that certifies clients; None: there are none.
    """

    host: str
    port: int
    authority: Path
    crl: Path | None
    connections: int


@dataclass(frozen=True)
class Configuration:
    """All that the file says.

    Attributes:
        certificate, key: the broker's own, PEM; they may be one file.
        rules: `acl_file`.
        state: the folder for what outlives a restart, and for the process number.
        user: whom mosquitto becomes when it is started by root.
        log: file for the log; None: standard error, where a service manager takes it.
    """

    devices: Listener
    services: Listener
    certificate: Path
    key: Path
    rules: Path
    state: Path
    user: str
    log: Path | None = None
    limits: Limits = Limits()


def pid_file(state: Path) -> Path:
    """Where mosquitto writes its process number."""
    return state / "mosquitto.pid"


def text(configuration: Configuration) -> str:
    """`mosquitto.conf`.

    Raises:
        ValueError: a path or name would break out of its line.
    """
    limits = configuration.limits
    lines = [
        "# Written by `sealband broker config`, as a whole; change it there.",
        "",
        "# who: nobody without a certificate, and what each may do stands in the rules",
        "allow_anonymous false",
        "allow_zero_length_clientid false",
        f"acl_file {configuration.rules}",
        f"user {configuration.user}",
        "",
        "# how much",
        f"max_packet_size {limits.packet}",
        f"max_inflight_messages {limits.in_flight}",
        f"max_queued_messages {limits.queued}",
        f"max_queued_bytes {limits.queued_bytes}",
        f"memory_limit {limits.memory_mb << 20}",
        "queue_qos0_messages false",
        "retain_available false",
        "set_tcp_nodelay true",
        "sys_interval 0",
        "",
        "# what outlives a restart: sessions, and what waits for them",
        "persistence true",
        f"persistence_location {configuration.state}/",
        "autosave_interval 60",
        f"persistent_client_expiration {KEPT}",
        f"pid_file {pid_file(configuration.state)}",
        "",
        "# the log names clients and topics; payloads are in no type of message",
        f"log_dest {f'file {configuration.log}' if configuration.log else 'stderr'}",
        *(f"log_type {kind}" for kind in ("error", "warning", "notice")),
        "connection_messages true",
        "log_timestamp_format %Y-%m-%dT%H:%M:%S",
    ]
    for name, listener in (("devices", configuration.devices), ("services", configuration.services)):
        lines += ["", f"# {name}", *_listener(listener, configuration)]
    whole = "\n".join(lines) + "\n"
    if any(not line.isprintable() for line in lines):
        raise ValueError("a path or name holds a control character")
    return whole


def _listener(listener: Listener, configuration: Configuration) -> list[str]:
    lines = [
        f"listener {listener.port} {listener.host}",
        f"max_connections {listener.connections}",
        "max_qos 1",
        f"cafile {listener.authority}",
        f"certfile {configuration.certificate}",
        f"keyfile {configuration.key}",
        "tls_version tlsv1.2",
        f"ciphers {CIPHERS}",
        "require_certificate true",
        "use_subject_as_username true",
        "use_username_as_clientid true",
    ]
    return lines + ([f"crlfile {listener.crl}"] if listener.crl else [])
