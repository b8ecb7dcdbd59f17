"""A schema registry with Confluent's API: asked once for every schema, whose answer is kept on disk for ever.

A schema never changes under its id. So the copy on disk serves without the registry, at the start too.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import logging
import os
import ssl
import tempfile
from pathlib import Path
from typing import Final
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import HTTPSHandler, OpenerDirector, ProxyHandler, Request, build_opener

import msgspec

from headrace.streams.errors import ConfigError, RejectedError, UnavailableError
from headrace.streams.format_settings import FormatSettings, registry_tls
from headrace.streams.secured import read_secret, secret_of

log = logging.getLogger(__name__)

#: Longest wait for an answer, s; largest answer, bytes.
ANSWER_S: Final = 5.0
MOST_BYTES: Final = 4 * 1024 * 1024
#: Most schemas that one refers to, directly or not.
MOST_REFERENCES: Final = 100
_TYPES: Final = "application/vnd.schemaregistry.v1+json, application/json"


class Text(msgspec.Struct):
    """A schema as the registry has it: its text, or for Protobuf its descriptor in base64."""

    name: str
    schema: str


class Schema(msgspec.Struct):
    """A schema and those that it refers to, each after those that it needs itself."""

    kind: str
    schema: str
    references: list[Text] = []


class UnknownSchemaError(Exception):
    """The registry has no schema with an id."""


class _Reference(msgspec.Struct):
    name: str
    subject: str
    version: int


class _Answer(msgspec.Struct):
    schema: str
    schemaType: str = "AVRO"  # noqa: N815 - the registry's name
    references: list[_Reference] | None = None


class _Fault(msgspec.Struct):
    error_code: int


class Registry:
    """Schemas by id, from disk or from the registry. Its methods wait: call them in a thread.

    Parameters
    ----------
    settings
        Where the registry is, and how to get in.
    folder
        Where answers are kept.
    """

    def __init__(self, settings: FormatSettings, folder: Path) -> None:
        self._settings = settings
        self._url = settings.registry_url.rstrip("/")
        self._folder = folder / hashlib.sha256(self._url.encode()).hexdigest()[:16]

    def schema(self, number: int) -> Schema:
        """Return a schema.

        Raises
        ------
        UnavailableError
            It is not on disk, and the registry does not answer, or not as one.
        UnknownSchemaError
            The registry says that there is none with this id.
        RejectedError
            ``unusable_schema``: it is too large, or refers to too many others.
        """
        path = self._folder / f"{number}.json"
        kept = _kept(path)
        if kept is None:
            kept = self._asked(number)
            _keep(path, kept)
        return kept

    def _asked(self, number: int) -> Schema:
        path = f"/schemas/ids/{number}"
        answer = self._get(path)
        form = ""
        if answer.schemaType == "PROTOBUF":  # as a descriptor: its text needs a compiler
            form = "?format=serialized"
            answer = self._get(path + form)
        found: dict[str, Text] = {}
        self._add_references(answer, form, found, set())
        return Schema(answer.schemaType, answer.schema, list(found.values()))

    def _add_references(
        self, answer: _Answer, form: str, found: dict[str, Text], asked: set[tuple[str, int]]
    ) -> None:
        for reference in answer.references or ():
            place = reference.subject, reference.version
            if reference.name in found or place in asked:
                continue
            asked.add(place)
            if len(asked) > MOST_REFERENCES:
                raise _unusable(f"it refers to more than {MOST_REFERENCES} others")
            subject = quote(reference.subject, safe="")
            other = self._get(f"/subjects/{subject}/versions/{reference.version}{form}")
            self._add_references(other, form, found, asked)
            found[reference.name] = Text(reference.name, other.schema)

    def wrong(self) -> str:
        """Return why the registry cannot be asked, empty when it answers."""
        try:
            self._body("/subjects")
        except (UnavailableError, UnknownSchemaError) as exc:
            return str(exc)
        return ""

    def _get(self, path: str) -> _Answer:
        body = self._body(path)
        if len(body) > MOST_BYTES:
            raise _unusable(f"it has more than {MOST_BYTES} bytes")
        try:
            return msgspec.json.decode(body, type=_Answer)
        except (msgspec.MsgspecError, UnicodeError) as exc:
            raise UnavailableError(f"{self._url}{path} does not answer as a schema registry: {exc}") from None

    def _body(self, path: str) -> bytes:
        try:
            return self._answered(path)
        except (OSError, http.client.HTTPException) as exc:
            why = getattr(exc, "reason", None) or exc
            raise UnavailableError(f"the registry {self._url} does not answer: {why}") from None
        except ConfigError as exc:  # the files were right at the start: they are being replaced
            raise UnavailableError(f"the registry {self._url} cannot be asked: {exc}") from None
        except ValueError:  # its message would quote the token
            raise UnavailableError(
                f"the registry {self._url} cannot be asked: the credentials do not fit into a header"
            ) from None

    def _answered(self, path: str) -> bytes:
        request = Request(self._url + path, headers={"Accept": _TYPES, **self._credentials()})  # noqa: S310
        try:
            with self._opener().open(request, timeout=ANSWER_S) as response:
                body: bytes = response.read(MOST_BYTES + 1)
                return body
        except HTTPError as exc:
            with exc:
                if exc.code == http.client.NOT_FOUND and _is_fault(exc.read(MOST_BYTES)):
                    raise UnknownSchemaError(path) from None
            raise UnavailableError(f"{self._url} answers {exc.code} {exc.reason} to {path}") from None

    def _opener(self) -> OpenerDirector:
        secure: ssl.SSLContext | None = None
        if self._url.startswith("https://"):
            secure = registry_tls(self._settings)
        return build_opener(ProxyHandler(), HTTPSHandler(context=secure))

    def _credentials(self) -> dict[str, str]:
        """Return the header that lets us in; files are read again, for secrets change."""
        s = self._settings
        if s.registry_token_file:
            token = read_secret("HEADRACE_REGISTRY_TOKEN_FILE", s.registry_token_file)
            return {"Authorization": f"Bearer {token}"}
        if s.registry_user:
            both = f"{s.registry_user}:{secret_of(s, 'registry_password')}".encode()
            return {"Authorization": f"Basic {base64.b64encode(both).decode()}"}
        return {}


def _unusable(why: str) -> RejectedError:
    return RejectedError("unusable_schema", "", why)


def _is_fault(body: bytes) -> bool:
    """Return whether a registry says it, not a proxy before it."""
    try:
        return 40400 <= msgspec.json.decode(body, type=_Fault).error_code < 40500
    except (msgspec.MsgspecError, UnicodeError):
        return False


def _kept(path: Path) -> Schema | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Schema)
    except (OSError, msgspec.MsgspecError, UnicodeError):
        return None  # there is none, or only a part of it: the registry is asked


def _keep(path: Path, schema: Schema) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            try:
                file.write(msgspec.json.encode(schema))
                file.flush()
                os.fsync(file.fileno())
                Path(file.name).replace(path)
            except OSError:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as exc:
        log.warning("schema %s is not kept on disk: %s", path, exc, extra={"action": "schema_not_kept"})
