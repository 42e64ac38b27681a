"""Who may publish and receive what, in the one form that both brokers take: the text of mosquitto's `acl_file`. Pure.

A user is the subject of a client certificate as RFC 2253 writes it, never a name that the client chose:

    CN=<EUI>,OU=<batch>               a device; its issuing key is bound to the OU: it names no device of another batch
    CN=<name>,O=Sealband services     ingest, a gateway bridge: another kind of subject, which no issuing key can make

Devices' lines come from the registry (`host_tools.ingest.broker_list`), services' from here. What no line allows is
refused, also whoever has no line. A subscription may be granted that is wider than the lines; messages pass one by one.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.x509.oid import NameOID

from host_tools.courier import topics
from host_tools.gateway.envelope import UPLINK_FILTER, EnvelopeError, checked_gateway

SERVICES = "Sealband services"  # the organisation in services' subjects
ALL_GATEWAYS = "all"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_WORDS = {"read": (True, False), "write": (False, True), "readwrite": (True, True)}


class RulesError(Exception):
    """A rule cannot be made or read."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


@dataclass(frozen=True)
class Client:
    """What one user may do.

    Attributes:
        user: its certificate's subject.
        publish, receive: topic filters.
    """

    user: str
    publish: tuple[str, ...]
    receive: tuple[str, ...]


@dataclass(frozen=True)
class Rules:
    """Everybody's rules."""

    clients: dict[str, Client] = field(default_factory=dict)

    def may_publish(self, user: str | None, topic: str) -> bool:
        """Whether this user's message on this topic is passed on."""
        client = self.clients.get(user or "")
        return client is not None and any(matches(each, topic) for each in client.publish)

    def may_receive(self, user: str | None, topic: str) -> bool:
        """Whether this user gets messages of this topic."""
        client = self.clients.get(user or "")
        return client is not None and any(matches(each, topic) for each in client.receive)


def service_name(name: str) -> str:
    """The same name, or RulesError."""
    if not _NAME.fullmatch(name):
        raise RulesError(f"{name!r} is no service's name", "use 1 to 32 small letters, digits and hyphens")
    return name


def service_user(name: str) -> str:
    """The user that a service with this name is."""
    return f"CN={service_name(name)},O={SERVICES}"


def service_subject(name: str) -> x509.Name:
    """The subject of its certificate."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, SERVICES),
            x509.NameAttribute(NameOID.COMMON_NAME, service_name(name)),
        ]
    )


def ingest(name: str) -> Client:
    """A worker that opens frames: reads all that comes up, writes all that goes down."""
    return Client(
        service_user(name),
        ("sb/v1/d/+/down", "sb/v1/gw/+/down", topics.DOWNLINK_FILTER),
        ("sb/v1/d/+/up", UPLINK_FILTER, topics.UPLINK_FILTER),
    )


def courier(name: str, number: str) -> Client:
    """A courier: what it carries, and the answers to it.

    Args:
        number: its own, 16 hex digits (`sealband courier id`).

    Raises:
        RulesError: the name or the number is none.
    """
    if topics.courier_of(topics.uplink_topic(number)) != number:
        raise RulesError(f"{number!r} is no courier's number", "give the 16 hex digits that `sealband courier id` says")
    return Client(service_user(name), (topics.uplink_topic(number),), (topics.downlink_topic(number),))


def bridge(name: str, gateways: Iterable[str], *, pass_on: bool = False) -> Client:
    """A gateway bridge: what comes up from its own gateways and goes down to them, and nothing else.

    Args:
        gateways: EUIs as 16 hex digits; `ALL_GATEWAYS` alone is every gateway.
        pass_on: it may also hand a downlink that its gateway refused to any other gateway.

    Raises:
        RulesError: a name or EUI is none, or there is no gateway.
    """
    listed = sorted(set(gateways))
    if listed == [ALL_GATEWAYS]:
        listed = ["+"]
    else:
        for gateway in listed:
            try:
                checked_gateway(gateway)
            except EnvelopeError:
                raise RulesError(f"{gateway!r} is no gateway's EUI", "give 16 hex digits, small letters") from None
    if not listed:
        raise RulesError(f"the bridge {name} has no gateway", f"name its gateways, or {ALL_GATEWAYS}")
    pairs = [(f"sb/v1/gw/{gateway}/up", f"sb/v1/gw/{gateway}/down") for gateway in listed]
    publish = tuple(up for up, _ in pairs) + (("sb/v1/gw/+/down",) if pass_on else ())
    return Client(service_user(name), publish, tuple(down for _, down in pairs))


def acl(clients: Iterable[Client]) -> str:
    """These users' lines for `acl_file`."""
    lines: list[str] = []
    for client in clients:
        lines += [f"user {client.user}"]
        lines += [f"topic write {each}" for each in client.publish]
        lines += [f"topic read {each}" for each in client.receive]
        lines += [""]
    return "\n".join(lines)


def parse(text: str) -> Rules:
    """The rules of an `acl_file` that consists of what this project writes.

    Raises:
        RulesError: a line is something else.
    """
    found: dict[str, tuple[list[str], list[str]]] = {}
    user = None
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        access, _, topic = rest.partition(" ")
        if word == "user" and rest:
            user = rest
            found.setdefault(user, ([], []))
        elif word == "topic" and access in _WORDS and topic and user is not None:
            for wanted, filters in zip(_WORDS[access], reversed(found[user]), strict=True):
                if wanted:
                    filters.append(topic)
        else:
            raise RulesError(f"line {number} of the rules is not understood", "write them anew: sealband broker config")
    return Rules({name: Client(name, tuple(write), tuple(read)) for name, (write, read) in found.items()})


def user_of(subject: x509.Name) -> str | None:
    """The user that a certificate's subject is, as mosquitto names it; None for a subject that is not like ours."""
    parts = [list(each) for each in subject.rdns]
    if len(parts) != 2 or any(len(each) != 1 for each in parts):
        return None
    (kind,), (name,) = parts
    letters = {NameOID.ORGANIZATIONAL_UNIT_NAME: "OU", NameOID.ORGANIZATION_NAME: "O"}.get(kind.oid)
    if letters is None or name.oid != NameOID.COMMON_NAME:
        return None
    values = (str(name.value), str(kind.value))
    # nothing of ours needs an escape, and what needs one could be read as something that it is not
    if any(not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_. -]*(?<! )", value) for value in values):
        return None
    return f"CN={values[0]},{letters}={values[1]}"


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a topic lies in a filter (MQTT 3.1.1 section 4.7)."""
    wanted, given = topic_filter.split("/"), topic.split("/")
    if topic.startswith("$") and not topic_filter.startswith("$"):
        return False
    for index, level in enumerate(wanted):
        if level == "#":
            return True
        if index >= len(given) or level not in ("+", given[index]):
            return False
    return len(wanted) == len(given)
