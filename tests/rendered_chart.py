"""Rendering the chart, for tests that look at what comes out."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from typing import Any

import pytest
import yaml
from charts import generate

Object = dict[str, Any]


def _has_helm() -> bool:
    try:
        generate.helm_path()
    except generate.NoHelm:
        return False
    return True


needs_helm = pytest.mark.skipif(
    not _has_helm(), reason="HELM IS MISSING: put it on PATH or into KUBEBUILDER_ASSETS"
)


def objects(values: Object | None = None, *arguments: str, **names: str) -> list[Object]:
    """Every object that the chart makes of these values."""
    rendered = generate.render(values, *arguments, **names)
    return [document for document in yaml.safe_load_all(rendered) if document]


def refusal(values: Object) -> str:
    """What Helm says of values that it must not take."""
    try:
        rendered = generate.render(values)
    except subprocess.CalledProcessError as error:
        return str(error.stderr)
    raise AssertionError(f"{values} was not refused:\n{rendered[:2000]}")


def of_kind(found: Iterable[Object], kind: str) -> list[Object]:
    """Those of one kind."""
    return [each for each in found if each["kind"] == kind]


def only(found: Iterable[Object], kind: str, name: str = "") -> Object:
    """The one object of a kind, or of a kind and name."""
    (one,) = [each for each in of_kind(found, kind) if name in ("", each["metadata"]["name"])]
    return one
