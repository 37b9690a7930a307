"""A small object store over HTTP with conditional PUT, to try upload.py with. Not for production.

It does what S3, Google Cloud Storage and Azure Blob Storage do: an object has an ETag, and a PUT
with If-Match (or If-None-Match: *, for a new one) is done only if that still holds, in one step
with the check; else it is answered with 412 (RFC 9110, section 13). Like a bucket with such a
policy it takes no PUT without a condition (428). Objects are kept in memory.

    python3 store.py 8000
"""

from __future__ import annotations

import itertools
import sys
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Object:
    etag: str
    token: str
    body: bytes


class Store(ThreadingHTTPServer):
    daemon_threads = True
    objects: dict[str, Object]

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.objects = {}
        self.lock = threading.Lock()
        self.versions = itertools.count(1)

    def put(self, name: str, body: bytes, token: str, match: str | None, new: str | None) -> int:
        """Store the object if the condition holds; the HTTP status."""
        with self.lock:
            present = self.objects.get(name)
            if match is None and new != "*":
                return 428
            if (
                (present is not None)
                if match is None
                else (present is None or present.etag != match)
            ):
                return 412
            self.objects[name] = Object(f'"{next(self.versions)}"', token, body)
            return 200 if present else 201


class Handler(BaseHTTPRequestHandler):
    server: Store

    def do_GET(self) -> None:
        found = self.server.objects.get(self.path)
        self.answer(404 if found is None else 200, found)

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        match, new = self.headers["If-Match"], self.headers["If-None-Match"]
        token = self.headers["X-Meta-Token"]
        self.answer(self.server.put(self.path, body, token, match, new), None)

    def answer(self, status: int, found: Object | None) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(found.body) if found else 0))
        if found:
            self.send_header("ETag", found.etag)
            self.send_header("X-Meta-Token", found.token)
        self.end_headers()
        if found and self.command == "GET":
            self.wfile.write(found.body)

    def log_message(self, format: str, *args: object) -> None:
        token = self.headers["X-Meta-Token"]
        print(f"{self.command} {self.path} {args[1]} token {token}", flush=True)


if __name__ == "__main__":
    with Store(int(sys.argv[1])) as store:
        print(f"http://127.0.0.1:{store.server_port}", flush=True)
        store.serve_forever()
