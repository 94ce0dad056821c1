"""Where the program's configuration comes from: file < environment < flags.

One typed model, ``Options``. In the file a name is a key, in the environment it is ``GOSSIPSWARM_<NAME>``, as a flag
it is ``--name``. Lists are written ``a,b`` and mappings ``a=1,b=2`` where there is only text. What is not known is an
error that says what was probably meant, and the whole is refused.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import ipaddress
import re
import socket
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
import yaml
from msgspec import Meta

from gossipswarm_agent.project.projections import Projection, parse_projections
from gossipswarm_agent.runtime.birth_cut import BirthCut, read_birth_cut
from gossipswarm_agent.runtime.config import AgentConfig, ConfigError, Seed, Tokens
from gossipswarm_agent.runtime.suggestions import convert, did_you_mean

PREFIX: Final = "GOSSIPSWARM_"
CONFIG_VARIABLE: Final = f"{PREFIX}CONFIG"
UNKNOWN_REGION: Final = "unknown"
"""Of an edge that is not told: no agent is nearer to it than others, and no version is on trial there."""
Port = Annotated[int, Meta(ge=0, le=65_535)]

# Kubernetes describes every Service of the namespace in the environment of every container.
_SERVICE_LINK: Final = re.compile(
    r"_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)=|_PORT=[a-z]+://"
)
_SEED: Final = re.compile(r"(?:([^=@]+)[=@])?(?:\[([0-9a-fA-F:.]+)\]|([^\[\]:]+)):([0-9]{1,5})")
_SERVICE: Final = re.compile(
    r"(?:([^=@]+)[=@])?srv:(_[A-Za-z0-9-]{1,62}\._(?:udp|tcp)(?:\.[A-Za-z0-9_-]{1,63})+\.?)"
)


def _field(text: str, **limits: Any) -> Any:
    return Meta(description=text, **limits)


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ``gossipswarm-agent`` can be told."""

    role: Annotated[
        Literal["agent", "edge"],
        _field("agent: gossips; edge: keeps a copy from an agent and passes writes on to it"),
    ] = "agent"
    name: Annotated[str | None, _field("name of this agent (default: the host name)")] = None
    region: Annotated[str, _field("region it is in")]
    swarm: Annotated[str, _field("unique id of the swarm")]
    data_dir: Annotated[str | None, _field("directory for its data (default: in memory)")] = None
    keys_file: Annotated[
        str | None, _field("file or directory with the swarm's keys in base64, one a line")
    ] = None
    plaintext: Annotated[bool, _field("neither encrypt nor authenticate gossip")] = False
    host: Annotated[str, _field("address that gossip listens on")] = "127.0.0.1"
    advertise: Annotated[str | None, _field("address that peers reach it at")] = None
    gossip_port: Annotated[Port, _field("UDP and TCP port; 0 = any")] = 7600
    api_host: Annotated[str | None, _field("address of the HTTP API (default: as gossip)")] = None
    api_port: Annotated[Port, _field("port of the HTTP API; 0 = any")] = 7601
    local_api_port: Annotated[
        Port | None, _field("port of an API on loopback that asks for no token")
    ] = None
    read_token_file: Annotated[str | None, _field("file with the token for reading")] = None
    write_token_file: Annotated[str | None, _field("file with the token for writing")] = None
    tls_certificate: Annotated[str | None, _field("PEM certificate chain of the API")] = None
    tls_key: Annotated[str | None, _field("PEM private key of the API")] = None
    seeds: Annotated[
        list[str],
        _field("where to find the swarm: host:port, region=host:port or region=srv:service"),
    ] = []
    upstream: Annotated[
        list[str], _field("edge: agents to copy from, by their API: host:port or srv:service")
    ] = []
    upstream_token_file: Annotated[
        str | None, _field("edge: file with the token to show to agents, to read or to write")
    ] = None
    upstream_ca_file: Annotated[
        str | None,
        _field("edge: PEM authorities of the agents' certificates; makes it ask by https"),
    ] = None
    prefixes: Annotated[
        list[str], _field("edge: keys to hold, with all below them (default: everything)")
    ] = []
    declared: Annotated[
        dict[str, str] | None, _field("name=region of every agent that ought to exist")
    ] = None
    settings: Annotated[dict[str, Any], _field("parameters of the swarm")] = {}
    labels: Annotated[dict[str, str], _field("labels that members show")] = {}
    datagram_limit: Annotated[int, _field("largest UDP payload in bytes", ge=576, le=65_507)] = 1400
    hooks: Annotated[str | None, _field("file with what to do on events")] = None
    project: Annotated[
        list[dict[str, Any]],
        _field("parts of the state to keep as files; JSON where there is only text"),
    ] = []
    drop_regions: Annotated[list[str], _field("regions to be cut off from at the start")] = []
    cut_file: Annotated[
        str | None, _field("file with the cut that it is born into; none while there is no file")
    ] = None
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], _field("least level that is logged")
    ] = "info"
    log_format: Annotated[Literal["json", "console"], _field("how lines are written")] = "json"


