"""A real Kafka that lets nobody in without TLS, and allows nothing that no ACL allows."""

from __future__ import annotations

import argparse
import base64
import json
import shlex
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aiokafka.protocol.admin import CreateAclsRequest
from certificates import Authority
from fresh_topics import admin_of

from headrace.demo.embedded import free_port
from headrace.streams.settings import Settings
from headrace.streams.topics.acls import users
from ops.kafka.run import KafkaServer

#: Every password has it, so that it is found wherever one has come to light.
SECRET = "open-sesame"  # noqa: S105 - of the tests
ADMIN = "admin"
#: Who may come in by PLAIN, by SCRAM-SHA-256, with a token and with a certificate.
IN_PLAIN, IN_256, IN_TOKEN, IN_CERTIFICATE = "by-plain", "by-256", "by-token", "by-certificate"

PROPERTIES = """
listeners=PLAINTEXT://127.0.0.1:{{port}},CONTROLLER://127.0.0.1:{{controller_port}},\
SECURE://127.0.0.1:{sasl},CERTS://127.0.0.1:{ssl}
advertised.listeners=PLAINTEXT://127.0.0.1:{{port}},SECURE://localhost:{sasl},CERTS://localhost:{ssl}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL,CERTS:SSL
inter.broker.listener.name=PLAINTEXT
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:{admin}
allow.everyone.if.no.acl.found=false
ssl.keystore.type=PEM
ssl.keystore.location={store}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
listener.name.certs.ssl.client.auth=required
listener.name.certs.ssl.principal.mapping.rules=RULE:^CN=(.*)$/$1/
listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.secure.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_{in_plain}="{secret}";
listener.name.secure.scram-sha-256.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.oauthbearer.sasl.jaas.config=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required \
unsecuredLoginStringClaim_sub="broker";
"""


def user_of(role: str) -> str:
    return f"headrace-{role}"


class SecuredKafka(KafkaServer):
    """Kafka with TLS, SASL, client certificates and ACLs.

    Attributes
    ----------
    plain
        Address without security, where everybody may do everything.
    sasl, ssl
        Addresses with SASL over TLS, and with client certificates. The certificate is for ``localhost``.
    authority
        Who has signed it.
    """

    def __init__(self, folder: Path) -> None:
        sasl, ssl = free_port(), free_port()
        self.authority, self._folder = Authority(folder), folder
        cert, key = self.authority.sign("broker", host="localhost")
        store = folder / "broker.pem"
        store.write_bytes(key.read_bytes() + cert.read_bytes())
        properties = PROPERTIES.format(
            sasl=sasl,
            ssl=ssl,
            store=store,
            ca=self.authority.ca,
            admin=ADMIN,
            in_plain=IN_PLAIN,
            secret=SECRET,
        )
        named = [("512", user) for user in (ADMIN, *map(user_of, users()))]
        scram = [
            f"--add-scram=SCRAM-SHA-{kind}=[name={user},password={SECRET}]"
            for kind, user in [*named, ("256", IN_256)]
        ]
        super().__init__(properties, scram)
        self.plain, self.sasl, self.ssl = self.address, f"localhost:{sasl}", f"localhost:{ssl}"

    def as_user(self, user: str, mechanism: str = "SCRAM-SHA-512", **more: Any) -> dict[str, Any]:
        """Return settings of a user with a password, over TLS."""
        return {
            "brokers": self.sasl, "kafka_protocol": "SASL_SSL", "kafka_mechanism": mechanism,
            "kafka_user": user, "kafka_password": SECRET, "kafka_ca_file": str(self.authority.ca), **more,
        }  # fmt: skip

    def with_token(self, file: Path, **more: Any) -> dict[str, Any]:
        """Return settings of who has a token in a file."""
        return {
            "brokers": self.sasl, "kafka_protocol": "SASL_SSL", "kafka_mechanism": "OAUTHBEARER",
            "kafka_token_file": str(file), "kafka_ca_file": str(self.authority.ca), **more,
        }  # fmt: skip

    def with_certificate(self, user: str, password: str = "", **more: Any) -> dict[str, Any]:
        """Return settings of who has a certificate."""
        cert, key = self.authority.sign(user, password=password)
        return {
            "brokers": self.ssl, "kafka_protocol": "SSL", "kafka_ca_file": str(self.authority.ca),
            "kafka_cert_file": str(cert), "kafka_key_file": str(key), "kafka_key_password": password, **more,
        }  # fmt: skip


def token(user: str, seconds: float = 3600) -> str:
    """Return a token that this broker believes: one without a signature."""
    now = time.time()
    parts = ({"alg": "none"}, {"sub": user, "iat": now, "exp": now + seconds})
    return (
        ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts) + "."
    )


_PARSER = argparse.ArgumentParser(prog="kafka-acls.sh", exit_on_error=False, allow_abbrev=False)
for _option in ("--bootstrap-server", "--command-config", "--allow-principal", "--resource-pattern-type"):
    _PARSER.add_argument(_option)
for _option in ("--operation", "--topic", "--group"):
    _PARSER.add_argument(_option, action="append", default=[])
for _option in ("--add", "--cluster"):
    _PARSER.add_argument(_option, action="store_true")
#: Kafka's numbers of what the commands name.
TOPIC, GROUP, CLUSTER, ALLOW = 2, 3, 4, 3
OPERATIONS = {
    "Read": 3, "Write": 4, "Create": 5, "Delete": 6, "Alter": 7, "Describe": 8, "DescribeConfigs": 10,
    "IdempotentWrite": 12,
}  # fmt: skip
PATTERNS = {None: 3, "prefixed": 4}


class _CreateAcls(CreateAclsRequest):
    def __init__(self, creations: list[tuple[Any, ...]]) -> None:
        self._creations = creations

    def build(self, request_struct_class: Any) -> Any:
        return request_struct_class(self._creations)


async def allow(settings: Settings, commands: Iterable[str]) -> int:
    """Do what ``kafka-acls.sh`` does for these commands, in one request; return the number of ACLs."""
    creations = []
    for command in commands:
        given = _PARSER.parse_args(shlex.split(command)[1:])
        assert given.add, command
        assert given.bootstrap_server == settings.brokers
        named = [(TOPIC, name) for name in given.topic] + [(GROUP, name) for name in given.group]
        named += [(CLUSTER, "kafka-cluster")] if given.cluster else []
        pattern = PATTERNS[given.resource_pattern_type]
        creations += [
            (kind, name, pattern, given.allow_principal, "*", OPERATIONS[operation], ALLOW)
            for kind, name in named
            for operation in given.operation
        ]
    async with admin_of(settings.brokers) as admin:
        answer = await admin._send_request(_CreateAcls(creations))
    refused = [entry for entry in answer.creation_responses if entry[0]]
    assert not refused, refused
    return len(creations)
