"""Everything the HTTP API bounds, in one place. Bytes and counts; what happens at a limit is said beside it."""

from __future__ import annotations

from typing import Final

MAX_BODY_BYTES: Final = 1 << 20
"""Body of a single request: 413 beyond."""

MAX_LINE_BYTES: Final = 1 << 20
"""One line of a batch: answered with a 413 problem on its own line; the batch goes on."""

MAX_NESTING: Final = 64
"""Objects and arrays inside one another in a value: 422 beyond."""

BATCH_LINES: Final = 256
"""Lines of a batch that are written as one group, sharing one journal commit."""

READ_FIRST_BYTES: Final = 4 << 20
"""A batch of an announced length up to this is acknowledged once it has been read to its end."""

MAX_CONNECTIONS: Final = 1024
"""Open connections of one listener: a further one is closed at once and counted."""

MAX_REQUEST_ID: Final = 128
"""Characters of X-Request-Id: 400 beyond."""

MAX_PARAMETERS: Final = 32
"""Query parameters of one request: 400 beyond."""

MAX_LISTED_KEYS: Final = 10_000
"""Keys of one page of a listing; the rest follows with ``after``."""

BODY_SECONDS: Final = 60.0
"""A body that takes longer to arrive is given up: 408."""

STALLED_SECONDS: Final = 30.0
"""A watcher or batch client that takes nothing for so long is disconnected."""

HEARTBEAT_SECONDS: Final = 15.0
"""Silence after which a watch stream carries a comment, so that proxies and clients see it alive."""

CLOSE_SECONDS: Final = 5.0
"""What requests in flight get to finish when the server closes."""

MAX_WAIT_MS: Final = 600_000
"""The longest wait for convergence, or for others to hold everything, that one request may ask for."""

MAX_HOLD_MS: Final = 3_600_000
"""The longest time for which one request may have an agent take no writes."""
