"""The API server's question about a pod, and the answer to it (AdmissionReview, admission.k8s.io/v1). Pure.

The answer is yes to whatever asks: a pod that cannot have a sidecar is made without one, and the answer carries a warning
that kubectl shows. To refuse pods would make an application's start depend on this operator, which is what failurePolicy
Ignore is there to avoid.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from gossipswarm_operator.injection.decision import Decision, Inject, Refuse

API_VERSION: Final = "admission.k8s.io/v1"
_WARNING_LIMIT: Final = 256
"""Characters; the API server cuts what is longer."""


class NoReview(ValueError):
    """A body is no AdmissionReview of a pod; the message says what is missing."""


class Review(msgspec.Struct, frozen=True):
    """One question."""

    uid: str
    namespace: str
    pod: Mapping[str, Any]


def read(body: bytes) -> Review:
    """The question in a request's body. Raises NoReview."""
    try:
        document = msgspec.json.decode(body)
        request = document["request"]
        pod = request["object"]
        found = msgspec.convert(
            {"uid": request["uid"], "namespace": request["namespace"], "pod": pod}, Review
        )
        # What everything relies on.
        for part in (pod["metadata"], pod["spec"]):
            if not isinstance(part, dict):
                raise NoReview("the pod's metadata and spec are to be objects")
        if not isinstance(pod["spec"]["containers"], list):
            raise NoReview("the pod's containers are to be a list")
    except KeyError as error:
        raise NoReview(f"it is no AdmissionReview of a pod: {error.args[0]} is missing") from None
    except (msgspec.MsgspecError, TypeError, AttributeError) as error:
        raise NoReview(f"it is no AdmissionReview of a pod: {error}") from None
    return found


def answer(review: Review, decision: Decision) -> dict[str, Any]:
    """What the API server is told."""
    response: dict[str, Any] = {"uid": review.uid, "allowed": True}
    match decision:
        case Inject(patch=patch):
            response["patchType"] = "JSONPatch"
            response["patch"] = base64.b64encode(json.dumps(patch).encode()).decode()
        case Refuse(message=message):
            response["warnings"] = [f"no sidecar: {message}"[:_WARNING_LIMIT]]
    return {"apiVersion": API_VERSION, "kind": "AdmissionReview", "response": response}
