"""Settings of how connections to Kafka and Redis are secured: a part of ``Settings``, checked early."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from headrace.streams.errors import ConfigError
from headrace.streams.tls import tls_context

#: Fields that have no meaning without TLS, and without SASL.
_OF_TLS = ("ca_file", "cert_file", "key_file", "key_password", "key_password_file")
_OF_SASL = ("user", "password", "password_file", "token_file")
#: A host name, an IPv4 address, or an IPv6 address in brackets; the port may be left out.
_ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")
SENTINEL_PORT, REDIS_PORT = 26379, 6379


def addresses(text: str) -> list[str]:
    """Return addresses that are separated by commas; an empty list when one is none."""
    found = [address.strip() for address in text.split(",") if address.strip()]
    return found if all(map(_is_address, found)) else []


def _is_address(text: str) -> bool:
    match = _ADDRESS.fullmatch(text)
    return match is not None and (match[2] is None or 1 <= int(match[2][1:]) <= 65_535)


class SecuritySettings(BaseSettings):
    """How to get into Kafka and Redis. A secret is in a variable, or in the file that ``..._file`` names."""

    # Of Settings as a whole; an error has no values in it, for one of them may be a secret.
    model_config = SettingsConfigDict(
        env_prefix="HEADRACE_", frozen=True, extra="forbid", hide_input_in_errors=True
    )

    kafka_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="as Kafka's security.protocol"
    )
    kafka_ca_file: str = Field("", description="PEM file of the CAs that are trusted; empty: the system's")
    kafka_cert_file: str = Field("", description="PEM file of the client's certificate, and its chain")
    kafka_key_file: str = Field("", description="PEM file of the key of this certificate")
    kafka_key_password: str = Field("", description="password of this key", repr=False)
    kafka_key_password_file: str = Field("", description="file with it, instead of it")
    kafka_check_hostname: bool = Field(
        True, description="the broker's certificate must have the name by which the broker is reached"
    )
    kafka_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        "SCRAM-SHA-512", description="as Kafka's sasl.mechanism"
    )
    kafka_user: str = Field("", description="user of SASL")
    kafka_password: str = Field("", description="its password", repr=False)
    kafka_password_file: str = Field("", description="file with this password, instead of it")
    kafka_token_file: str = Field(
        "", description="file with the token of OAUTHBEARER, read again for every connection"
    )

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        description="online store: redis://host:port/db, rediss:// with TLS, or unix:///path?db=0",
        repr=False,  # it may have a password
    )
    redis_user: str = Field("", description="ACL user of Redis; empty: the user default")
    redis_password: str = Field("", description="its password", repr=False)
    redis_password_file: str = Field("", description="file with this password, instead of it")
    redis_ca_file: str = Field("", description="as for Kafka, with rediss://")
    redis_cert_file: str = Field("", description="as for Kafka, with rediss://")
    redis_key_file: str = Field("", description="as for Kafka, with rediss://")
    redis_check_hostname: bool = Field(True, description="as for Kafka, with rediss://")

    redis_sentinels: str = Field(
        "", description="addresses of Sentinel; the host in redis_url is then the name of its master"
    )
    redis_sentinel_password: str = Field("", description="password of Sentinel itself", repr=False)
    redis_sentinel_password_file: str = Field("", description="file with it, instead of it")
    redis_cluster: str = Field(
        "", description="addresses of some nodes of a Redis Cluster; redis_url is then redis:// or rediss://"
    )

    @field_validator("redis_sentinels", "redis_cluster")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        if value.strip() and not addresses(value):
            raise ValueError("write host:port, comma-separated")
        return ",".join(addresses(value))

    @field_validator("kafka_protocol", "kafka_mechanism", mode="before")
    @classmethod
    def _capitals(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    # Checks of several fields raise ConfigError, which pydantic passes on. Its own error would have all
    # values in it, also the secrets.
    @model_validator(mode="after")
    def _get_in(self) -> Self:
        """Refuse what cannot work, or would be ignored; read every file once."""
        protocol, mechanism = self.kafka_protocol, self.kafka_mechanism
        with_tls, with_sasl = "SSL" in protocol.split("_"), protocol.startswith("SASL")
        for used, names, what in ((with_tls, _OF_TLS, "TLS"), (with_sasl, _OF_SASL, "SASL")):
            if not used and (set_ := [name for name in names if getattr(self, f"kafka_{name}")]):
                raise ConfigError(
                    f"{_variable(set_[0])} is set, and HEADRACE_KAFKA_PROTOCOL={protocol} is without {what}"
                )
        if with_tls:
            kafka_tls(self)
        if with_sasl:
            self._check_sasl(mechanism)
        return self

    @model_validator(mode="after")
    def _get_into_redis(self) -> Self:
        """Refuse what cannot work, or would be ignored; read every file once."""
        try:
            parts = urlsplit(self.redis_url)
            _ = parts.port
        except ValueError:  # the text of the error may have a part of the password
            raise ConfigError(
                "HEADRACE_REDIS_URL is wrong: redis://host:port/db, rediss:// or unix:///path is expected; "
                "special characters of a password are written %23 for #, %2F for /"
            ) from None
        if parts.scheme != "rediss":
            given = [name for name in ("ca_file", "cert_file", "key_file") if getattr(self, f"redis_{name}")]
            given += [] if self.redis_check_hostname else ["check_hostname"]
            if given:
                variable = f"HEADRACE_REDIS_{given[0].upper()}"
                raise ConfigError(f"{variable} is set, and HEADRACE_REDIS_URL is not rediss://")
        redis_tls(self)
        if self.redis_sentinels and (parts.scheme not in ("redis", "rediss") or not master_of(self)):
            raise ConfigError(
                "with HEADRACE_REDIS_SENTINELS, HEADRACE_REDIS_URL must be redis://NAME/db, or rediss://, "
                "with the name of the master, without a port"
            )
        if self.redis_cluster:
            self._check_cluster(parts)
        if secret_of(self, "redis_sentinel_password") and not self.redis_sentinels:
            raise ConfigError("HEADRACE_REDIS_SENTINEL_PASSWORD needs HEADRACE_REDIS_SENTINELS")
        password = secret_of(self, "redis_password")
        if self.redis_user and not password:
            raise ConfigError("HEADRACE_REDIS_USER needs HEADRACE_REDIS_PASSWORD, or ..._PASSWORD_FILE")
        if password and (parts.password or "password" in parse_qs(parts.query)):
            raise ConfigError("HEADRACE_REDIS_URL has a password, and HEADRACE_REDIS_PASSWORD is set, too")
        if self.redis_user and (parts.username or "username" in parse_qs(parts.query)):
            raise ConfigError("HEADRACE_REDIS_URL has a user, and HEADRACE_REDIS_USER is set, too")
        return self

    def _check_cluster(self, parts: SplitResult) -> None:
        if self.redis_sentinels:
            raise ConfigError("set HEADRACE_REDIS_SENTINELS or HEADRACE_REDIS_CLUSTER, not both")
        given = self.redis_url != type(self).model_fields["redis_url"].default
        named = parts.netloc.rpartition("@")[2] or parts.path.strip("/")
        if parts.scheme not in ("redis", "rediss") or (given and named) or "db" in parse_qs(parts.query):
            raise ConfigError(
                "with HEADRACE_REDIS_CLUSTER, HEADRACE_REDIS_URL must be redis:// or rediss://, without host "
                "and database"
            )

    def _check_sasl(self, mechanism: str) -> None:
        by_token = mechanism == "OAUTHBEARER"
        others = ("user", "password", "password_file") if by_token else ("token_file",)
        if unused := [name for name in others if getattr(self, f"kafka_{name}")]:
            raise ConfigError(f"{_variable(unused[0])} is not used by HEADRACE_KAFKA_MECHANISM={mechanism}")
        needs = f"HEADRACE_KAFKA_MECHANISM={mechanism} needs HEADRACE_KAFKA_"
        if by_token:
            if not self.kafka_token_file:
                raise ConfigError(f"{needs}TOKEN_FILE")
            read_secret("HEADRACE_KAFKA_TOKEN_FILE", self.kafka_token_file)
            return
        if not self.kafka_user:
            raise ConfigError(f"{needs}USER")
        if not secret_of(self, "kafka_password"):
            raise ConfigError(f"{needs}PASSWORD, or HEADRACE_KAFKA_PASSWORD_FILE")


def _variable(name: str) -> str:
    return f"HEADRACE_KAFKA_{name.upper()}"


def kafka_tls(settings: SecuritySettings) -> ssl.SSLContext:
    """Return the TLS context of connections to Kafka.

    Raises
    ------
    ConfigError
        When a certificate has no key, or a file is not what it should be.
    """
    s = settings
    return tls_context(
        "HEADRACE_KAFKA",
        **pair("HEADRACE_KAFKA", s.kafka_cert_file, s.kafka_key_file),
        ca=s.kafka_ca_file,
        password=secret_of(s, "kafka_key_password"),
        check_hostname=s.kafka_check_hostname,
    )


def redis_tls(settings: SecuritySettings) -> ssl.SSLContext | None:
    """Return the TLS context of connections to Redis; None where the settings name none of its own.

    Raises
    ------
    ConfigError
        As ``kafka_tls``.
    """
    s = settings
    if s.redis_check_hostname and not (s.redis_ca_file or s.redis_cert_file or s.redis_key_file):
        return None
    files = pair("HEADRACE_REDIS", s.redis_cert_file, s.redis_key_file)
    return tls_context("HEADRACE_REDIS", **files, ca=s.redis_ca_file, check_hostname=s.redis_check_hostname)


def sentinels_of(settings: SecuritySettings) -> list[tuple[str, int]]:
    """Return host and port of every Sentinel."""
    return _hosts_and_ports(settings.redis_sentinels, SENTINEL_PORT)


def cluster_of(settings: SecuritySettings) -> list[tuple[str, int]]:
    """Return host and port of the nodes of a Redis Cluster that the settings name."""
    return _hosts_and_ports(settings.redis_cluster, REDIS_PORT)


def _hosts_and_ports(text: str, port: int) -> list[tuple[str, int]]:
    parts = [urlsplit(f"//{address}") for address in addresses(text)]
    return [(part.hostname or "", part.port or port) for part in parts]


def master_of(settings: SecuritySettings) -> str:
    """Return the name of the master that Sentinel is asked for; empty for an address with a port."""
    name = urlsplit(settings.redis_url).netloc.rpartition("@")[2]  # as it is written: capitals count
    return "" if ":" in name else unquote(name)


def pair(name: str, cert: str, key: str) -> dict[str, str]:
    """Return a certificate and its key as arguments of ``tls_context``; raise ConfigError for one alone."""
    if bool(cert) != bool(key):
        has, lacks = ("CERT", "KEY") if cert else ("KEY", "CERT")
        raise ConfigError(f"{name}_{has}_FILE needs {name}_{lacks}_FILE, too")
    return {"cert": cert, "key": key}


def secret_of(settings: BaseSettings, name: str) -> str:
    """Return a secret: the setting ``name``, or what is in the file ``<name>_file``; empty without both.

    Raises
    ------
    ConfigError
        When both are set, or the file cannot be read or is empty. The message never has the secret.
    """
    value, file = str(getattr(settings, name)), str(getattr(settings, f"{name}_file"))
    variable = f"HEADRACE_{name.upper()}"
    if not file:
        return value
    if value:
        raise ConfigError(f"set {variable} or {variable}_FILE, not both")
    return read_secret(f"{variable}_FILE", file)


def read_secret(variable: str, path: str) -> str:
    """Return the text in a file, without the end of its last line.

    Raises
    ------
    ConfigError
        When it cannot be read or is empty; the message names the variable.
    """
    try:
        text = Path(path).read_text("utf-8").rstrip("\r\n")
    except OSError as exc:
        raise ConfigError(f"{variable}={path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError:  # its message would quote the file
        raise ConfigError(f"{variable}={path} cannot be read: it is not UTF-8") from None
    if not text.strip():
        raise ConfigError(f"{variable}={path} is empty")
    return text
