"""The operator's own settings, from its environment."""

from __future__ import annotations

import pytest

from gossipswarm_operator.builders.ports import listed
from gossipswarm_operator.queue import backoff_seconds
from gossipswarm_operator.settings import InvalidSettings, from_environment

IMAGE = {"GOSSIPSWARM_AGENT_IMAGE": "agent:1"}


def test_the_image_alone_is_enough():
    settings = from_environment(IMAGE)
    assert (settings.agent_image, settings.watch_namespaces) == ("agent:1", ())
    assert (settings.http_port, settings.log_format) == (8080, "json")


def test_namespaces_are_listed_with_commas():
    told = {**IMAGE, "GOSSIPSWARM_OPERATOR_WATCH_NAMESPACES": "a, b,"}
    assert from_environment(told).watch_namespaces == ("a", "b")


def test_ports_are_listed_where_the_network_does_not_know_ranges():
    assert from_environment(IMAGE).open_ports.ranges
    explicit = {**IMAGE, "GOSSIPSWARM_OPERATOR_POLICY_PORTS": "explicit"}
    assert from_environment(explicit).open_ports == listed(["53/UDP", "53/TCP", "80", "443"])
    told = {**explicit, "GOSSIPSWARM_OPERATOR_POLICY_EXPLICIT_PORTS": "53/UDP, 9090,"}
    assert from_environment(told).open_ports == listed(["53/UDP", "9090/TCP"])
    none = {**explicit, "GOSSIPSWARM_OPERATOR_POLICY_EXPLICIT_PORTS": ""}
    assert from_environment(none).open_ports == listed([])


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({}, "GOSSIPSWARM_AGENT_IMAGE must name the image"),
        ({**IMAGE, "GOSSIPSWARM_OPERATOR_HTTP_PORT": "x"}, "GOSSIPSWARM_OPERATOR_HTTP_PORT: "),
        ({**IMAGE, "GOSSIPSWARM_OPERATOR_LOG_LEVEL": "loud"}, "GOSSIPSWARM_OPERATOR_LOG_LEVEL: "),
        (
            {**IMAGE, "GOSSIPSWARM_OPERATOR_POLICY_PORTS": "x"},
            "GOSSIPSWARM_OPERATOR_POLICY_PORTS: ",
        ),
        (
            {**IMAGE, "GOSSIPSWARM_OPERATOR_POLICY_EXPLICIT_PORTS": "7600"},
            "GOSSIPSWARM_OPERATOR_POLICY_EXPLICIT_PORTS: 7600 is the port of gossip",
        ),
    ],
)
def test_nonsense_is_refused_by_name(told, message):
    with pytest.raises(InvalidSettings, match=message):
        from_environment(told)


def test_failures_are_tried_again_further_and_further_apart():
    assert [backoff_seconds(n) for n in (1, 2, 3, 7, 100)] == [1, 2, 4, 60, 60]
