"""Mutual TLS for ``rafts://``: who has a certificate of the authority may talk to a node.

What this does not do: tell clients from nodes. Whoever has a certificate can pass for either, so
the authority should sign for nothing but this cluster and its clients.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from electctl.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM: the authority's certificate, our own, and the key of our own."""

    ca: str
    cert: str
    key: str

    def listening(self) -> ssl.SSLContext:
        """For connections that we accept: the other must show a certificate. Raises ConfigError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.verify_mode = ssl.CERT_REQUIRED
        return self._loaded(context)

    def calling(self) -> ssl.SSLContext:
        """For connections that we make: the other's must be for its host. Raises ConfigError."""
        return self._loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))

    def _loaded(self, context: ssl.SSLContext) -> ssl.SSLContext:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_verify_locations(self.ca)
        except OSError as error:
            raise _unusable(self.ca, error, "the authority's certificate, in PEM") from None
        try:
            context.load_cert_chain(self.cert, self.key)
        except OSError as error:
            files = f"{self.cert} with {self.key}"
            raise _unusable(files, error, "a certificate and its own key, in PEM") from None
        return context


def _unusable(files: str, error: OSError, wanted: str) -> ConfigError:
    # An SSLError is an OSError; its strerror is OpenSSL's account of it.
    cause = error.strerror or str(error)
    return ConfigError(f"{files} cannot be used: {cause}", hint=f"it must be {wanted}")
