"""What is to be projected is said in the configuration; what makes no sense is refused with what was meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gossipswarm_agent.edge.config import edge_config
from gossipswarm_agent.project.overlays import merge_patch
from gossipswarm_agent.project.projections import (
    PROJECTIONS_LIMIT,
    Projection,
    Reload,
    parse_projections,
)
from gossipswarm_agent.runtime import configuration
from gossipswarm_agent.runtime.config import ConfigError

JSON_FILE = {"prefix": "app.config", "path": "/config/app.json"}
BASE = ["--region", "us-east", "--swarm", "s", "--plaintext"]


def test_a_prefix_and_a_path_are_enough() -> None:
    assert parse_projections([JSON_FILE]) == [
        Projection(prefix="app.config", path="/config/app.json", format="json", mode="0644")
    ]


def test_everything_can_be_said() -> None:
    [signalled, posted] = parse_projections(
        [
            {
                "prefix": r"app.nginx\.conf",
                "path": "/config/nginx",
                "format": "dir",
                "mode": "0600",
                "reload": {"signal": "sighup", "process": "nginx"},
            },
            {**JSON_FILE, "path": "/x", "reload": {"http": "http://127.0.0.1:8080/reload"}},
        ]
    )
    assert signalled.permissions == 0o600
    assert signalled.reload == Reload(signal="HUP", process="nginx")
    assert posted.reload == Reload(http="http://127.0.0.1:8080/reload")


@pytest.mark.parametrize("where", ["file", "environment", "flag"])
def test_it_stands_in_the_file_the_environment_or_a_flag(where: str, tmp_path: Path) -> None:
    text = json.dumps([JSON_FILE])
    file = tmp_path / "agent.yaml"
    file.write_text("project:\n- {prefix: app.config, path: /config/app.json}\n")
    options, _ = {
        "file": lambda: configuration.load([*BASE, "--config", str(file)], {}),
        "environment": lambda: configuration.load(BASE, {"GOSSIPSWARM_PROJECT": text}),
        "flag": lambda: configuration.load([*BASE, "--project", text], {}),
    }[where]()
    config = configuration.agent_config(options, 0)
    assert config.project == [Projection(prefix="app.config", path="/config/app.json")]


def test_a_mode_without_quotes_is_refused_since_yaml_makes_another_number_of_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("project:\n- {prefix: a, path: /a, mode: 0644}\n")
    options, _ = configuration.load([*BASE, "--config", str(file)], {})
    with pytest.raises(ConfigError, match=r"mode: 420 is a number; write it in quotes"):
        configuration.agent_config(options, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[{prefix: a", "project: while parsing"),
        ("app.config=/config/app.json", "expected `object`, got `str`"),
    ],
)
def test_an_environment_that_is_no_list_of_objects_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("[", r"\[")):
        configuration.load(BASE, {"GOSSIPSWARM_PROJECT": text})


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"prefix": "a"}, "project: expected a list"),
        ([7], "project[0]: expected {prefix, path, format, mode, reload}"),
        ([{**JSON_FILE, "pth": "/x"}], "project[0]: unknown field 'pth'; did you mean path?"),
        ([{"path": "/x"}], "missing required field `prefix`"),
        ([{"prefix": "a"}], "missing required field `path`"),
        ([{**JSON_FILE, "format": "jsn"}], "format: 'jsn' is unknown; did you mean json?"),
        ([{**JSON_FILE, "format": "toml"}], "expected one of: dir, env, json, yaml"),
        ([{**JSON_FILE, "prefix": ""}], "project[0].prefix: the key is empty"),
        ([{**JSON_FILE, "prefix": "a..b"}], "has an empty segment"),
        ([{**JSON_FILE, "prefix": "$swarm.settings"}], "reserved for the swarm itself"),
        ([{**JSON_FILE, "path": "app.json"}], "'app.json' is relative"),
        ([{**JSON_FILE, "path": "/a/../b"}], "is not the shortest form; write /b"),
        ([{**JSON_FILE, "path": "/a/"}], "write /a"),
        ([{**JSON_FILE, "path": "//a"}], "write /a"),
        ([{**JSON_FILE, "path": "/"}], "/ is no file of ours"),
        ([{**JSON_FILE, "path": "/a\0"}], "has a zero byte"),
        ([{**JSON_FILE, "mode": "644x"}], 'expected such as "0644"'),
        ([{**JSON_FILE, "mode": "4755"}], "is no mode that its owner can read"),
        ([{**JSON_FILE, "mode": "0044"}], "is no mode that its owner can read"),
        ([{**JSON_FILE, "reload": {"singal": "HUP"}}], "did you mean signal?"),
        ([{**JSON_FILE, "reload": {"signal": "HUP"}}], "expected {signal: HUP, process:"),
        ([{**JSON_FILE, "reload": {"process": "x"}}], "expected {signal: HUP, process:"),
        ([{**JSON_FILE, "reload": {}}], "expected {signal: HUP, process:"),
        (
            [{**JSON_FILE, "reload": {"signal": "HPU", "process": "x"}}],
            "'HPU' is unknown; did you mean HUP?",
        ),
        ([{**JSON_FILE, "reload": {"signal": "KILL", "process": "x"}}], "'KILL' is unknown"),
        (
            [{**JSON_FILE, "reload": {"signal": "HUP", "process": "run/x.pid"}}],
            "'run/x.pid' is relative",
        ),
        ([{**JSON_FILE, "reload": {"http": "127.0.0.1:80/x"}}], "is no URL such as http://"),
        ([{**JSON_FILE, "reload": {"http": "ftp://x/y"}}], "is no URL such as http://"),
        ([{**JSON_FILE, "reload": {"http": "http://x:99999/"}}], "is no URL such as http://"),
        (
            [{**JSON_FILE, "reload": {"http": "http://x/", "signal": "HUP", "process": "x"}}],
            "http and signal exclude each other",
        ),
        ([JSON_FILE, JSON_FILE], "project[0].path and project[1].path are both"),
        (
            [{**JSON_FILE, "path": "/c", "format": "dir"}, {**JSON_FILE, "path": "/c/x"}],
            "/c/x is in the directory of another, /c",
        ),
        (
            [{**JSON_FILE, "path": "/c/x/y", "format": "dir"}, {**JSON_FILE, "path": "/c/x"}],
            "/c/x/y is below a file",
        ),
        (
            [{**JSON_FILE, "path": f"/{number}"} for number in range(PROJECTIONS_LIMIT + 1)],
            "at most 64 projections, not 65",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_with_place_and_expectation(entries: Any, said: str) -> None:
    with pytest.raises(ValueError) as refused:
        parse_projections(entries)
    assert said in str(refused.value)


def test_files_side_by_side_do_not_overlap() -> None:
    paths = ["/c/app.json", "/c/app", "/c/app.json.d"]
    assert len(parse_projections([{**JSON_FILE, "path": path} for path in paths])) == 3


def test_an_edge_must_hold_what_it_projects() -> None:
    flags = ["--region", "r", "--swarm", "s", "--role", "edge", "--upstream", "127.0.0.1:7601"]
    told = {"GOSSIPSWARM_PROJECT": json.dumps([JSON_FILE])}
    held, _ = configuration.load([*flags, "--prefixes", "app"], told)
    assert edge_config(held, "127.0.0.1:1").project[0].prefix == "app.config"
    lacking, _ = configuration.load([*flags, "--prefixes", "application,app.flags"], told)
    with pytest.raises(
        ConfigError, match=r"/config/app.json needs app.config, which is below none"
    ):
        edge_config(lacking, "127.0.0.1:1")


# --- what is on trial ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # the examples of RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_trial_is_merged_as_rfc_7396_has_it(target: Any, patch: Any, result: Any) -> None:
    assert merge_patch(target, patch) == result
