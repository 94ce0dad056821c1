"""Objects as they change: a list, then a watch from there."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from time import monotonic, sleep
from typing import Any

from gossipctl.kubernetes.api import Api
from gossipctl.kubernetes.refusal import Refusal

EXPIRED = 410
GRACE = 5.0
"""Seconds that the server may be late to end a watch."""
PAUSE = 0.5
"""Seconds before a watch that ended early is begun again."""


def snapshots(
    api: Api, path: str, seconds: float, **selectors: Any
) -> Iterator[Mapping[str, dict[str, Any]]]:
    """All objects that fit by name, now and after every change; ends after so many seconds.

    Raises:
        Refusal: the list or the watch is not allowed.
    """
    ends = monotonic() + seconds
    while True:
        listed = api.get(path, **selectors)
        found = {each["metadata"]["name"]: each for each in listed.get("items") or []}
        yield found
        version = listed["metadata"]["resourceVersion"]
        for kind, thing in _changes(api, path, version, ends, selectors):
            if kind == "DELETED":
                found.pop(thing["metadata"]["name"], None)
            else:
                found[thing["metadata"]["name"]] = thing
            yield found
        if monotonic() >= ends:
            return
        sleep(min(PAUSE, max(ends - monotonic(), 0)))


def _changes(
    api: Api, path: str, version: str, ends: float, selectors: Mapping[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Events until the time is over, the server ends the watch, or the version is too old."""
    left = ends - monotonic()
    if left <= 0:
        return
    lines = api.lines(
        path,
        silence=left + GRACE,
        watch="true",
        resourceVersion=version,
        timeoutSeconds=max(1, round(left)),
        **selectors,
    )
    try:
        for line in lines:
            event = json.loads(line)
            if event["type"] == "ERROR":
                if event["object"].get("code") == EXPIRED:
                    return
                raise Refusal.of(
                    event["object"].get("code", 500), json.dumps(event["object"]).encode()
                )
            if event["type"] != "BOOKMARK":
                yield event["type"], event["object"]
            if monotonic() >= ends:
                return
    except Refusal as refusal:
        if refusal.status != EXPIRED:
            raise
