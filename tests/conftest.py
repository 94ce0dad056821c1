"""What every test may rely on."""

from __future__ import annotations

import signal

# A shell ignores interrupts on behalf of its background jobs, and children would inherit that: what Ctrl-C
# does to the programs under test must not depend on how the tests were started.
signal.signal(signal.SIGINT, signal.default_int_handler)
