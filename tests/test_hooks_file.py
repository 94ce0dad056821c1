"""A hooks file says what it does not understand, where, and what was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from gossipswarm_agent.runtime.config import ConfigError
from gossipswarm_agent.runtime.hooks_file import (
    AntiEntropy,
    DegradedMode,
    Exec,
    Http,
    describe,
    load_hooks,
    parse_hooks,
)


def test_the_example_is_sound() -> None:
    hooks = load_hooks(Path(__file__).parent.parent / "examples/hooks/coordination.yaml")
    assert list(hooks) == ["pre-task", "post-edit", "partition-detected", "partition-healed"]
    assert hooks["partition-healed"] == (DegradedMode(enabled=False), AntiEntropy())


def test_an_action_without_arguments_may_be_its_name_alone() -> None:
    hooks = parse_hooks(
        {
            "hooks": {
                "conflict": [
                    {"builtin": "anti-entropy"},
                    {"http": "https://example.com/x"},
                    {"exec": ["/bin/true", "-v"]},
                ]
            }
        }
    )
    assert hooks["conflict"] == (
        AntiEntropy(),
        Http(url="https://example.com/x"),
        Exec(command=["/bin/true", "-v"]),
    )
    assert [describe(action) for action in hooks["conflict"]] == [
        "builtin anti-entropy",
        "http https://example.com/x",
        "exec /bin/true",
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[]", "expected 'hooks:'"),
        ("{hooks: {}, hoks: {}}", "unknown key 'hoks'"),
        ("hooks: {partition-detectd: []}", "did you mean partition-detected"),
        ("hooks: {conflict: {builtin: x}}", "conflict: expected a list"),
        ("hooks: {conflict: [x]}", r"conflict\[0\]: expected one of builtin, http, exec"),
        ("hooks: {conflict: [{htp: x}]}", r"conflict\[0\]\.htp: .*did you mean http"),
        ("hooks: {conflict: [{builtin: antientropy}]}", "did you mean anti-entropy"),
        ("hooks: {conflict: [{builtin: degraded-mode}]}", "missing required field `enabled`"),
        (
            "hooks: {conflict: [{builtin: {name: degraded-mode, enable: true}}]}",
            "missing required field|did you mean enabled",
        ),
        (
            "hooks: {conflict: [{builtin: {name: log, message: x, levl: info}}]}",
            "unknown field 'levl'; did you mean level",
        ),
        ("hooks: {conflict: [{http: {url: 'ftp://x'}}]}", r"conflict\[0\]\.http\.url"),
        (
            "hooks: {conflict: [{http: {url: 'http://x', secret_env: A, secret_file: b}}]}",
            "not both",
        ),
        ("hooks: {conflict: [{exec: []}]}", r"conflict\[0\]\.exec\.command"),
        (
            "hooks: {conflict: [{exec: {command: [x], timeout: soon}}]}",
            r"exec\.timeout: 'soon' is no duration",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_hooks(yaml.safe_load(text))


def test_a_file_that_is_no_yaml_or_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    broken = tmp_path / "hooks.yaml"
    broken.write_text("hooks: [")
    with pytest.raises(ConfigError, match=r"hooks\.yaml is no YAML"):
        load_hooks(broken)
    with pytest.raises(ConfigError, match="No such file"):
        load_hooks(tmp_path / "absent.yaml")
