"""Asks the operator whether it is alive and ready. Exit code 1 if it is not in time."""

import os
import sys
import time
import urllib.error
import urllib.request

URL = os.environ["OPERATOR_URL"]
DEADLINE = time.monotonic() + float(os.environ["TIMEOUT_SECONDS"])


def ask(path: str) -> str:
    """What the operator answers; an empty text if it does not, or not with 200."""
    try:
        with urllib.request.urlopen(URL + path, timeout=5) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        print(f"{path}: {error.code} {error.read().decode(errors='replace').strip()}")
    except OSError as error:
        print(f"{path}: {error}")
    return ""


for path in ("/healthz", "/readyz", "/metrics"):
    while not (answer := ask(path)):
        if time.monotonic() > DEADLINE:
            sys.exit(f"{URL}{path} did not answer")
        time.sleep(1)
    print(f"{path}: {len(answer)} bytes")
