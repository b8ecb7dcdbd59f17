"""Says in one sentence why a broker cannot be used: it does not answer, TLS fails, or it refuses the user."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any

from aiokafka import errors as kafka
from aiokafka.client import collect_hosts
from aiokafka.conn import create_conn
from aiokafka.protocol.metadata import MetadataRequest

from headrace.streams.errors import ConfigError, UnavailableError
from headrace.streams.settings import Settings
from headrace.streams.topics.connection import connection

#: Longest time of the connection that finds out why one failed.
ASK_S = 2.0
#: OpenSSL's codes of certificates that no trusted CA has signed, and of those for another host or address.
_UNTRUSTED, _OTHER_HOST = {2, 18, 19, 20, 21}, {62, 64}
_ON_WHAT: dict[type[BaseException], str] = {
    kafka.TopicAuthorizationFailedError: "topic",
    kafka.GroupAuthorizationFailedError: "group",
    kafka.ClusterAuthorizationFailedError: "the cluster",
    kafka.TransactionalIdAuthorizationFailed: "transaction",
}


def who(settings: Settings) -> str:
    """Return as whom we come, for messages."""
    if settings.kafka_protocol.startswith("SASL") and settings.kafka_user:
        return f"the user {settings.kafka_user}"
    if settings.kafka_cert_file:
        return "this client certificate"
    return "this client"


def or_hidden(settings: Settings) -> str:
    """Return what to add to "there is no ..." where Kafka hides what a user may not see."""
    return "" if settings.kafka_protocol == "PLAINTEXT" else f", or {who(settings)} may not see it"


def refusal(settings: Settings, exc: BaseException) -> str:
    """Return what the user may not do, when that is what an error says; else an empty text. Pure."""
    for kind, what in _ON_WHAT.items():
        if isinstance(exc, kind):
            named = exc.args[0] if exc.args else ""
            names = ", ".join(sorted(named)) if isinstance(named, (set, frozenset, list, tuple)) else named
            on = f"{what} {names}" if names and what != "the cluster" else what
            return (
                f"Kafka at {settings.brokers} refuses {who(settings)}: not allowed for {on.strip()} "
                "(`headrace acls` prints what each role needs)"
            )
    return ""


async def unavailable(settings: Settings, exc: BaseException) -> UnavailableError:
    """Return the error for a broker that failed with ``exc``; find out why it did.

    aiokafka only logs why it cannot connect. So this connects once more, for at most ``ASK_S`` seconds.
    """
    if isinstance(exc, ConfigError):  # it was right at the start: a file is being written anew
        return UnavailableError(str(exc))
    if text := refusal(settings, exc):
        return UnavailableError(text)
    if isinstance(exc, kafka.KafkaConnectionError) and (text := await _why(settings)):
        return UnavailableError(text)
    return UnavailableError(f"no Kafka broker answers at {settings.brokers}: {exc or type(exc).__name__}")


async def _why(settings: Settings) -> str:
    """Return why the first broker that can be reached is of no use; empty when none can be reached."""
    try:
        how = connection(settings)
    except ConfigError as exc:  # a file is being written anew
        return str(exc)
    hosts = collect_hosts(how.pop("bootstrap_servers"), randomize=False)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ASK_S):
            for host, port, _ in hosts:
                if text := await _refuses(settings, host, port, how):
                    return text
    return ""


async def _refuses(settings: Settings, host: str, port: int, how: dict[str, Any]) -> str:
    """Return why a broker is of no use; empty when it is, or cannot be reached."""
    try:
        opened = await create_conn(host, port, **how)
        try:
            # The first request that a listener with SASL refuses to others.
            await opened.send(MetadataRequest([]))
        finally:
            opened.close()
    except (OSError, EOFError, kafka.KafkaError, AssertionError, ValueError) as exc:
        return reason(settings, f"{host}:{port}", exc)
    return ""


def reason(settings: Settings, address: str, exc: BaseException) -> str:
    """Return what an error of a connection means for the settings; empty when nobody listens. Pure."""
    cause: BaseException | None = exc
    while cause is not None and not isinstance(cause, ssl.SSLError | ConfigError):
        cause = cause.__cause__
    if isinstance(cause, ConfigError):  # the token cannot be read
        return str(cause)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"TLS with {address} fails: {_certificate(cause)}"
    if isinstance(cause, ssl.SSLError):
        text = f"TLS with {address} fails: {(cause.reason or str(cause)).replace('_', ' ').lower()}"
        return text + (" (HEADRACE_KAFKA_CERT_FILE)" if "CERTIFICATE" in (cause.reason or "") else "")
    if isinstance(exc, kafka.SaslAuthenticationFailed | kafka.AuthenticationFailedError):
        proof = "token" if settings.kafka_mechanism == "OAUTHBEARER" else "password"
        return (
            f"the broker at {address} does not let {who(settings)} in by {settings.kafka_mechanism}: "
            f"unknown user or wrong {proof}"
        )
    if isinstance(exc, kafka.UnsupportedSaslMechanismError | kafka.IllegalSaslStateError):
        return f"the broker at {address} takes no HEADRACE_KAFKA_MECHANISM={settings.kafka_mechanism} here"
    if isinstance(exc, kafka.KafkaError | ConnectionResetError | EOFError):
        return (
            f"no Kafka broker answers at {address}: it hangs up on HEADRACE_KAFKA_PROTOCOL="
            f"{settings.kafka_protocol}"
        )
    return ""


def _certificate(exc: ssl.SSLCertVerificationError) -> str:
    if exc.verify_code in _OTHER_HOST:
        return f"{exc.verify_message}: use a name that is in it, or set HEADRACE_KAFKA_CHECK_HOSTNAME=false"
    hint = " (HEADRACE_KAFKA_CA_FILE)" if exc.verify_code in _UNTRUSTED else ""
    return f"its certificate is not trusted: {exc.verify_message}{hint}"
