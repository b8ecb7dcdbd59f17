"""How every client of Kafka connects: addresses and security, as arguments for aiokafka and for Faust."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import OAuthAuthenticator
from aiokafka.errors import AuthenticationFailedError, KafkaConnectionError
from aiokafka.protocol.admin import SaslAuthenticateRequest

from headrace.streams.errors import ConfigError
from headrace.streams.secured import kafka_tls, read_secret, secret_of
from headrace.streams.settings import Settings


def connection(settings: Settings) -> dict[str, Any]:
    """Return the arguments that each client of aiokafka gets: ``AIOKafkaProducer(**connection(settings))``.

    Files with secrets and certificates are read again, so a new connection uses what is in them now.

    Raises
    ------
    ConfigError
        When such a file cannot be read any more.
    """
    return {"bootstrap_servers": settings.brokers.split(","), **_security(settings)}


def _security(settings: Settings) -> dict[str, Any]:
    protocol = settings.kafka_protocol
    out: dict[str, Any] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        out["ssl_context"] = kafka_tls(settings)
    if protocol.startswith("SASL"):
        out["sasl_mechanism"] = settings.kafka_mechanism
        if settings.kafka_mechanism == "OAUTHBEARER":
            out["sasl_oauth_token_provider"] = TokenFile(settings.kafka_token_file)
        else:
            out["sasl_plain_username"] = settings.kafka_user
            out["sasl_plain_password"] = secret_of(settings, "kafka_password")
    return out


def faust_credentials(settings: Settings) -> Any:
    """Return the same for Faust's setting ``broker_credentials``; None without security."""
    from faust.auth import OAuthCredentials, SASLCredentials, SSLCredentials

    told = _security(settings)
    tls = told.get("ssl_context")
    if "sasl_oauth_token_provider" in told:
        return OAuthCredentials(oauth_cb=told["sasl_oauth_token_provider"], ssl_context=tls)
    if "sasl_mechanism" in told:
        return SASLCredentials(
            mechanism=told["sasl_mechanism"],
            username=told["sasl_plain_username"],
            password=told["sasl_plain_password"],
            ssl_context=tls,
        )
    return None if tls is None else SSLCredentials(tls)


class TokenFile(AbstractTokenProvider):  # type: ignore[misc]
    """The token in a file. Whoever renews it writes the file; each new connection reads it."""

    def __init__(self, path: str) -> None:
        self._path = path

    async def token(self) -> str:
        """Return the token.

        Raises
        ------
        KafkaConnectionError
            When the file cannot be read now: aiokafka tries to connect again, as after any other failure.
        """
        try:
            text = await asyncio.to_thread(read_secret, "HEADRACE_KAFKA_TOKEN_FILE", self._path)
        except ConfigError as exc:
            raise KafkaConnectionError(str(exc)) from exc
        return text.strip()


async def _step(authenticator: Any, payload: bytes | None) -> tuple[bytes, bool] | None:
    """Take the next step of OAUTHBEARER; as aiokafka, which takes every answer of the broker for a yes.

    A broker that refuses a token says so in its answer, and then wants one more byte (RFC 7628, 3.2.3).
    """
    if authenticator._token_sent and payload:
        if hasattr(authenticator, "_refused"):  # it should have hung up
            raise AuthenticationFailedError("the broker refuses the token")
        authenticator._refused = True
        return b"\x01", True
    step: tuple[bytes, bool] | None = await _aiokafkas_step(authenticator, payload)
    return step


_aiokafkas_step = OAuthAuthenticator.step
OAuthAuthenticator.step = _step


class _NoSecrets(logging.Filter):
    """Leaves out the lines in which aiokafka shows, at the level DEBUG, what it sends to authenticate."""

    def filter(self, record: logging.LogRecord) -> bool:
        args = record.args if isinstance(record.args, tuple) else ()
        return all(getattr(arg, "API_KEY", None) != SaslAuthenticateRequest.API_KEY for arg in args)


logging.getLogger("aiokafka.conn").addFilter(_NoSecrets())
