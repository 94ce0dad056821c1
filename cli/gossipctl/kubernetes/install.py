"""The manifests that install GossipSwarm: those of ``deploy/``, adapted as text, because they are for reading, too."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from gossipctl.failures import CommandFailed

NAMESPACE = "gossipswarm-system"
"""Of the operator, as the manifests have it."""
_PLACES = ("manifests/gossipswarm.yaml", "../../../deploy/gossipswarm.yaml")
"""In a wheel, and in a checkout; relative to this file."""
_SEPARATOR = "---\n"


def manifests() -> str:
    """The file as it is. Raises CommandFailed if it was not installed with the program."""
    here = os.path.dirname(__file__)  # noqa: PTH120 - pathlib costs 3 ms
    for place in _PLACES:
        try:
            with open(os.path.join(here, place), encoding="utf-8") as file:  # noqa: PTH118, PTH123
                return file.read()
        except OSError:
            continue
    raise CommandFailed("the manifests are not part of this installation", "use the Helm chart")


def adapted(
    text: str,
    *,
    namespace: str = NAMESPACE,
    swarm_namespaces: Sequence[str] = (),
    operator_image: str | None = None,
    agent_image: str | None = None,
    crds_only: bool = False,
) -> str:
    """The manifests for another namespace, other images, and the namespaces that swarms will be in."""
    head, *documents = re.split(r"^---\n", text, flags=re.MULTILINE)
    found = [head] if head.strip() else []
    for document in documents:
        if _kind(document) == "CustomResourceDefinition":
            found.append(document)
        elif not crds_only:
            found += _of_namespaces(document, swarm_namespaces)
    text = _SEPARATOR.join(found)
    if operator_image:
        text = re.sub(r"(?m)^(\s+image: )gossipswarm-operator:.*$", rf"\g<1>{operator_image}", text)
    if agent_image:
        text = re.sub(r"(?m)^(\s+value: )gossipswarm-agent:.*$", rf"\g<1>{agent_image}", text)
    return text if namespace == NAMESPACE else text.replace(NAMESPACE, namespace)


def _kind(document: str) -> str:
    found = re.search(r"(?m)^kind: (\S+)$", document)
    return found[1] if found else ""


def _of_namespaces(document: str, namespaces: Sequence[str]) -> list[str]:
    """A binding in the namespace ``default`` is the example of those that swarms need: one for each."""
    example = "\n  namespace: default\n"
    if not namespaces or _kind(document) != "RoleBinding" or example not in document:
        return [document]
    return [document.replace(example, f"\n  namespace: {each}\n") for each in namespaces]
