"""Settings of security: wrong ones are one line at the start, and secrets are never shown."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any

import pytest
from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import OAuthAuthenticator
from aiokafka.errors import AuthenticationFailedError
from aiokafka.protocol.admin import SaslAuthenticateRequest, SaslHandShakeRequest
from certificates import Authority
from command_line import run_headrace
from pydantic import ValidationError

from headrace.console.options import read_settings
from headrace.streams.errors import ConfigError
from headrace.streams.secured import cluster_of, kafka_tls, master_of, secret_of, sentinels_of
from headrace.streams.settings import Settings
from headrace.streams.topics.connection import connection, faust_credentials

SECRET = "open-sesame"  # noqa: S105 - of the tests
SCRAM = {"kafka_protocol": "SASL_SSL", "kafka_user": "me", "kafka_password": SECRET}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_without_security_nothing_changes() -> None:
    settings = Settings(brokers="a:1,b:2")
    assert connection(settings) == {"bootstrap_servers": ["a:1", "b:2"], "security_protocol": "PLAINTEXT"}
    assert faust_credentials(settings) is None


@pytest.mark.parametrize("mechanism", ["PLAIN", "scram-sha-256", "SCRAM-SHA-512"])
def test_a_user_with_a_password(mechanism: str, authority: Authority) -> None:
    settings = Settings(**SCRAM, kafka_mechanism=mechanism, kafka_ca_file=str(authority.ca))
    told = connection(settings)
    assert (told["security_protocol"], told["sasl_mechanism"]) == ("SASL_SSL", mechanism.upper())
    assert (told["sasl_plain_username"], told["sasl_plain_password"]) == ("me", SECRET)
    faust = faust_credentials(settings)
    assert (faust.protocol.value, faust.mechanism.value) == ("SASL_SSL", mechanism.upper())
    assert (faust.username, faust.password) == ("me", SECRET)
    assert faust.ssl_context is told["ssl_context"], "the context is made once"
    assert SECRET not in repr(faust)


def test_the_context_trusts_only_the_file_and_checks_names(authority: Authority) -> None:
    settings = Settings(kafka_protocol="SSL", kafka_ca_file=str(authority.ca))
    context = kafka_tls(settings)
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert [dict(part[0] for part in c["subject"]) for c in context.get_ca_certs()] == [{"commonName": "ca"}]
    lax = kafka_tls(settings.model_copy(update={"kafka_check_hostname": False}))
    assert (lax.check_hostname, lax.verify_mode) == (False, ssl.CERT_REQUIRED)
    assert context.check_hostname, "contexts of other settings stay as they are"


def test_a_file_that_was_replaced_is_read_again(authority: Authority, tmp_path: Path) -> None:
    settings = Settings(kafka_protocol="SSL", kafka_ca_file=str(authority.ca))
    before = kafka_tls(settings)
    assert kafka_tls(settings) is before
    Authority(tmp_path, "new").ca.replace(authority.ca)
    (found,) = kafka_tls(settings).get_ca_certs()
    assert dict(part[0] for part in found["subject"]) == {"commonName": "new"}


def test_a_secret_comes_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    given = {"kafka_protocol": "SASL_PLAINTEXT", "kafka_user": "me", "kafka_password_file": str(file)}
    settings = Settings(**given)
    assert connection(settings)["sasl_plain_password"] == SECRET
    assert SECRET not in repr(settings) + str(settings.model_dump()), "only its file is in the settings"
    file.write_text(f"{SECRET}2")
    assert connection(settings)["sasl_plain_password"] == f"{SECRET}2", "a new connection reads it again"
    file.unlink()
    with pytest.raises(ConfigError, match=r"HEADRACE_KAFKA_PASSWORD_FILE=.* cannot be read: No such file"):
        connection(settings)


def test_settings_do_not_show_secrets() -> None:
    settings = Settings(**SCRAM, redis_url=f"redis://:{SECRET}@h/0")
    assert SECRET not in repr(settings) + str(settings)


WRONG: list[tuple[dict[str, str], str]] = [
    ({"kafka_password": SECRET}, "HEADRACE_KAFKA_PASSWORD is set, and .*PROTOCOL=PLAINTEXT is without SASL"),
    ({"kafka_ca_file": "ca.pem"}, "HEADRACE_KAFKA_CA_FILE is set, and .*PROTOCOL=PLAINTEXT is without TLS"),
    ({"kafka_protocol": "SASL_PLAINTEXT", "kafka_ca_file": "ca.pem"}, "CA_FILE is set, .* without TLS"),
    ({"kafka_protocol": "SSL", "kafka_user": "me"}, "KAFKA_USER is set, .*PROTOCOL=SSL is without SASL"),
    ({"kafka_protocol": "SASL_SSL"}, "HEADRACE_KAFKA_MECHANISM=SCRAM-SHA-512 needs HEADRACE_KAFKA_USER"),
    (
        {"kafka_protocol": "SASL_SSL", "kafka_user": "me"},
        "needs HEADRACE_KAFKA_PASSWORD, or HEADRACE_KAFKA_PASSWORD_FILE",
    ),
    (SCRAM | {"kafka_password_file": "x"}, "set HEADRACE_KAFKA_PASSWORD or .*PASSWORD_FILE, not both"),
    (SCRAM | {"kafka_password": "", "kafka_password_file": "none"}, "PASSWORD_FILE=none cannot be read"),
    (SCRAM | {"kafka_password": "", "kafka_password_file": "empty"}, "PASSWORD_FILE=empty is empty"),
    (SCRAM | {"kafka_password": "", "kafka_password_file": "binary"}, "PASSWORD_FILE=binary .* not UTF-8"),
    (SCRAM | {"kafka_token_file": "x"}, "TOKEN_FILE is not used by HEADRACE_KAFKA_MECHANISM=SCRAM-SHA-512"),
    (SCRAM | {"kafka_mechanism": "OAUTHBEARER"}, "KAFKA_USER is not used by .*MECHANISM=OAUTHBEARER"),
    (
        {"kafka_protocol": "SASL_SSL", "kafka_mechanism": "OAUTHBEARER"},
        "MECHANISM=OAUTHBEARER needs HEADRACE_KAFKA_TOKEN_FILE",
    ),
    (SCRAM | {"kafka_mechanism": "GSSAPI"}, "HEADRACE_KAFKA_MECHANISM: .*SCRAM-SHA-256"),
    ({"kafka_protocol": "TLS"}, "HEADRACE_KAFKA_PROTOCOL: .*SASL_SSL"),
    ({"kafka_protocol": "SSL", "kafka_cert_file": "me.crt"}, "KAFKA_CERT_FILE needs HEADRACE_KAFKA_KEY_FILE"),
    ({"kafka_protocol": "SSL", "kafka_key_file": "me.key"}, "KAFKA_KEY_FILE needs HEADRACE_KAFKA_CERT_FILE"),
    ({"kafka_protocol": "SSL", "kafka_ca_file": "none"}, "HEADRACE_KAFKA_CA_FILE=none cannot be read"),
    ({"kafka_protocol": "SSL", "kafka_ca_file": "empty"}, "CA_FILE=empty has no certificates in PEM format"),
    (
        {"kafka_protocol": "SSL", "kafka_cert_file": "me.crt", "kafka_key_file": "other.key"},
        "CERT_FILE=me.crt and HEADRACE_KAFKA_KEY_FILE=other.key are not a certificate and its key",
    ),
    (
        {"kafka_protocol": "SSL", "kafka_cert_file": "me-locked.crt", "kafka_key_file": "me-locked.key"},
        "or the password of the key is wrong",
    ),
    ({"redis_ca_file": "ca.pem"}, "HEADRACE_REDIS_CA_FILE is set, and HEADRACE_REDIS_URL is not rediss://"),
    (
        {"redis_url": "rediss://h", "redis_cert_file": "me.crt"},
        "HEADRACE_REDIS_CERT_FILE needs HEADRACE_REDIS_KEY_FILE",
    ),
    ({"redis_url": "rediss://h", "redis_ca_file": "none"}, "HEADRACE_REDIS_CA_FILE=none cannot be read"),
    ({"redis_user": "me"}, "HEADRACE_REDIS_USER needs HEADRACE_REDIS_PASSWORD"),
    (
        {"redis_password": SECRET, "redis_password_file": "me.crt"},
        "set HEADRACE_REDIS_PASSWORD or .*not both",
    ),
    (
        {"redis_url": f"redis://:{SECRET}@h", "redis_password": SECRET},
        "HEADRACE_REDIS_URL has a password, and HEADRACE_REDIS_PASSWORD is set",
    ),
    (
        {"redis_url": f"redis://h?password={SECRET}", "redis_password": SECRET},
        "HEADRACE_REDIS_URL has a password",
    ),
    ({"redis_sentinels": "s:1"}, "HEADRACE_REDIS_URL must be redis://NAME/db, or rediss://"),
    ({"redis_sentinels": "s:1", "redis_url": "unix:///path"}, "HEADRACE_REDIS_URL must be redis://NAME/db"),
    ({"redis_sentinels": "redis://s:1"}, "HEADRACE_REDIS_SENTINELS: write host:port, comma-separated"),
    (
        {"redis_sentinels": "s:1", "redis_cluster": "r:1", "redis_url": "redis://shop"},
        "set HEADRACE_REDIS_SENTINELS or HEADRACE_REDIS_CLUSTER, not both",
    ),
    ({"redis_cluster": "redis://r:1"}, "HEADRACE_REDIS_CLUSTER: write host:port, comma-separated"),
    *(
        ({"redis_cluster": "r:1", "redis_url": url}, "HEADRACE_REDIS_URL must be redis:// or rediss://, with")
        for url in ("redis://r:1", "redis:///1", "rediss://r", "unix:///path")
    ),
    (
        {"redis_sentinel_password": SECRET},
        "HEADRACE_REDIS_SENTINEL_PASSWORD needs HEADRACE_REDIS_SENTINELS",
    ),
]


@pytest.mark.parametrize(("given", "says"), WRONG, ids=lambda part: part if isinstance(part, str) else "")
def test_what_cannot_work_is_one_line(
    given: dict[str, str],
    says: str,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    authority.sign("me")
    authority.sign("me", password=SECRET)
    authority.sign("other")
    Path("empty").touch()
    Path("binary").write_bytes(b"\xff" + SECRET.encode())
    for name, value in given.items():
        monkeypatch.setenv(f"HEADRACE_{name.upper()}", value)
    with pytest.raises(ConfigError, match=says):
        read_settings()
    assert run_headrace(monkeypatch, "lag") == 2
    err = capsys.readouterr().err
    assert err.startswith("headrace: ")
    assert err.count("\n") == 1
    assert SECRET not in err


def test_a_locked_key_is_opened(authority: Authority) -> None:
    cert, key = authority.sign("me", password=SECRET)
    files = {"kafka_cert_file": str(cert), "kafka_key_file": str(key)}
    assert kafka_tls(Settings(kafka_protocol="SSL", kafka_key_password=SECRET, **files))


def test_a_value_that_may_be_secret_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_DATA_URL", f"s3://key:{SECRET}@bucket")
    with pytest.raises(ConfigError) as wrong:
        read_settings()
    assert "HEADRACE_DATA_URL: keys are not in the URL" in str(wrong.value)
    assert SECRET not in str(wrong.value)


def test_pydantics_own_error_has_no_values() -> None:
    given: Any = {"kafka_protocol": "SASL", "kafka_password": SECRET, "partitions": SECRET}
    with pytest.raises(ValueError, match="kafka_protocol") as wrong:
        Settings(**given)
    assert SECRET not in str(wrong.value)


def test_aiokafkas_log_does_not_show_what_is_sent_to_authenticate(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "aiokafka.conn")
    log = logging.getLogger("aiokafka.conn")
    for request in (SaslHandShakeRequest("PLAIN"), SaslAuthenticateRequest(f"\0me\0{SECRET}".encode())):
        struct = request.prepare({request.API_KEY: (0, 1)})
        log.debug("Request to %s:%d %d: %s", "host", 1, 2, struct)
    assert len(caplog.records) == 1
    assert "PLAIN" in caplog.text
    assert SECRET not in caplog.text


def test_both_ways_of_a_secret() -> None:
    assert secret_of(Settings(), "gateway_token") == ""
    assert secret_of(Settings(gateway_token=SECRET), "gateway_token") == SECRET


def test_sentinel_is_asked_for_a_name_as_it_is_written() -> None:
    settings = Settings(redis_url="rediss://me:pw@Shop/3", redis_sentinels="a, [::1]:5 ,b:7")
    assert master_of(settings) == "Shop"
    assert sentinels_of(settings) == [("a", 26379), ("::1", 5), ("b", 7)]


@pytest.mark.parametrize("url", ["", "redis://", "rediss://", "rediss://me@"])
def test_a_cluster_is_named_by_some_of_its_nodes(url: str) -> None:
    given = {"redis_url": url} if url else {}
    settings = Settings(redis_cluster="a, [::1]:5 ,b:7", **given)
    assert cluster_of(settings) == [("a", 6379), ("::1", 5), ("b", 7)]


@pytest.mark.parametrize(
    "given",
    [
        {"redis_cluster": "a:99999"},
        {"redis_cluster": "a:0"},
        {"redis_cluster": "a", "redis_url": "redis://?db=3"},
    ],
)
def test_a_cluster_has_no_database_and_real_ports(given: dict[str, str]) -> None:
    with pytest.raises((ConfigError, ValidationError), match=r"host:port|without host and database"):
        Settings(**given)


@pytest.mark.parametrize("url", ["redis://127.0.0.1:6379/0", "unix:///run/redis.sock"])
def test_a_host_name_is_checked_only_with_tls(url: str) -> None:
    with pytest.raises(ConfigError, match="HEADRACE_REDIS_CHECK_HOSTNAME is set"):
        Settings(redis_url=url, redis_check_hostname=False)
    assert Settings(redis_url="rediss://127.0.0.1:6379/0", redis_check_hostname=False)


@pytest.mark.parametrize(
    "url", [f"redis://:{SECRET}/x@host", f"redis://:{SECRET}\uff031@host", "redis://[::1"]
)
def test_an_address_that_is_none_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="HEADRACE_REDIS_URL is wrong") as caught:
        Settings(redis_url=url)
    assert SECRET not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_user_is_named_once() -> None:
    with pytest.raises(ConfigError, match="has a user, and HEADRACE_REDIS_USER is set"):
        Settings(redis_url="redis://bob@host", redis_user="eve", redis_password=SECRET)


async def test_a_broker_that_refuses_a_token_and_goes_on_is_given_up() -> None:
    class Tokens(AbstractTokenProvider):  # type: ignore[misc]
        async def token(self) -> str:
            return SECRET

    authenticator = OAuthAuthenticator(sasl_oauth_token_provider=Tokens())
    sent = await authenticator.step(None)
    assert sent is not None
    assert await authenticator.step(b'{"status":"invalid_token"}') == (b"\x01", True)
    with pytest.raises(AuthenticationFailedError):
        await authenticator.step(b"and again")
