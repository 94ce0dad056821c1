"""What an edge is told, from the options that it shares with an agent."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from gossipswarm_agent.core import paths
from gossipswarm_agent.core.errors import InvalidKey
from gossipswarm_agent.edge.frames import PREFIXES_LIMIT
from gossipswarm_agent.project.projections import Projection
from gossipswarm_agent.runtime.config import ConfigError, Seed, Tokens
from gossipswarm_agent.runtime.configuration import (
    Options,
    parse_seeds,
    read_projections,
    read_tokens,
)
from gossipswarm_agent.runtime.watch import covers

_OWN_PREFIXES: Final = PREFIXES_LIMIT // 2
"""Each may come with another one, for versions on trial."""


class EdgeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one edge needs to start."""

    name: str
    region: str
    swarm: str
    upstream: list[Seed]
    """APIs of agents; a name is resolved again and again."""
    token_file: Path | None = None
    """Holds the token for them; read anew whenever it changes."""
    ca_file: Path | None = None
    """Authorities that their certificates are from; None = they are asked without TLS."""
    prefixes: list[str] | None = None
    """None = everything."""
    data_dir: Path | None = None
    """The last state is kept here; None = it goes with the process."""
    api: str = ""
    """``host:port`` of its own API."""
    tokens: Tokens | None = None
    labels: Mapping[str, str] = {}
    project: list[Projection] = []
    """Parts of the state that are kept as files."""


def edge_config(options: Options, api: str) -> EdgeConfig:
    """What an edge is told; ``api`` is where it listens itself. Raises ConfigError."""
    if not options.upstream:
        raise ConfigError(
            "upstream is missing: an edge needs agents to copy from, as host:port of their API or srv:service"
        )
    if len(options.prefixes) > _OWN_PREFIXES:
        raise ConfigError(f"prefixes: at most {_OWN_PREFIXES}, not {len(options.prefixes)}")
    prefixes = [_checked(prefix) for prefix in options.prefixes]
    return EdgeConfig(
        name=options.name or socket.gethostname(),
        region=options.region,
        swarm=options.swarm,
        upstream=parse_seeds(options.upstream),
        token_file=_path(options.upstream_token_file),
        ca_file=_path(options.upstream_ca_file),
        prefixes=prefixes or None,
        data_dir=_path(options.data_dir),
        api=api,
        tokens=read_tokens(options),
        labels=options.labels,
        project=_held(read_projections(options), prefixes),
    )


def _held(projections: list[Projection], prefixes: list[str]) -> list[Projection]:
    for each in projections:
        if prefixes and not any(covers(prefix, each.prefix) for prefix in prefixes):
            raise ConfigError(
                f"project: {each.path} needs {each.prefix}, which is below none of prefixes "
                f"({', '.join(prefixes)}): add it there"
            )
    return projections


def _checked(prefix: str) -> str:
    try:
        return paths.check(prefix)
    except InvalidKey as refused:
        raise ConfigError(f"prefixes: {refused.detail}") from None


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


class Credentials:
    """What the edge shows to agents and what it expects of them, from files that may change at any time."""

    def __init__(self, config: EdgeConfig) -> None:
        self._config = config
        self._token: tuple[tuple[int, int], str] | None = None
        self._context: tuple[tuple[int, int], ssl.SSLContext] | None = None

    @property
    def scheme(self) -> str:
        """Of the agents' URLs."""
        return "http" if self._config.ca_file is None else "https"

    def headers(self) -> dict[str, str]:
        """Headers that carry the token. Raises ConfigError."""
        file = self._config.token_file
        if file is None:
            return {}
        try:
            stamp = _stamp(file)
            if self._token is None or self._token[0] != stamp:
                self._token = stamp, file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"upstream_token_file: cannot read {file}: {error}") from None
        if not self._token[1]:
            raise ConfigError(f"upstream_token_file: {file} is empty")
        return {"Authorization": f"Bearer {self._token[1]}"}

    def context(self) -> ssl.SSLContext | bool:
        """How to verify an agent: by its authority, not its name, since it is called by address. Raises ConfigError."""
        file = self._config.ca_file
        if file is None:
            return True
        try:
            stamp = _stamp(file)
            if self._context is None or self._context[0] != stamp:
                context = ssl.create_default_context(cafile=str(file))
                context.check_hostname = False
                self._context = stamp, context
        except (OSError, ssl.SSLError) as error:
            raise ConfigError(f"upstream_ca_file: cannot use {file}: {error}") from None
        return self._context[1]


def _stamp(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_mtime_ns, status.st_ino