_FIELDS: Final = {field.name: field for field in msgspec.structs.fields(Options)}
_TYPES: Final = typing.get_type_hints(Options)


def load(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[Options, Path | None]:
    """The options, and the file that some came from.

    Raises:
        ConfigError: something is unknown, missing or of no use; the message says where it stands.
        SystemExit: ``--help``, or flags that make no sense.
    """
    flags = vars(_parser().parse_args(arguments))
    named = flags.pop("config") or environment.get(CONFIG_VARIABLE)
    path = Path(named) if named else None
    merged: dict[str, Any] = {}
    if path is not None:
        merged.update(read_file(path))
    merged.update(_from_environment(environment))
    merged.update(
        {name: _from_text(name, text) for name, text in flags.items() if text is not None}
    )
    return build(merged), path


def build(merged: Mapping[str, Any]) -> Options:
    """Options from names and values. Raises ConfigError."""
    if merged.get("role") == "edge" and merged.get("region") == "":
        # From a label of its pod, which older clusters do not give it.
        merged = {**merged, "region": UNKNOWN_REGION}
    for name in ("region", "swarm"):
        if not merged.get(name):
            raise ConfigError(
                f"{name} is missing: give --{name}, {PREFIX}{name.upper()} or {name}: in the file"
            )
    try:
        return convert(dict(merged), Options, "configuration")
    except ValueError as error:
        raise ConfigError(str(error)) from None


def read_file(path: Path) -> dict[str, Any]:
    """Names and values of a YAML or JSON file. Raises ConfigError."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected names and values")
    known = {}
    for raw, value in document.items():
        name = str(raw).replace("-", "_")
        if name not in _FIELDS:
            raise ConfigError(f"{path}: unknown key {raw!r}{did_you_mean(name, _FIELDS)}")
        known[name] = value
    return known


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    known = {}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE:
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in _FIELDS:
            known[name] = _from_text(name, text)
        elif _SERVICE_LINK.search(f"{variable}={text}") is None:
            names = [PREFIX + field.upper() for field in _FIELDS]
            raise ConfigError(
                f"unknown environment variable {variable}{did_you_mean(variable, names)}"
            )
    return known


# --- values that are only text --------------------------------------------------------------------


def _kinds(name: str) -> set[Any]:
    """The plain types of an option: ``str``, ``int``, ``bool``, ``list``, ``dict``."""
    hint = _TYPES[name]
    union = isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
    members = typing.get_args(hint) if union else (hint,)
    return {typing.get_origin(member) or member for member in members}


def _from_text(name: str, text: str) -> Any:
    kinds = _kinds(name)
    if dict in kinds:
        return _mapping(name, text)
    if text.lstrip().startswith("[") and list in kinds:
        return _objects(name, text)
    if list in kinds:
        return [part.strip() for part in text.split(",") if part.strip()]
    if bool in kinds:
        if text.lower() not in ("true", "false", "1", "0", "yes", "no", "on", "off"):
            raise ConfigError(f"{name}: {text!r} is neither true nor false")
        return text.lower() in ("true", "1", "yes", "on")
    if int in kinds:
        try:
            return int(text)
        except ValueError:
            raise ConfigError(f"{name}: {text!r} is no whole number") from None
    return text


def _mapping(name: str, text: str) -> dict[str, Any]:
    if text.lstrip().startswith("{"):
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"{name}: {' '.join(str(error).split())}") from None
        if isinstance(value, dict):
            return value
        raise ConfigError(f"{name}: expected names and values")
    pairs = {}
    for part in filter(None, map(str.strip, text.split(","))):
        key, equals, value = part.partition("=")
        if not equals:
            raise ConfigError(f"{name}: {part!r} is not name=value")
        # Labels and regions are text, whatever they look like; parameters have types.
        pairs[key.strip()] = yaml.safe_load(value) if name == "settings" else value.strip()
    return pairs


def _objects(name: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: {' '.join(str(error).split())}") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="gossipswarm-agent",
        description="One agent of a swarm: gossips, serves the HTTP API, and ends on SIGTERM.",
        epilog=f"Each option may also stand in the file, or in the environment as {PREFIX}<NAME>.",
        allow_abbrev=False,
        argument_default=None,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file with options")
    for name, field in _FIELDS.items():
        flag = "--" + name.replace("_", "-")
        default = (
            "" if field.default in (None, msgspec.NODEFAULT) else f" (default: {field.default})"
        )
        described = typing.get_type_hints(Options, include_extras=True)[name]
        text = next(m.description for m in described.__metadata__ if m.description)
        if _kinds(name) == {bool}:
            parser.add_argument(flag, nargs="?", const="true", help=text, metavar="BOOL")
        else:
            parser.add_argument(flag, help=text + default.replace("%", "%%"))
    return parser


# --- from options to an agent ---------------------------------------------------------------------


def agent_config(options: Options, api_port: int) -> AgentConfig:
    """What the agent is told. ``api_port`` is what peers are told. Raises ConfigError."""
    for name in ("host", "advertise"):
        address = getattr(options, name)
        if address is not None and not _is_address(address):
            raise ConfigError(f"{name}: {address!r} is no numeric IP address")
    if options.advertise is None and ipaddress.ip_address(options.host).is_unspecified:
        raise ConfigError(
            f"host {options.host} is every address: say which one peers use by advertise"
        )
    keys = read_keys(Path(options.keys_file)) if options.keys_file is not None else None
    cut = born_into(options)
    if keys is None and not options.plaintext:
        raise ConfigError("give keys_file, or plaintext if gossip is to be readable and forgeable")
    if keys is not None and options.plaintext:
        raise ConfigError("give keys_file or plaintext, not both")
    return AgentConfig(
        name=options.name or socket.gethostname(),
        region=options.region,
        swarm=options.swarm,
        data_dir=Path(options.data_dir) if options.data_dir is not None else None,
        keys=keys,
        host=options.host,
        advertise=options.advertise,
        gossip_port=options.gossip_port,
        api_host=options.api_host or options.host,
        api_port=api_port,
        tokens=read_tokens(options),
        seeds=parse_seeds(options.seeds),
        declared=options.declared,
        settings=options.settings,
        project=read_projections(options),
        labels=options.labels,
        datagram_limit=options.datagram_limit,
        hooks=Path(options.hooks) if options.hooks is not None else None,
        drop_regions=cut.regions,
        drop_expires_ms=cut.until_ms,
    )


def parse_seeds(seeds: Sequence[str]) -> list[Seed]:
    """Seeds from ``host:port`` or ``srv:_service._udp.name``, after ``region=`` or not. Raises ConfigError."""
    parsed = []
    for text in seeds:
        service = _SERVICE.fullmatch(text)
        if service is not None and len(service[2]) < 255:
            parsed.append(Seed(service[2], 0, service[1], srv=True))
            continue
        found = _SEED.fullmatch(text)
        if found is None or not 0 < int(found[4]) < 65_536:
            raise ConfigError(
                f"seeds: {text!r} is not host:port or srv:_service._udp.name, after region= or not"
            )
        parsed.append(Seed(found[2] or found[3], int(found[4]), found[1]))
    return parsed


def read_keys(path: Path) -> list[bytes]:
    """Keys of a file, or of every file of a directory in order of name. Raises ConfigError."""
    try:
        # A mounted Secret has hidden entries of its own.
        files = sorted(f for f in path.iterdir() if f.name[0] != ".") if path.is_dir() else [path]
        lines = [line.strip() for file in files for line in file.read_text("ascii").splitlines()]
        keys = [base64.b64decode(line, validate=True) for line in lines if line]
    except (OSError, UnicodeDecodeError, binascii.Error) as error:
        raise ConfigError(f"cannot read keys from {path}: {error}") from None
    if not keys:
        raise ConfigError(f"{path} holds no key")
    return keys


def born_into(options: Options) -> BirthCut:
    """The cut that the agent is born into. Raises ConfigError."""
    if options.cut_file is None:
        return BirthCut(options.drop_regions)
    found = read_birth_cut(Path(options.cut_file), options.region)
    regions = sorted({*options.drop_regions, *found.regions})
    return BirthCut(regions, None if options.drop_regions else found.until_ms)


def read_tokens(options: Options) -> Tokens | None:
    """Tokens of the API, if any is asked for. Raises ConfigError."""
    read, write = (
        _token(name, getattr(options, name)) for name in ("read_token_file", "write_token_file")
    )
    return Tokens(read, write) if read or write else None


def _token(name: str, path: str | None) -> str | None:
    if path is None:
        return None
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{name}: cannot read {path}: {error}") from None
    if not token:
        raise ConfigError(f"{name}: {path} is empty")
    return token


def read_projections(options: Options) -> list[Projection]:
    """What is to be kept as files. Raises ConfigError."""
    try:
        return parse_projections(options.project)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
