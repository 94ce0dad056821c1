"""What an agent keeps as files."""

from __future__ import annotations

from aiohttp import web

from gossipswarm_agent.api import types
from gossipswarm_agent.api.call import Call, encode_json
from gossipswarm_agent.api.times import timestamp
from gossipswarm_agent.project.receipts import Counts


async def read_projections(call: Call) -> web.StreamResponse:
    """GET: what is on disk of each projection, and whether the application has it."""
    known = types.Projections(projections=list(map(_info, call.holder.projector.counts)))
    return web.Response(body=encode_json(known), content_type="application/json")


def _info(counts: Counts) -> types.ProjectionInfo:
    receipt = counts.receipt
    projection, written, told = receipt.projection, receipt.written, receipt.told
    return types.ProjectionInfo(
        prefix=projection.prefix,
        path=projection.path,
        format=projection.format,
        version=0 if written is None else written.version,
        etag="" if written is None else written.etag,
        dot="" if written is None else written.dot,
        on_trial=written is not None and written.on_trial,
        written_at=None if written is None else timestamp(written.written_ms),
        bytes=0 if written is None else written.bytes,
        files=0 if written is None else written.files,
        writes=counts.writes,
        failures=counts.failures,
        trouble=receipt.trouble,
        reload=None
        if told is None
        else types.ReloadInfo(result=told.result, detail=told.detail, at=timestamp(told.at_ms)),
        applied=receipt.applied,
    )
