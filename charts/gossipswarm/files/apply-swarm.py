"""Applies the first swarm. Helm cannot make an object of a kind that the same release brings along, so a Job does.

Server-side apply: what the values no longer say is taken back, what others have set is left alone.
"""

import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ACCOUNT = Path(os.environ.get("ACCOUNT", "/var/run/secrets/kubernetes.io/serviceaccount"))
SWARM = json.loads(os.environ["SWARM"])
SECONDS = 90.0

metadata = SWARM["metadata"]
url = (
    f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    f"/apis/gossipswarm.io/v1alpha1/namespaces/{metadata['namespace']}/gossipswarms/{metadata['name']}"
    "?fieldManager=helm&force=true&fieldValidation=Strict"
)
headers = {
    "Authorization": f"Bearer {(ACCOUNT / 'token').read_text('utf-8').strip()}",
    "Content-Type": "application/apply-patch+yaml",
}
trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
deadline = time.monotonic() + SECONDS
while True:
    request = urllib.request.Request(url, json.dumps(SWARM).encode(), headers, method="PATCH")
    try:
        with urllib.request.urlopen(request, timeout=10, context=trust) as answer:
            print("created" if answer.status == 201 else "applied", metadata["name"])
            sys.exit(0)
    except urllib.error.HTTPError as error:
        reason = error.read().decode(errors="replace")
        # A field that the kind has not is a 500 in server-side apply.
        if error.code in (400, 403, 422) or "typed patch" in reason:
            sys.exit(f"the API server refuses it: {reason}")
    except OSError as error:
        reason = str(error)
    if time.monotonic() > deadline:  # the kind may take a moment to be served
        sys.exit(f"not within {SECONDS:g} s: {reason}")
    print(reason.strip(), "-- trying again")
    time.sleep(1)
