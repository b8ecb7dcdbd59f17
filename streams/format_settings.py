"""Settings of what events look like, and of the schema registry: a part of ``Settings``, checked early."""

from __future__ import annotations

import ssl
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from headrace.streams.errors import ConfigError
from headrace.streams.secured import SecuritySettings, pair, read_secret, secret_of
from headrace.streams.tls import tls_context

_OF_TLS = ("ca_file", "cert_file", "key_file")


class FormatSettings(SecuritySettings):
    """What events look like. A secret is in a variable, or in the file that ``..._file`` names."""

    max_event_bytes: int = Field(
        65_536, ge=256, description="larger events, items, requests are dead letters"
    )
    events_format: Literal["json", "detect"] = Field(
        "json",
        description="detect: a record of events may also be a CloudEvent, or Avro or Protobuf of a registry",
    )
    events_mapping: str = Field(
        "", description="file that turns other people's JSON events into ours; empty: they must be ours"
    )
    registry_url: str = Field(
        "", description="schema registry of Avro and Protobuf: http://host:port or https://, Confluent's API"
    )
    registry_user: str = Field("", description="user of the registry (HTTP basic); empty: none")
    registry_password: str = Field("", description="its password", repr=False)
    registry_password_file: str = Field("", description="file with this password, instead of it")
    registry_token_file: str = Field("", description="file with a bearer token, instead of user and password")
    registry_ca_file: str = Field("", description="as for Kafka, with https://")
    registry_cert_file: str = Field("", description="as for Kafka, with https://")
    registry_key_file: str = Field("", description="as for Kafka, with https://")

    @model_validator(mode="after")
    def _get_schemas(self) -> Self:
        """Refuse what cannot work, or would be ignored; read every file of secrets once."""
        parts = urlsplit(self.registry_url)
        if "@" in parts.netloc:
            raise ConfigError("HEADRACE_REGISTRY_URL has a user in it: use HEADRACE_REGISTRY_USER")
        if self.registry_url and (parts.scheme not in ("http", "https") or not parts.hostname or parts.query):
            raise ConfigError("HEADRACE_REGISTRY_URL: write http://host:port or https://host:port")
        if self.registry_url and self.events_format != "detect":
            raise ConfigError("HEADRACE_REGISTRY_URL needs HEADRACE_EVENTS_FORMAT=detect")
        if parts.scheme != "https" and (given := [n for n in _OF_TLS if getattr(self, f"registry_{n}")]):
            raise ConfigError(
                f"HEADRACE_REGISTRY_{given[0].upper()} is set, and HEADRACE_REGISTRY_URL is not https://"
            )
        self._check_secrets()
        if parts.scheme == "https":
            registry_tls(self)
        return self

    def _check_secrets(self) -> None:
        password = secret_of(self, "registry_password")
        if bool(password) != bool(self.registry_user):
            raise ConfigError("HEADRACE_REGISTRY_USER and HEADRACE_REGISTRY_PASSWORD belong together")
        if not self.registry_token_file:
            return
        if self.registry_user:
            raise ConfigError("set HEADRACE_REGISTRY_USER or HEADRACE_REGISTRY_TOKEN_FILE, not both")
        read_secret("HEADRACE_REGISTRY_TOKEN_FILE", self.registry_token_file)


def registry_tls(settings: FormatSettings) -> ssl.SSLContext:
    """Return the TLS context of connections to the registry.

    Raises
    ------
    ConfigError
        As ``kafka_tls``.
    """
    s = settings
    files = pair("HEADRACE_REGISTRY", s.registry_cert_file, s.registry_key_file)
    return tls_context("HEADRACE_REGISTRY", ca=s.registry_ca_file, cert=files["cert"], key=files["key"])
