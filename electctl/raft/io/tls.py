"""Mutual TLS for ``rafts://``: who has a certificate of the authority may talk to a node.

What this does not do: tell clients from nodes. Whoever has a certificate can pass for either, so
the authority should sign for nothing but this cluster and its clients. Nor does it end connections
that were made with a certificate which has expired since.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass

from electctl.base.fresh import Fresh
from electctl.base.tls import load_tls, whom
from electctl.errors import ConfigError

#: Told of what became of new files: None if they were taken in.
Said = Callable[[ConfigError | None], object]


def _silent(error: ConfigError | None) -> None:
    """For those who have nobody to tell."""


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM: the authority's certificate, our own, and the key of our own."""

    ca: str
    cert: str
    key: str

    def listening(self, said: Said = _silent) -> Listening:
        """For connections that we accept: the other must show a certificate. Raises ConfigError."""
        return Listening(self, said)

    def calling(self) -> FreshTls:
        """For connections that we make: the other's must be for its host. Raises ConfigError."""
        return FreshTls(self, ssl.PROTOCOL_TLS_CLIENT, _silent)


class FreshTls(Fresh[ssl.SSLContext]):
    """A context that asks for the other's certificate, and whom it trusts, for people.

    Raises ConfigError.
    """

    def __init__(self, files: Tls, protocol: int, said: Said) -> None:
        def load() -> ssl.SSLContext:
            context = ssl.SSLContext(protocol)
            context.verify_mode = ssl.CERT_REQUIRED
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            return load_tls(context, files.ca, files.cert, files.key)

        super().__init__((files.ca, files.cert, files.key), load, said)
        self.whom = whom(files.ca)


class Listening:
    """What a listener needs: ``context`` stays, and takes in new files at each handshake."""

    def __init__(self, tls: Tls, said: Said) -> None:
        self._fresh = FreshTls(tls, ssl.PROTOCOL_TLS_SERVER, said)
        self.context = FreshTls(tls, ssl.PROTOCOL_TLS_SERVER, _silent).get()
        # OpenSSL calls it for each greeting of a client, whether that names a server or not.
        self.context.sni_callback = self._choose
        # A session that is taken up again would show no certificate.
        self.context.options |= ssl.OP_NO_TICKET
        self.context.num_tickets = 0

    def _choose(
        self, handshake: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext
    ) -> None:
        handshake.context = self._fresh.get()

    def look(self) -> None:
        """Take in new files now rather than at the next handshake."""
        self._fresh.get()
