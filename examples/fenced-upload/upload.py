"""Uploads a file to an object store so that a stale leader cannot overwrite a newer one's.

Shows    fencing without code in the store. The token travels with the object, as metadata. We look
         which token is there, refuse if it is higher than ours, and upload on the condition that
         the object is still the one that we looked at. If it is not (412), we look again.
Run      python3 store.py 8000 &                              # or a real store, see below
         export ELECTCTL_BACKEND=etcd://127.0.0.1:2379
         export STORE=http://127.0.0.1:8000
         electctl campaign backup -- python3 upload.py nightly.tar < nightly.tar
         Exit code 0: it is there; 79: a newer leader's is there, and ours was refused.
         S3 (PutObject with If-Match), Google Cloud Storage (ifGenerationMatch) and Azure have the
         same; put your client's calls into look() and put().
Does not protect from
         an upload that does not look first: let the bucket's policy demand the condition. Nor from
         tokens that do not grow: those of redis:// can repeat after a fail-over; use etcd:// or
         zk://. Nor from a deleted object, which takes the token with it.
"""

from __future__ import annotations

import os
import sys
from http.client import HTTPConnection
from urllib.parse import quote, urlsplit


class Store:
    def __init__(self, url: str, name: str) -> None:
        self._host = urlsplit(url).netloc
        self._path = "/" + quote(name)

    def look(self) -> tuple[str | None, int]:
        """The ETag of the object that is there, and the token of who wrote it; None if none is."""
        status, headers = self._ask("HEAD")
        if status == 404:
            return None, 0
        if status != 200:
            sys.exit(f"HEAD was answered with {status}")
        return headers["etag"], int(headers["x-meta-token"])

    def put(self, body: bytes, token: int, etag: str | None) -> bool:
        """Upload if the object is still the one with ``etag``; False if it is not."""
        condition = {"If-None-Match": "*"} if etag is None else {"If-Match": etag}
        status, _ = self._ask("PUT", body, {**condition, "X-Meta-Token": str(token)})
        if status not in (200, 201, 412):
            sys.exit(f"PUT was answered with {status}")
        return status != 412

    def _ask(
        self, method: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str]]:
        connection = HTTPConnection(self._host, timeout=30)
        try:
            connection.request(method, self._path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}
        finally:
            connection.close()


def upload(store: Store, token: int) -> int:
    """Upload standard input; the exit code."""
    body: bytes | None = None
    while True:
        etag, newest = store.look()
        if newest > token:
            print(f"refused: token {token} is stale, {newest} has uploaded", file=sys.stderr)
            return 79
        if body is None:
            body = sys.stdin.buffer.read()
        if store.put(body, token, etag):
            return 0


if __name__ == "__main__":
    if not os.environ.get("ELECTCTL_TOKEN"):
        sys.exit("run it under electctl campaign, on a scheme that has tokens")
    sys.exit(upload(Store(os.environ["STORE"], sys.argv[1]), int(os.environ["ELECTCTL_TOKEN"])))
