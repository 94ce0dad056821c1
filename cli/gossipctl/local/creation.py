"""Making a swarm's files, and finding them again."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from gossipctl.local.client import names
from gossipctl.local.credentials import Secrets
from gossipctl.local.errors import USAGE, LocalError, suggestion
from gossipctl.local.layout import Layout, check_label, take_lock
from gossipctl.local.spec import SpecFile, SwarmSpec, timestamp

LOCK_SECONDS: Final = 0.5
"""Somebody who only looks holds a lock for an instant; a supervisor holds it for life."""

_log = logging.getLogger(__name__)


class Creation(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What ``swarm init`` may say."""

    create: bool
    name: str | None = None
    regions: list[str] = msgspec.field(default_factory=lambda: ["default"])
    topology: str = "mesh"
    protocol: str = "gossip"
    max_agents: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    encryption: bool = True
    settings: dict[str, Any] = {}
    workers: Annotated[int, Meta(ge=1, le=256)] | None = None
    hooks: str | None = None


class Opened:
    """A swarm's files, locked by this process."""

    def __init__(self, layout: Layout, book: SpecFile, secrets: Secrets, lock: int) -> None:
        self.layout = layout
        self.book = book
        self.secrets = secrets
        self.lock = lock

    def discard(self) -> None:
        """Remove everything again: the swarm never came to life."""
        _remove(self.layout)


def _remove(layout: Layout) -> None:
    shutil.rmtree(layout.directory, ignore_errors=True)
    with suppress(OSError):  # other swarms are there, or it is not ours to remove
        layout.root.rmdir()


def create(arguments: Mapping[str, Any]) -> Opened:
    """Files of a new swarm.

    Raises:
        LocalError: it exists, or the arguments are invalid (exit 2).
        OSError: the state directory does not take them.
    """
    try:
        wanted = msgspec.convert(arguments, Creation)
    except msgspec.ValidationError as error:
        raise LocalError("invalid-swarm", str(error), exit=USAGE) from None
    _check(wanted)
    layout = Layout(wanted.name or fresh_name())
    if layout.exists:
        raise _exists(layout)
    layout.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = _lock(layout)
    try:
        if layout.exists:
            raise _exists(layout)
        spec = SwarmSpec(
            name=layout.name,
            uid=f"{layout.name}-{secrets.token_hex(8)}",
            regions=wanted.regions,
            topology=wanted.topology,
            protocol=wanted.protocol,
            max_agents=wanted.max_agents,
            encryption=wanted.encryption,
            workers=wanted.workers or _cores(),
            settings=wanted.settings,
            hooks=wanted.hooks,
            created_at=timestamp(),
        )
        made = Secrets.generate(encryption=wanted.encryption)
        for directory in (layout.agents, layout.logs):
            directory.mkdir(exist_ok=True, mode=0o700)
        made.save(layout, spec.uid)
    except BaseException as error:
        if not (isinstance(error, LocalError) and error.reason == "swarm-exists"):
            _remove(layout)
        os.close(lock)
        raise
    # spec.json makes it exist, so it is written last, once the workers have taken the settings.
    return Opened(layout, SpecFile(layout.spec, spec), made, lock)


def fresh_name() -> str:
    """The next free swarm-gossip-NNN."""
    taken = set(names())
    number = 1
    while (name := f"swarm-gossip-{number:03d}") in taken:
        number += 1
    return name


def _check(wanted: Creation) -> None:
    if not wanted.regions:
        raise LocalError(
            "invalid-swarm", "a swarm needs a region", "--regions us-east,us-west", USAGE
        )
    for region in wanted.regions:
        check_label("region", region)
        if wanted.regions.count(region) > 1:
            raise LocalError("invalid-swarm", f"region {region} is there twice", exit=USAGE)
    for what, value, known in (
        ("topology", wanted.topology, ["mesh"]),
        ("protocol", wanted.protocol, ["gossip"]),
    ):
        if value not in known:
            raise LocalError(
                "invalid-swarm", f"no {what} {value!r}", suggestion(value, known, what), USAGE
            )
    if wanted.hooks is not None and not Path(wanted.hooks).is_file():
        raise LocalError("invalid-swarm", f"no hooks file {wanted.hooks}", exit=USAGE)


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1


def _exists(layout: Layout) -> LocalError:
    return LocalError(
        "swarm-exists",
        f"swarm {layout.name} exists already",
        f"start it with: gossipctl swarm up {layout.name}; or remove it with: "
        f"gossipctl swarm delete {layout.name}; or choose another name",
        USAGE,
    )


def open_existing(name: str) -> Opened:
    """Files of a swarm that was made before.

    Raises:
        LocalError: there is none, it runs already, or its files are damaged.
        OSError: they cannot be read.
    """
    layout = Layout(name)
    if not layout.exists:
        raise LocalError(
            "unknown-swarm", f"no swarm {name!r}", suggestion(name, names(), "swarm"), USAGE
        )
    lock = _lock(layout)
    try:
        book = SpecFile.load(layout.spec)
        found = Secrets.load(layout)
    except (msgspec.MsgspecError, ValueError) as error:
        os.close(lock)
        raise LocalError(
            "damaged", f"the files of {name} cannot be read: {error}", f"see {layout.directory}"
        ) from None
    except BaseException:
        os.close(lock)
        raise
    _settle(book.spec)
    return Opened(layout, book, found, lock)


def _settle(spec: SwarmSpec) -> None:
    """Agents of workers that are no more (somebody edited the file) go to the others."""
    spec.workers = max(spec.workers, 1)
    for record in spec.agents.values():
        record.worker %= spec.workers


def _lock(layout: Layout) -> int:
    deadline = time.monotonic() + LOCK_SECONDS
    while (lock := take_lock(layout.lock)) is None:
        if time.monotonic() > deadline:
            raise LocalError(
                "swarm-running",
                f"swarm {layout.name} is running already",
                f"see it with: gossipctl --swarm {layout.name} swarm status",
                USAGE,
            )
        time.sleep(0.02)
    return lock
