"""Parts of the state that are kept as files beside the agent."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gossipswarm_agent.api.types.base import Body, Count, Timestamp


class ReloadInfo(Body, frozen=True):
    """How the last attempt to tell the application ended."""

    result: Annotated[
        Literal["acknowledged", "signalled", "absent", "failed"],
        Meta(description="`absent`: there is no such process; it reads the files when it starts"),
    ]
    detail: str
    at: Timestamp


class ProjectionInfo(Body, frozen=True):
    """One projection: what of it is on disk, and whether the application has it."""

    prefix: str
    path: str
    format: Literal["json", "yaml", "env", "dir"]
    version: Annotated[Count, Meta(description="of the prefix, on disk; 0 = it had no value")]
    etag: Annotated[
        str, Meta(description="of the prefix, on disk; that of a trial of this region after a `+`")
    ]
    dot: Annotated[str, Meta(description="the newest write that is on disk: `origin:sequence`")]
    on_trial: Annotated[
        bool, Meta(description="the files show a version that is on trial in this region")
    ]
    written_at: Annotated[
        Timestamp | None, Meta(description="null until the first version is on disk")
    ]
    bytes: Count
    files: Count
    writes: Annotated[Count, Meta(description="versions that changed the files, since the start")]
    failures: Count
    trouble: Annotated[str | None, Meta(description="why the newest version is not on disk")]
    reload: Annotated[
        ReloadInfo | None, Meta(description="null until the application was told of anything")
    ]
    applied: Annotated[
        bool,
        Meta(description="the application has what is on disk, as far as it lets anybody know"),
    ]


class Projections(Body, frozen=True):
    """Every projection of this agent, in the order of its configuration."""

    projections: list[ProjectionInfo]
