"""The embedded broker with the rules that mosquitto gets: amqtt over TLS, a client being its certificate.

Reads the folder that `sealband broker config` writes, and keeps to it: two listeners with an authority each, revocation
lists, rules by subject, longest packet, most connections. amqtt decides by the client id before anybody is known, so
the id is replaced by the subject before it sees it. Stricter than mosquitto where that costs nothing: who has no rule
is refused at once, nobody takes a shared message that they may not have, and `reload` ends sessions that are over.
"""

import asyncio
import ssl
from pathlib import Path
from typing import Any

from amqtt.adapters import ReaderAdapter, WriterAdapter
from amqtt.contexts import Action, BrokerConfig, ListenerConfig
from amqtt.errors import MQTTError
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.session import Session
from cryptography import x509

from host_tools.broker import folder as folders
from host_tools.broker import rules, trust
from host_tools.broker.folder import Settings
from host_tools.broker.sharing import SharingBroker

SUBSCRIPTIONS_MAX = 16  # of one client
CONNECT_S = 10.0  # for its first packet
DEVICES, SERVICES = "devices", "default"  # amqtt wants one that is called default


class GuardedBroker(SharingBroker):
    """amqtt that judges by certificates.

    Args:
        folder: what `sealband broker config` wrote.
        settings: of that folder.
    """

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._limits = settings.limits
        self._most = {DEVICES: settings.limits.devices, SERVICES: settings.limits.services}
        self._contexts: list[ssl.SSLContext] = []
        own = {"certfile": str(folder / folders.CERTIFICATE), "keyfile": str(folder / folders.KEY), "ssl": True}
        listeners = {
            SERVICES: (settings.services_listen, folders.SERVICES_CA),
            DEVICES: (settings.listen, folders.DEVICES_CA),
        }
        super().__init__(
            BrokerConfig.from_dict(
                {
                    "listeners": {
                        name: {"type": "tcp", "bind": f"{host}:{port}", "cafile": str(folder / authority), **own}
                        for name, ((host, port), authority) in listeners.items()
                    },
                    "plugins": {},
                }
            )
        )
        self._read_rules()

    async def renew(self) -> None:
        """Read rules and revocation lists anew, and end the sessions of those that they let in no more."""
        self._read_rules()
        self._load_lists()
        revoked = {(each.issuer.public_bytes(), entry.serial_number) for each in self._lists() for entry in each}
        for session, handler in list(self._sessions.values()):
            certificate = _certificate(session.ssl_object)
            over = certificate is None or (certificate.issuer.public_bytes(), certificate.serial_number) in revoked
            if over or session.username not in self._rules.clients:
                await handler.handle_connection_closed()
                await handler.stop()

    def _read_rules(self) -> None:
        self._rules = rules.parse((self._folder / folders.RULES).read_text(encoding="utf-8"))

    def _lists(self) -> list[x509.CertificateRevocationList]:
        named = f"\ncrlfile {self._folder / folders.CRL}\n" in (self._folder / folders.CONF).read_text()
        return trust.split_lists((self._folder / folders.CRL).read_bytes()) if named else []

    def _load_lists(self) -> None:
        if self._lists():
            for context in self._contexts:
                context.load_verify_locations(self._folder / folders.CRL)
                context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF

    # who comes in

    def _create_ssl_context(self, listener: ListenerConfig) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(listener["certfile"], listener["keyfile"])
        context.load_verify_locations(listener["cafile"])
        if Path(listener["cafile"]).name == folders.DEVICES_CA:
            self._contexts.append(context)
            self._load_lists()
        return context

    async def _client_connected(self, listener_name: str, reader: ReaderAdapter, writer: WriterAdapter) -> None:
        server = self._servers.get(listener_name)
        if server is not None and server.conn_count >= self._most[listener_name]:
            await writer.close()
            return
        await super()._client_connected(listener_name, _Bounded(reader, self._limits.packet), writer)

    async def _initialize_client_session(
        self, reader: ReaderAdapter, writer: WriterAdapter, remote_address: str, remote_port: int
    ) -> tuple[BrokerProtocolHandler, Session]:
        try:
            handler, session = await asyncio.wait_for(
                BrokerProtocolHandler.init_from_connect(reader, writer, self.plugins_manager), CONNECT_S
            )
        except (TimeoutError, _TooLong):
            await writer.close()
            raise MQTTError("no CONNECT") from None
        certificate = _certificate(writer.get_ssl_info())
        user = rules.user_of(certificate.subject) if certificate else None
        will = session.will_topic if session.will_flag else None
        if user is None or user not in self._rules.clients or (will and not self._rules.may_publish(user, will)):
            await _refuse(handler, session, reader, writer)
            raise MQTTError("not authorised")
        session.client_id = session.username = user
        before = self._sessions[user][0] if user in self._sessions else None
        if before is not None and (session.clean_session or before.clean_session):
            await self._delete_session(user)
        elif before is not None:
            # what it subscribed to stays; everything else is of this connection
            for name in ("will_flag", "will_message", "will_topic", "will_qos", "keep_alive", "ssl_object"):
                setattr(before, name, getattr(session, name))
            before.parent = 1
            return handler, before
        session.parent = 0
        return handler, session

    async def _authenticate(self, session: Session, _: ListenerConfig) -> bool:
        return session.username in self._rules.clients

    # what passes

    async def _topic_filtering(self, session: Session, topic: str, action: Action) -> bool:
        if action is Action.PUBLISH:
            return self._rules.may_publish(session.username, topic)
        if action is Action.RECEIVE:
            return self._rules.may_receive(session.username, topic)
        held = sum(any(one is session for one, _ in each) for each in self._subscriptions.values())
        return held < SUBSCRIPTIONS_MAX

    def _may_receive(self, session: Any, topic: str) -> bool:
        return self._rules.may_receive(session.username, topic)

    async def retain_message(self, *_: Any, **__: Any) -> None:
        """Nothing is retained, as at the mosquitto that is configured here."""


class _TooLong(Exception):
    """A packet has a part that is longer than is allowed. No error of amqtt's, or it would go on reading."""


class _Bounded(ReaderAdapter):  # type: ignore[misc]
    """A connection that ends where a packet has a part longer than is allowed, before that is read."""

    def __init__(self, reader: ReaderAdapter, most: int) -> None:
        self._reader = reader
        self._most = most

    async def read(self, n: int = -1) -> bytes:
        if n > self._most:
            raise _TooLong
        read: bytes = await self._reader.read(n)
        return read

    def feed_eof(self) -> None:
        self._reader.feed_eof()


async def _refuse(
    handler: BrokerProtocolHandler, session: Session, reader: ReaderAdapter, writer: WriterAdapter
) -> None:
    """Answer "not authorised" (MQTT 3.1.1 section 3.2.2.3) and close."""
    session.parent = 0
    handler.attach(session, reader, writer)
    await handler.mqtt_connack_authorize(False)
    await writer.close()


def _certificate(link: ssl.SSLObject | None) -> x509.Certificate | None:
    der = link.getpeercert(binary_form=True) if link is not None else None
    return x509.load_der_x509_certificate(der) if der else None
