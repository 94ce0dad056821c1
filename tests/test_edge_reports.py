"""An agent counts what its edges report of their files."""

from __future__ import annotations

import json
from pathlib import Path

from edges import edge_of
from gossipswarm_agent.edge import reports
from gossipswarm_agent.project.projections import Projection, Reload
from served import one_agent, until


def report(**projection: object) -> str:
    return json.dumps({"projections": [{"prefix": "app", "path": "/a", **projection}]})


def test_a_file_counts_by_how_far_it_is():
    counts = reports.count(
        [
            report(written=True, applied=True, trouble=None),
            report(written=True, applied=False, trouble=None),
            report(written=False, applied=False, trouble=None),
            report(written=True, applied=True, trouble="No space left on device"),
            None,
        ]
    )
    assert counts == {"applied": 1, "unapplied": 1, "trouble": 2}


def test_reports_that_make_no_sense_count_for_nothing():
    nonsense = ["", "{", "[]", '"x"', '{"projections": 1}', report(trouble=1)]
    assert not reports.count(nonsense)


async def test_whoever_scrapes_an_agent_sees_what_becomes_of_the_files_of_its_edges(tmp_path: Path):
    project = [
        Projection(prefix="app", path=str(tmp_path / "app.json")),
        Projection(prefix="app", path=str(tmp_path / "missing" / "app.json")),
        Projection(
            prefix="app",
            path=str(tmp_path / "told.json"),
            reload=Reload(http="http://127.0.0.1:9/"),
        ),
    ]
    async with one_agent() as agent, edge_of([agent], project=project):

        async def counted() -> bool:
            shown = (await agent.ask("GET", "/metrics")).body.decode()
            return all(
                f'gossipswarm_edge_projections{{state="{state}"}} 1.0' in shown
                for state in ("applied", "unapplied", "trouble")
            )

        await until(counted)
