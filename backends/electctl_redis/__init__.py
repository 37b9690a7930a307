"""Leader election on Redis: a TTL lock on one primary. Importing this imports no client library.

What it does not guarantee is in :mod:`electctl_redis.traits`.
"""

from __future__ import annotations

from electctl.contract.backend import Plugin
from electctl_redis.traits import TRAITS, traits_of

PLUGIN = Plugin(
    schemes=("redis", "rediss", "redis+sentinel", "redis+cluster"),
    traits=TRAITS,
    backend="electctl_redis.backend:RedisBackend",
    requires="redis",
    lab="electctl_redis.labs:cluster",
    natives={"redis-py-lock": "electctl_redis.native:lock"},
    parts=("redis.exceptions", "redis.connection"),
    example="redis://127.0.0.1:6379/0",
    variants={scheme: traits_of(scheme) for scheme in ("redis+sentinel", "redis+cluster")},
    options={
        "ca": "rediss: file of the authority that signed the server's certificate",
        "cert": "rediss: file of our client certificate",
        "key": "rediss: file of its key",
        "insecure": "rediss: true accepts any certificate",
        "tls": "redis+sentinel and redis+cluster: true speaks TLS to all of them",
        "sentinel_user": "redis+sentinel: user at the Sentinels",
        "sentinel_password": "redis+sentinel: password at the Sentinels",
    },
)
