"""The bearer token of a role that answers HTTP: from a setting or from a file, checked."""

from __future__ import annotations

from typing import Literal

from headrace.serving.gateway.guard import is_loopback
from headrace.streams.errors import ConfigError
from headrace.streams.secured import secret_of
from headrace.streams.settings import Settings

#: Fewest characters of a token: a shorter one is guessed.
LEAST_TOKEN = 16


def token_of(settings: Settings, role: Literal["gateway", "monitor"] = "gateway") -> str:
    """Return the bearer token of a role; empty when there is none.

    Raises
    ------
    ConfigError
        When there is none and the role is to listen on more than loopback, when it is short or not
        printable ASCII, or when its file cannot be read.
    """
    name = f"HEADRACE_{role.upper()}"
    token = secret_of(settings, f"{role}_token").strip()
    host: str = getattr(settings, f"{role}_host")
    if token and (len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token):
        raise ConfigError(f"the token of the {role} needs {LEAST_TOKEN} characters or more, ASCII, no spaces")
    if not token and not is_loopback(host):
        raise ConfigError(f"{name}_HOST={host} is not loopback: set {name}_TOKEN or {name}_TOKEN_FILE")
    return token
