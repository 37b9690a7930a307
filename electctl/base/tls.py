"""TLS contexts of files in PEM, and whom they trust, the same way for every store.

The rule: ``ca`` names the authorities, and then no others are trusted. Without it those of the
system are, as OpenSSL finds them: a file and a directory, for which SSL_CERT_FILE and SSL_CERT_DIR
name others.

What this does not guarantee: anything about the far end before the handshake.
"""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path

from electctl.errors import ConfigError

#: How ``openssl rehash`` names an authority.
_HASHED = re.compile(r"[0-9a-f]{8}\.\d+\Z")


def load_tls(
    context: ssl.SSLContext, ca: str | None, cert: str | None, key: str | None
) -> ssl.SSLContext:
    """The context with these PEM files in it. Raises ConfigError, which names the file at fault.

    SSLKEYLOGFILE, which tells our keys to a file, is not obeyed.
    """
    try:
        if ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(ca)
    except OSError as error:
        raise _unusable(ca or "", error, "the authority's certificate, in PEM") from None
    if cert is None:
        return context
    try:
        context.load_cert_chain(cert, key, _no_password)
    except OSError as error:
        files = cert if key is None else f"{cert} with {key}"
        raise _unusable(files, error, "a certificate and its own key, in PEM") from None
    return context


def system_authorities() -> tuple[str, str]:
    """The file and the directory in which OpenSSL looks; either may not be there."""
    paths = ssl.get_default_verify_paths()
    return (
        os.environ.get(paths.openssl_cafile_env, paths.openssl_cafile),
        os.environ.get(paths.openssl_capath_env, paths.openssl_capath),
    )


def authorities(ca: str | None) -> bytes:
    """The certificates that are trusted, in PEM, for a library that does without OpenSSL's store.

    Raises ConfigError if ``ca`` cannot be read, or the system has none.
    """
    if ca is not None:
        return _read(Path(ca))
    file, folder = (Path(name) for name in system_authorities())
    found = {file.resolve()} if file.is_file() else set()
    if folder.is_dir():
        # Only what OpenSSL would find there: by the hash of the authority's name.
        found |= {path.resolve() for path in folder.iterdir() if _HASHED.match(path.name)}
    read = b"\n".join(_read(path) for path in sorted(found) if path.is_file())
    if b"-----BEGIN" not in read:
        raise ConfigError(f"there are no authorities to trust: {whom(None)}", hint="?ca=FILE")
    return read


def whom(ca: str | None) -> str:
    """Which authorities were tried, for a hint."""
    if ca is not None:
        return f"trusted is ?ca={ca} alone"
    file, folder = system_authorities()
    there = [path if os.path.exists(path) else f"{path} (not there)" for path in (file, folder)]
    return (
        f"trusted are the system's, {there[0]} and {there[1]} (SSL_CERT_FILE and SSL_CERT_DIR name "
        "others); ?ca=FILE names the authority that signed it"
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unusable(str(path), error, "the authority's certificate, in PEM") from None


def _no_password() -> str:
    # OpenSSL would ask the terminal.
    raise ssl.SSLError(0, "the key is encrypted")


def _unusable(files: str, error: OSError, wanted: str) -> ConfigError:
    # An SSLError is an OSError; its strerror is OpenSSL's account of it.
    cause = error.strerror or str(error)
    return ConfigError(f"{files} cannot be used: {cause}", hint=f"it must be {wanted}")
