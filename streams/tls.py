"""TLS of the connections to Kafka and Redis: a context from PEM files, made once while they stay the same."""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path

from headrace.streams.errors import ConfigError


def tls_context(
    name: str, *, ca: str = "", cert: str = "", key: str = "", password: str = "", check_hostname: bool = True
) -> ssl.SSLContext:
    """Return the context of a client; files that were replaced since the last call are read again.

    Parameters
    ----------
    name
        How the variables of the files begin, for messages: ``HEADRACE_KAFKA``.
    ca
        Path of the certificates that are trusted; empty: those of the system.
    cert, key, password
        Paths of the client's certificate and of its key, and the password of the key; empty: none.
    check_hostname
        Whether the certificate must have the name of the host.

    Raises
    ------
    ConfigError
        When a file cannot be read or is not what it should be; the message names the variable.
    """
    files = {"CA_FILE": ca, "CERT_FILE": cert, "KEY_FILE": key}
    stamps = tuple(_stamp(f"{name}_{which}", path) for which, path in files.items() if path)
    return _context(name, ca, cert, key, password, check_hostname, stamps)


def _stamp(variable: str, path: str) -> tuple[int, int]:
    try:
        found = Path(path).stat()
        with Path(path).open("rb"):
            return found.st_mtime_ns, found.st_ino
    except OSError as exc:
        raise ConfigError(f"{variable}={path} cannot be read: {exc.strerror}") from exc


@lru_cache(maxsize=8)
def _context(
    name: str,
    ca: str,
    cert: str,
    key: str,
    password: str,
    check_hostname: bool,
    stamps: tuple[tuple[int, int], ...],  # the cache must see them
) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca or None)
    except ssl.SSLError as exc:
        raise ConfigError(f"{name}_CA_FILE={ca} has no certificates in PEM format") from exc
    context.check_hostname = check_hostname
    if cert:
        try:
            # Without a function, OpenSSL would ask the terminal for the password of the key.
            context.load_cert_chain(cert, key, lambda: password)
        except ssl.SSLError as exc:
            raise ConfigError(
                f"{name}_CERT_FILE={cert} and {name}_KEY_FILE={key} are not a certificate and its key in PEM "
                f"format, or the password of the key is wrong ({exc.reason or 'unreadable'})"
            ) from exc
    return context
