"""etcd's API: its messages, and the calls of its services, made of descriptors when they are used.

``api/`` holds the descriptors (a serialized FileDescriptorProto each), taken from etcd3 0.12, whose
generated code is not imported: a protobuf compiler of 2019 wrote it, and protobuf accepts it only
where the whole process does without the C implementation. They stand in a pool of our own, so that
no other stubs of etcd's API in this process, older or newer, meet them.

What this does not guarantee: what came after etcd 3.3. Fields that are not known here are ignored,
as protobuf does.
"""

from __future__ import annotations

import pkgutil
from typing import Any

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

#: Each after those that it imports.
FILES = ("kv", "auth", "rpc")
_PACKAGE = "etcdserverpb"


class Protocol:
    """Messages are attributes, as in ``pb.PutRequest(key=b"k")``."""

    def __init__(self) -> None:
        self._pool = DescriptorPool()
        for name in FILES:
            self._pool.AddSerializedFile(descriptors(name))

    def __getattr__(self, name: str) -> Any:
        try:
            message = GetMessageClass(self._pool.FindMessageTypeByName(f"{_PACKAGE}.{name}"))
        except KeyError:
            raise AttributeError(f"etcd's API has no message {name}") from None
        setattr(self, name, message)
        return message

    def calls(self, channel: Any, service: str) -> Calls:
        """The calls of a service, as "KV", over a gRPC channel."""
        return Calls(channel, self._pool.FindServiceByName(f"{_PACKAGE}.{service}"))


class Calls:
    """One attribute for each call of a service, as gRPC's generated stubs have them."""

    def __init__(self, channel: Any, service: Any) -> None:
        for method in service.methods:
            sends = "stream" if method.client_streaming else "unary"
            gets = "stream" if method.server_streaming else "unary"
            call = getattr(channel, f"{sends}_{gets}")(
                f"/{service.full_name}/{method.name}",
                request_serializer=GetMessageClass(method.input_type).SerializeToString,
                response_deserializer=GetMessageClass(method.output_type).FromString,
            )
            setattr(self, method.name, call)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"this service has no call {name}")


def descriptors(name: str) -> bytes:
    """One of :data:`FILES`."""
    found = pkgutil.get_data(__name__, f"api/{name}.binpb")
    assert found is not None, f"{name}.binpb is not installed"
    return found
