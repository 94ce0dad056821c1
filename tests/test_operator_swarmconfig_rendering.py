"""What a SwarmConfig delivers: rendering of its data and of what it refers to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gossipswarm_operator.swarmconfig.model import InvalidConfig, SourceRef, parse
from gossipswarm_operator.swarmconfig.rendering import (
    MAX_CONTENT_BYTES,
    MAX_KEYS,
    Fetched,
    Unrenderable,
    render,
)

CONFIG_MAP = SourceRef("ConfigMap", "app")
SECRET = SourceRef("Secret", "db")


def swarm_config(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "settings", "namespace": "shop", "uid": "1", "generation": 2},
        "spec": {"swarmRef": {"name": "demo"}, "prefix": "app.config", **spec},
    }


def rendered(
    entries: dict[str, str | bytes] | None = None, secret: dict[str, str] | None = None, **spec: Any
) -> dict[str, Any]:
    fetched = {
        CONFIG_MAP: Fetched(
            None if entries is None
            else {k: v if isinstance(v, bytes) else v.encode() for k, v in entries.items()}
        ),
        SECRET: Fetched(None if secret is None else {k: v.encode() for k, v in secret.items()}),
    }  # fmt: skip
    return render(parse(swarm_config(**spec)), fetched)


def refusal(*args: Any, **spec: Any) -> Unrenderable:
    with pytest.raises(Unrenderable) as refused:
        rendered(*args, **spec)
    return refused.value


WHOLE = [{"configMapRef": {"name": "app"}}]


def one(key: str, **more: Any) -> list[dict[str, Any]]:
    return [{"configMapRef": {"name": "app", "key": key}, **more}]


def test_data_becomes_leaves_and_arrays_and_empty_objects_stay_whole() -> None:
    data = {"ttl": 5, "db": {"host": "a", "opts": {}}, "hosts": [1, {"x": 2}], "off": None}
    assert rendered(data=data) == {
        "db.host": "a",
        "db.opts": {},
        "hosts": [1, {"x": 2}],
        "off": None,
        "ttl": 5,
    }


def test_a_dot_in_a_name_is_part_of_the_segment() -> None:
    assert rendered({"log.level": "debug"}, valuesFrom=WHOLE, data={"a.b\\c": 1}) == {
        r"log\.level": "debug",
        r"a\.b\\c": 1,
    }


@pytest.mark.parametrize(
    ("entries", "sources", "leaves"),
    [
        ({"ttl": "5", "name": "x"}, WHOLE, {"ttl": "5", "name": "x"}),
        ({"db.json": '{"host": "a", "port": 1}'}, WHOLE, {"db.host": "a", "db.port": 1}),
        ({"db.yaml": "host: a\nports: [1, 2]"}, WHOLE, {"db.host": "a", "db.ports": [1, 2]}),
        ({"db.yml": "just text"}, WHOLE, {"db": "just text"}),
        ({".json": "5"}, WHOLE, {r"\.json": "5"}),
        ({"app.yaml": "a: {b: 1}"}, one("app.yaml"), {"a.b": 1}),
        ({"app.yaml": "a: {b: 1}"}, one("app.yaml", path="x.y"), {"x.y.a.b": 1}),
        ({"ttl": "5"}, one("ttl"), {"ttl": "5"}),
        ({"ttl": "5"}, one("ttl", path="cache.ttl"), {"cache.ttl": "5"}),
        ({"list.json": "[1]"}, one("list.json"), {"list": [1]}),
        ({"a": "1"}, [{**WHOLE[0], "path": "env"}], {"env.a": "1"}),
        ({}, WHOLE, {}),
        ({"day.yaml": "at: 2024-01-01"}, one("day.yaml"), {"at": "2024-01-01"}),
        ({"ports.yaml": "8080: a\ntrue: b"}, one("ports.yaml"), {"8080": "a", "true": "b"}),
    ],
)
def test_values_come_from_whole_objects_and_single_keys(
    entries: dict[str, str], sources: list[Any], leaves: dict[str, Any]
) -> None:
    assert rendered(entries, valuesFrom=sources) == leaves


def test_later_sources_win_over_earlier_ones_and_data_over_all() -> None:
    sources = [
        *one("base.yaml"),
        {"secretRef": {"name": "db", "key": "over.json"}},
    ]
    found = rendered(
        {"base.yaml": "{a: 1, b: {x: 1, y: 1}, c: {z: 1}}"},
        {"over.json": '{"b": {"y": 2, "w": 2}, "c": "scalar"}'},
        valuesFrom=sources,
        data={"b": {"w": 3}},
    )
    assert found == {"a": 1, "b.x": 1, "b.y": 2, "b.w": 3, "c": "scalar"}


def test_an_optional_source_may_be_absent_whole_or_in_part() -> None:
    optional = {"optional": "True"}
    sources = [
        {"configMapRef": {"name": "app", **optional}},
        {"secretRef": {"name": "db", "key": "nothing", **optional}},
    ]
    assert rendered(None, {"other": "x"}, valuesFrom=sources, data={"a": 1}) == {"a": 1}


@pytest.mark.parametrize(
    ("entries", "sources", "reason", "says"),
    [
        (None, WHOLE, "SourceNotFound", "ConfigMap 'app' does not exist"),
        ({}, one("k"), "SourceKeyNotFound", "has no key 'k'"),
        ({"a.json": "{"}, WHOLE, "SourceUnreadable", "key 'a.json'"),
        ({"a.yaml": "a: ["}, WHOLE, "SourceUnreadable", "it is no YAML"),
        ({"a.yaml": "a: !!python/object:os.system x"}, WHOLE, "SourceUnreadable", "no YAML"),
        ({"a.yaml": "1: a\n---\n2: b"}, WHOLE, "SourceUnreadable", "no YAML"),
        ({"a": b"\xff\xfe"}, WHOLE, "SourceUnreadable", "not text in UTF-8"),
        ({"a.yaml": "x: .nan"}, WHOLE, "InvalidValue", "no JSON number"),
        ({"a.yaml": "x: !!set {a}"}, WHOLE, "InvalidValue", "no type of JSON"),
        ({"a.json": "[18446744073709551616]"}, WHOLE, "InvalidValue", "beyond 64 bits"),
        ({"a.yaml": "&a [*a]"}, WHOLE, "InvalidValue", "levels deep"),
        ({"a.json": "[" * 100 + "]" * 100}, WHOLE, "InvalidValue", "levels deep"),
        ({"a.json": "[" * 5000 + "]" * 5000}, WHOLE, "SourceUnreadable", "deep"),
        ({"a.yaml": "[" * 5000 + "]" * 5000}, WHOLE, "SourceUnreadable", "deep"),
        ({"a.json": '{"": 1}'}, one("a.json"), "InvalidKey", "empty name"),
        ({"a.json": '{"x": {"": 1}}'}, one("a.json"), "InvalidKey", "empty segment"),
    ],
)  # fmt: skip
def test_what_cannot_be_delivered_has_a_reason(
    entries: dict[str, str | bytes] | None, sources: list[Any], reason: str, says: str
) -> None:
    found = refusal(entries, valuesFrom=sources)
    assert found.reason == reason
    assert says in str(found)


def test_a_secret_is_not_quoted_in_what_is_said_about_it() -> None:
    for text in ("password: [hunter2", "password: hunter2: x", '{"password": hunter2}'):
        for ending in ("json", "yaml"):
            sources = [{"secretRef": {"name": "db"}}]
            try:
                rendered({}, {f"k.{ending}": text}, valuesFrom=sources)
            except Unrenderable as found:
                assert "hunter2" not in str(found)


def test_a_few_lines_that_stand_for_billions_of_values_are_refused_at_once() -> None:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 8)}]" for n in range(1, 20)]
    assert refusal({"bomb.yaml": "\n".join(lines)}, valuesFrom=WHOLE).reason == "TooLarge"


def test_a_source_that_may_not_be_read_is_told_apart() -> None:
    config = parse(swarm_config(valuesFrom=[{"secretRef": {"name": "db"}}]))
    with pytest.raises(Unrenderable) as refused:
        render(config, {SECRET: Fetched(forbidden="secrets is forbidden")})
    assert refused.value.reason == "SourceForbidden"


def test_a_megabyte_is_delivered_and_more_is_refused() -> None:
    almost = {f"key{n}": "x" * 1000 for n in range(1000)}
    assert len(rendered(data=almost)) == 1000
    too_large = refusal(data={**almost, "more": "x" * 60_000})
    assert (too_large.reason, "SwarmConfigs of their own" in str(too_large)) == ("TooLarge", True)
    assert refusal({"a": "x" * (MAX_CONTENT_BYTES - 100)}, valuesFrom=WHOLE).reason == "TooLarge"
    assert refusal(data=dict.fromkeys(map(str, range(MAX_KEYS + 1)), 1)).reason == "TooLarge"


def test_a_key_that_is_too_long_or_too_deep_names_itself() -> None:
    assert refusal(data={"k" * 600: 1}).reason == "InvalidKey"
    deep: Any = 1
    for _ in range(40):
        deep = {"x": deep}
    assert "segments" in str(refusal(data=deep))


@pytest.mark.parametrize(
    ("spec", "reason", "says"),
    [
        ({"prefix": "$swarm.config"}, "InvalidPrefix", "reserved for the swarm"),
        ({"prefix": "canary.us-east"}, "InvalidPrefix", "reserved for canary"),
        ({"prefix": "canary-rejected"}, "InvalidPrefix", "reserved for canary"),
        ({"prefix": "a..b"}, "InvalidPrefix", "empty segment"),
        ({"prefix": ""}, "InvalidPrefix", "empty"),
        ({"valuesFrom": [{}]}, "InvalidSpec", "valuesFrom[0]"),
        ({"valuesFrom": [*WHOLE, {**WHOLE[0], "path": "a."}]}, "InvalidSpec", "valuesFrom[1].path"),
        ({"rollout": {"timeout": "soon"}}, "InvalidSpec", "spec.rollout.timeout"),
        ({"conflictPolicy": "Maybe"}, "InvalidSpec", "spec.conflictPolicy"),
    ],
)
def test_a_spec_of_no_use_names_its_field(spec: dict[str, Any], reason: str, says: str) -> None:
    with pytest.raises(InvalidConfig) as refused:
        parse(swarm_config(**spec))
    assert refused.value.reason == reason
    assert says in str(refused.value)


def test_a_spec_has_defaults() -> None:
    config = parse(swarm_config(data={}, rollout={"canaryRegions": ["b", "a"]}))
    assert (config.override, config.prune, config.swarm) == (True, True, "demo")
    assert config.rollout.regions == ("a", "b")
    assert (config.rollout.timeout, config.rollout.soak) == (300.0, 30.0)


def test_json_and_yaml_of_the_same_values_render_alike() -> None:
    value = {"a": [1, 2.5, None, True, "x"], "b": {"c": "d"}}
    text = json.dumps(value)
    assert rendered({"v.json": text}, valuesFrom=one("v.json")) == rendered(
        {"v.yaml": text}, valuesFrom=one("v.yaml")
    )
