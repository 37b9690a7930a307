"""kazoo's client and its connection, made to tell what kazoo keeps to itself.

What this does not guarantee: that kazoo's other methods can be used. Those that can are used in
:mod:`electctl_zookeeper.session`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from kazoo.client import KazooClient
from kazoo.exceptions import (
    AuthFailedError,
    ConnectionDropped,
    KazooException,
    SessionClosedRequireSaslError,
    SessionExpiredError,
)
from kazoo.handlers.threading import SequentialThreadingHandler
from kazoo.protocol.connection import CLOSE_RESPONSE, ConnectionHandler
from kazoo.protocol.serialization import CloseInstance, Connect
from kazoo.retry import KazooRetry
from kazoo.security import CREATOR_ALL_ACL, OPEN_ACL_UNSAFE

from electctl.base.clock import now
from electctl_zookeeper.target import Target
from electctl_zookeeper.wire import Wire

LOG = logging.getLogger("electctl.zookeeper")
# Below INFO kazoo writes whole requests, passwords among them.
LOG.setLevel(logging.INFO)
for _logger in (LOG, logging.getLogger("kazoo")):
    # Without any handler Python prints warnings to stderr by itself.
    _logger.addHandler(logging.NullHandler())


class _Connection(ConnectionHandler):  # type: ignore[misc]
    """kazoo's connection, which tells what was negotiated, and when it was asked for.

    kazoo keeps neither where its users can see it.
    """

    def __init__(
        self,
        opened: Callable[[float, float], None],
        may_ping: Callable[[], bool],
        target: Target,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._opened = opened
        self._target = target
        self._may_ping = may_ping
        #: Whether the server has answered that the session is closed.
        self.closed_there = False

    def _send_ping(self, timeout: float) -> None:
        if not self._may_ping():
            raise SessionExpiredError("given up here")
        super()._send_ping(timeout)

    def _read_response(self, *args: Any) -> Any:
        answer = super()._read_response(*args)
        if answer is CLOSE_RESPONSE:
            self.closed_there = True
        return answer

    def _invoke(self, timeout: float, request: Any, xid: int | None = None) -> Any:
        sent = now()
        if isinstance(request, Connect):
            timeout = self.handler.at_most(timeout)
        try:
            answer = super()._invoke(timeout, request, xid)
        except ConnectionDropped:
            if isinstance(request, Connect):
                self.handler.hung_up()
            raise
        if isinstance(request, Connect) and answer[0].time_out > 0:
            self._opened(sent, answer[0].time_out / 1000)
        return answer

    def _connect(self, *args: Any) -> Any:
        # kazoo logs in with these after it has connected; the password may be another since.
        target, password = self._target, self._target.credentials.get().secret
        if self.sasl_options is not None:
            self.sasl_options["password"] = password
        elif target.user is not None:
            self.client.auth_data = {("digest", f"{target.user}:{password}")}
        try:
            return super()._connect(*args)
        except (AuthFailedError, ConnectionDropped, SessionExpiredError):
            raise
        except SessionClosedRequireSaslError as error:
            raise AuthFailedError("the server demands SASL") from error
        except KazooException as error:
            # kazoo's thread would end with a traceback on stderr.
            raise ConnectionDropped(str(error)) from error


class Client(KazooClient):  # type: ignore[misc]
    def __init__(
        self,
        opened: Callable[[float, float], None],
        may_ping: Callable[[], bool],
        target: Target,
        **kwargs: Any,
    ) -> None:
        #: What each thread sent last.
        self._asked = threading.local()
        super().__init__(**kwargs)
        self._connection = _Connection(
            opened,
            may_ping,
            target,
            self,
            self._conn_retry.copy(),
            logger=self.logger,
            sasl_options=kwargs["sasl_options"],
        )

    @property
    def closed_there(self) -> bool:
        return bool(self._connection.closed_there)

    def say_goodbye(self) -> None:
        """The first half of :meth:`stop`: ask for the end of the session, and do not wait."""
        if not self._stopped.is_set():
            self._stopped.set()
            self._call(CloseInstance, self.handler.async_result())

    def stop_by(self, limit: float) -> bool:
        """End the session and kazoo's threads; False if that takes longer than to ``limit``.

        kazoo's own ``stop`` waits for its thread for ever, and that may be looking up a name.
        """
        self.say_goodbye()
        if not self._connection.connection_stopped.wait(max(0.0, limit - now())):
            return False
        self._safe_close()
        self.close()
        return True

    def _call(self, request: Any, async_object: Any) -> Any:
        self._asked.request = request
        return super()._call(request, async_object)

    def begin(self, request: Callable[[Any], Any]) -> tuple[Any, Any]:
        """Start a request: what was sent, and kazoo's asynchronous result.

        An answer tells only that it was refused, not what was.
        """
        answer = request(self)
        return self._asked.request, answer


def make_client(
    target: Target,
    timeout: float,
    handler: Wire,
    opened: Callable[[float, float], None],
    may_ping: Callable[[], bool],
) -> Client:
    """Not started."""
    sasl = target.user is not None and target.auth == "sasl"
    return Client(
        opened,
        may_ping,
        target,
        hosts=target.peer,
        timeout=timeout,
        handler=handler,
        default_acl=OPEN_ACL_UNSAFE if target.acl == "open" else CREATOR_ALL_ACL,
        sasl_options={"mechanism": "DIGEST-MD5", "username": target.user} if sasl else None,
        connection_retry=KazooRetry(
            max_tries=-1,
            delay=0.05,
            backoff=2,
            max_delay=0.5,
            sleep_func=SequentialThreadingHandler.sleep_func,
        ),
        logger=LOG,
    )
