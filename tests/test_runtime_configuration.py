"""Options come from file, environment and flags, the later over the earlier; mistakes are named."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from agents import KEY, KEY_TEXT
from gossipswarm_agent.runtime.config import ConfigError, Seed, Tokens
from gossipswarm_agent.runtime.configuration import (
    Options,
    agent_config,
    load,
    parse_seeds,
    read_keys,
)

BASE = ("--region", "us-east", "--swarm", "s")


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text("region: file\nname: file\nswarm: file\nlog-level: debug\n")
    environment = {
        "GOSSIPSWARM_CONFIG": str(file),
        "GOSSIPSWARM_NAME": "environment",
        "GOSSIPSWARM_SWARM": "environment",
        "HOME": "/",
    }
    options, path = load(["--swarm", "flag"], environment)
    assert (options.region, options.name, options.swarm) == ("file", "environment", "flag")
    assert options.log_level == "debug"
    assert path == file


def test_lists_and_mappings_can_be_written_as_text() -> None:
    options, _ = load(
        [*BASE, "--seeds", "a:1, eu=b:2", "--labels", "host=n1,zone=2", "--plaintext"],
        {"GOSSIPSWARM_SETTINGS": "fanout=4,anti_entropy=false", "GOSSIPSWARM_DECLARED": "{a: us}"},
    )
    assert options.seeds == ["a:1", "eu=b:2"]
    assert options.labels == {"host": "n1", "zone": "2"}
    assert options.settings == {"fanout": 4, "anti_entropy": False}
    assert options.declared == {"a": "us"}
    assert options.plaintext is True


def test_an_edge_need_not_know_its_region_but_an_agent_must() -> None:
    environment = {"GOSSIPSWARM_REGION": "", "GOSSIPSWARM_SWARM": "s"}
    edge, _ = load(["--role", "edge", "--upstream", "a:1"], environment)
    assert edge.region == "unknown"
    with pytest.raises(ConfigError, match="region is missing"):
        load([], environment)


@pytest.mark.parametrize(
    ("flags", "environment", "complaint"),
    [
        ((), {}, "region is missing: give --region, GOSSIPSWARM_REGION"),
        (BASE, {"GOSSIPSWARM_GOSIP_PORT": "1"}, "did you mean GOSSIPSWARM_GOSSIP_PORT"),
        ((*BASE, "--gossip-port", "x"), {}, "'x' is no whole number"),
        ((*BASE, "--gossip-port", "70000"), {}, "gossip_port: expected `int` <= 65535"),
        ((*BASE, "--plaintext", "maybe"), {}, "neither true nor false"),
        ((*BASE, "--labels", "x"), {}, "'x' is not name=value"),
        ((*BASE, "--log-format", "xml"), {}, "log_format: invalid enum value 'xml'"),
    ],
)
def test_a_mistake_is_named_with_what_is_expected(flags, environment, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        load(flags, environment)


def test_what_kubernetes_says_of_its_services_is_no_mistake() -> None:
    load(
        BASE,
        {
            "GOSSIPSWARM_DEMO_SERVICE_HOST": "10.0.0.1",
            "GOSSIPSWARM_DEMO_SERVICE_PORT_API": "7601",
            "GOSSIPSWARM_DEMO_PORT_7601_TCP_ADDR": "10.0.0.1",
            "GOSSIPSWARM_DEMO_PORT": "tcp://10.0.0.1:7601",
        },
    )


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("regoin: x", "unknown key 'regoin'; did you mean region"),
        ("[1]", "expected names and values"),
        ("a: [", "is no YAML"),
        ("region: x\nswarm: y\nseeds: 5", "seeds: expected `array`"),
    ],
)
def test_a_mistake_in_the_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    file = tmp_path / "agent.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=complaint):
        load(["--config", str(file)], {})


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: No such file"):
        load(["--config", str(tmp_path / "absent.yaml")], {})


def test_an_agent_gets_what_the_options_say(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "1-new").write_text(base64.b64encode(bytes(32)).decode() + "\n")
    (tmp_path / "keys" / "2-old").write_text(KEY_TEXT)
    (tmp_path / "keys" / "..data").mkdir()
    (tmp_path / "token").write_text("secret\n")
    options, _ = load(
        [
            *BASE,
            *("--name", "a", "--host", "0.0.0.0", "--advertise", "10.0.0.7"),
            *(
                "--seeds",
                "eu-central=eu.example.com:7600",
                "--write-token-file",
                str(tmp_path / "token"),
            ),
            *("--keys-file", str(tmp_path / "keys"), "--data-dir", str(tmp_path)),
        ],
        {},
    )
    config = agent_config(options, 7601)
    assert config.keys == [bytes(32), KEY]
    assert config.tokens == Tokens(None, "secret")
    assert config.seeds == [Seed("eu.example.com", 7600, "eu-central")]
    assert (config.host, config.advertise, config.api_port) == ("0.0.0.0", "10.0.0.7", 7601)
    assert config.data_dir == tmp_path


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        ((), "give keys_file, or plaintext"),
        (("--plaintext", "--host", "localhost"), "'localhost' is no numeric IP address"),
        (("--plaintext", "--host", "0.0.0.0"), "say which one peers use by advertise"),
        (("--plaintext", "--seeds", "nowhere"), "is not host:port"),
        (("--plaintext", "--seeds", "a:99999"), "is not host:port"),
        (("--plaintext", "--read-token-file", "/does/not/exist"), "read_token_file: cannot read"),
        (("--keys-file", "/does/not/exist"), "cannot read keys from"),
    ],
)
def test_options_that_make_no_agent_are_refused(flags, complaint: str) -> None:
    options, _ = load([*BASE, *flags], {})
    with pytest.raises(ConfigError, match=complaint):
        agent_config(options, 0)


def test_numeric_ipv6_seeds_stand_in_brackets() -> None:
    assert parse_seeds(["[::1]:7", "eu=[fd00::1]:8"]) == [
        Seed("::1", 7),
        Seed("fd00::1", 8, "eu"),
    ]


def test_a_service_is_a_seed_and_a_host_of_that_name_still_is_one() -> None:
    name = "_gossip-udp._udp.swarm-east.default.svc"
    assert parse_seeds([f"us-east=srv:{name}", f"srv:{name}.", "srv:7600"]) == [
        Seed(name, 0, "us-east", srv=True),
        Seed(f"{name}.", 0, srv=True),
        Seed("srv", 7600),
    ]


@pytest.mark.parametrize(
    "text",
    ["srv:gossip.example", "srv:_gossip._sctp.example", "srv:_a._udp.", "r=srv:_a._udp.b:7600"],
)
def test_what_names_no_service_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is not host:port or srv:_service\._udp\.name"):
        parse_seeds([text])


def test_a_file_without_a_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("\n")
    with pytest.raises(ConfigError, match="holds no key"):
        read_keys(tmp_path / "keys")


def test_every_option_is_documented() -> None:
    page = (Path(__file__).parent.parent / "docs/agent.md").read_text()
    missing = [field for field in Options.__struct_fields__ if f"| `{field}` |" not in page]
    assert missing == []
