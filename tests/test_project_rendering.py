"""A value becomes the same bytes every time, and every reader of those bytes gets the value back."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gossipswarm_agent.project import rendering
from gossipswarm_agent.project.rendering import NotRenderable, render

PREFIX = "app.config"
CONFIG = {
    "database_url": "postgres://db.example.com/prod?pool=5&tls=on",
    "cache_ttl": 3600,
    "ratio": 0.25,
    "feature_flags": {"new_ui": True, "beta_api": False},
    "hosts": ["a", "b"],
    "motto": "it's\n$HOME `here`",
    "owner": None,
    "empty": {},
}

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    text,
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(text.filter(bool), inner, max_size=5)
    ),
    max_leaves=20,
)
configurations = st.dictionaries(text.filter(bool), values, max_size=5)


def as_text(content: bytes | dict[str, bytes]) -> str:
    assert isinstance(content, bytes)
    return content.decode()


# --- golden ---------------------------------------------------------------------------------------


def test_json_is_sorted_indented_and_ends_its_line() -> None:
    assert as_text(render({"b": {"d": [1, 2.5], "c": "é"}, "a": None}, "json", PREFIX)) == (
        '{\n  "a": null,\n  "b": {\n    "c": "é",\n    "d": [\n      1,\n      2.5\n    ]\n  }\n}\n'
    )


def test_yaml_quotes_what_some_parser_would_not_take_for_text() -> None:
    value = {
        "on": "yes", "octal": "0o17", "exponent": "1e3", "word": "prod", "path": "a/b-c.d",
        "number": 7, "lines": "one\ntwo", "list": [True, None, "NO"],
    }  # fmt: skip
    assert as_text(render(value, "yaml", PREFIX)) == (
        'exponent: "1e3"\n'
        'lines: "one\\ntwo"\n'
        "list:\n- true\n- null\n"
        '- "NO"\n'
        "number: 7\n"
        'octal: "0o17"\n'
        '"on": "yes"\n'
        "path: a/b-c.d\n"
        "word: prod\n"
    )


def test_variables_are_upper_case_paths_quoted_for_a_shell() -> None:
    assert as_text(render(CONFIG, "env", PREFIX)) == (
        "CACHE_TTL=3600\n"
        "DATABASE_URL='postgres://db.example.com/prod?pool=5&tls=on'\n"
        "FEATURE_FLAGS_BETA_API=false\n"
        "FEATURE_FLAGS_NEW_UI=true\n"
        'HOSTS=\'["a","b"]\'\n'
        "MOTTO='it'\\''s\n$HOME `here`'\n"
        "OWNER=\n"
        "RATIO=0.25\n"
    )


def test_names_of_variables_hold_only_what_a_name_may_hold() -> None:
    value = {"2nd-level": {"größe": 1}, "a.b": 2}
    assert as_text(render(value, "env", PREFIX)) == "_2ND_LEVEL_GR__E=1\nA_B=2\n"


def test_a_directory_has_a_file_a_leaf_with_its_text_and_nothing_else() -> None:
    assert render(CONFIG, "dir", PREFIX) == {
        "cache_ttl": b"3600",
        "database_url": b"postgres://db.example.com/prod?pool=5&tls=on",
        "feature_flags.beta_api": b"false",
        "feature_flags.new_ui": b"true",
        "hosts": b'["a","b"]',
        "motto": b"it's\n$HOME `here`",
        "owner": b"",
        "ratio": b"0.25",
    }


def test_a_file_name_as_a_key_is_that_file() -> None:
    assert render({"nginx.conf": "worker_processes 1;\n"}, "dir", PREFIX) == {
        "nginx.conf": b"worker_processes 1;\n"
    }


def test_where_there_is_no_value_every_format_is_empty_and_can_be_read() -> None:
    assert render(None, "json", PREFIX) == b"{}\n"
    assert render(None, "yaml", PREFIX) == b"{}\n"
    assert render(None, "env", PREFIX) == b""
    assert render(None, "dir", PREFIX) == {}


def test_a_value_without_members_has_the_name_of_its_key() -> None:
    assert render("blue", "json", "app.colour") == b'"blue"\n'
    assert render("blue", "yaml", "app.colour") == b"blue\n"
    assert render("blue", "env", "app.colour") == b"COLOUR=blue\n"
    assert render("blue", "dir", "app.colour") == {"colour": b"blue"}


# --- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "format_", "said"),
    [
        ({"a": {"b": 1}, "a_b": 2}, "env", "app.config.a.b and app.config.a_b are both A_B"),
        ({"x": "a\0b"}, "env", "app.config.x has a zero byte"),
        ({"path": "/evil"}, "env", "app.config.path would set PATH"),
        ({"ld": {"preload": "x.so"}}, "env", "app.config.ld.preload would set LD_PRELOAD"),
        ({"bash_env": "x"}, "env", "would set BASH_ENV"),
        ({"../../etc/passwd": "x"}, "dir", "is no file name"),
        ({"..data": "x"}, "dir", "is no file name"),
        ({"a/b": "x"}, "dir", "is no file name"),
        ({".": "x"}, "dir", "is no file name"),
        ({"": "x"}, "dir", "is no file name"),
        ({"é": "x"}, "dir", "is no file name"),
        ({"x" * 254: "x"}, "dir", "is no file name"),
        ({"a": {"b": 1}, "a.b": 2}, "dir", "are both the file a.b"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_by_name(value: Any, format_: Any, said: str) -> None:
    with pytest.raises(NotRenderable) as refused:
        render(value, format_, PREFIX)
    assert said in str(refused.value)


def test_more_than_may_be_projected_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "BYTES_LIMIT", 100)
    monkeypatch.setattr(rendering, "FILES_LIMIT", 3)
    assert render({"x": "y" * 80}, "json", PREFIX)
    with pytest.raises(NotRenderable, match="at most 100"):
        render({"x": "y" * 100}, "json", PREFIX)
    with pytest.raises(NotRenderable, match="over 3 leaves"):
        render({str(number): 1 for number in range(4)}, "dir", PREFIX)


# --- round trips ----------------------------------------------------------------------------------


@given(configurations)
def test_json_gives_the_value_back(value: dict[str, Any]) -> None:
    assert json.loads(as_text(render(value, "json", PREFIX))) == value


@given(configurations)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_yaml_gives_the_value_back(value: dict[str, Any]) -> None:
    assert yaml.safe_load(as_text(render(value, "yaml", PREFIX))) == value


def shell_sees(content: bytes, directory: Path) -> dict[str, str]:
    """Variables that ``sh`` has after reading the file and no other."""
    file = directory / "app.env"
    file.write_bytes(content)
    done = subprocess.run(
        ["/bin/sh", "-ec", f"set -a; . {file}; exec /usr/bin/env -0"],
        env={"PATH": ""},
        capture_output=True,
        check=True,
        timeout=10,
    )
    found = dict(pair.split(b"=", 1) for pair in done.stdout.split(b"\0") if pair)
    return {
        name.decode(): os.fsdecode(value)
        for name, value in found.items()
        if name not in (b"PATH", b"PWD", b"OLDPWD", b"_", b"SHLVL")
    }


variables = st.dictionaries(
    st.from_regex(r"\A[a-z][a-z0-9-]{0,6}\Z").map(lambda name: f"x{name}"),
    st.one_of(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30),
        st.text("'\"\\$`!~*?[]{}()<>|&;# \t\n=:", max_size=12),
        st.integers(-(2**63), 2**64 - 1),
        st.booleans(),
    ),
    max_size=6,
)


@given(value=variables)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_shell_gives_the_variables_back(value: dict[str, Any], tmp_path: Path) -> None:
    names = {name: name.replace("-", "_").upper() for name in value}
    if len(set(names.values())) < len(names):
        with pytest.raises(NotRenderable):
            render(value, "env", PREFIX)
        return
    content = render(value, "env", PREFIX)
    assert isinstance(content, bytes)
    assert shell_sees(content, tmp_path) == {
        names[name]: each if isinstance(each, str) else json.dumps(each)
        for name, each in value.items()
    }


@given(configurations)
def test_files_of_a_directory_are_the_leaves_or_the_value_is_refused(value: dict[str, Any]) -> None:
    try:
        files = render(value, "dir", PREFIX)
    except NotRenderable:
        return
    assert isinstance(files, dict)
    leaves = dict(leaves_of(value, ""))
    assert files.keys() == leaves.keys()
    for name, leaf in leaves.items():
        if isinstance(leaf, str):
            assert files[name].decode() == leaf
        elif leaf is None:
            assert files[name] == b""
        else:
            read = json.loads(files[name])
            assert read == leaf or math.isclose(read, leaf)


def leaves_of(value: dict[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for name, member in value.items():
        if isinstance(member, dict):
            yield from leaves_of(member, f"{above}{name}.")
        else:
            yield f"{above}{name}", member
