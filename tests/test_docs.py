"""The documentation is true: generated pages are current, links lead somewhere, commands and code run."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import guides
from gossipctl.catalogue import SINGLE, VERBS
from gossipctl.local.backend import LocalBackend
from gossipctl.main import load
from gossipctl.parser import Parser
from gossipswarm_agent.api import limits
from gossipswarm_agent.core import paths
from gossipswarm_agent.project.projections import parse_projections
from gossipswarm_agent.runtime.hooks_file import CALLED, EVENTS, parse_hooks

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")],
    key=lambda page: str(page.relative_to(ROOT)),
)
EXECUTED = (
    "README.md",
    "docs/http-api.md",
    "docs/partitions.md",
    "docs/hooks.md",
    "docs/projection.md",
    "docs/troubleshooting.md",
)


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_generated_pages_are_what_the_program_says() -> None:
    generator = runpy.run_path(str(ROOT / "docs" / "generate.py"))
    pages = generator["pages"]()
    stale = [path.name for path, text in pages.items() if path.read_text("utf-8") != text]
    assert stale == [], "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """Names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_that_are_shown_exist_with_the_flags_that_are_shown(page: Path) -> None:
    for words in commands(page.read_text("utf-8")):
        known = set(VERBS) | set(SINGLE)
        while words and words[0] == "--swarm":
            words = words[2:]
        if not words or words[0] not in known:
            continue
        noun = words[0]
        if noun in VERBS and (len(words) == 1 or words[1] not in VERBS[noun]):
            assert len(words) == 1 or not re.fullmatch(r"[a-z][a-z-]*", words[1]), words
            continue
        name, module = (
            (words[1], VERBS[noun][words[1]][1]) if noun in VERBS else (noun, SINGLE[noun][1])
        )
        parser = Parser("gossipctl", about="")
        load(name, module).arguments(parser)
        parser.add_globals()
        flags = {word.partition("=")[0] for word in words if word.startswith("--")}
        if name != "simulate":
            assert flags <= set(parser._option_string_actions) | {"--help"}, words


def commands(text: str) -> Iterator[list[str]]:
    """Every mention of ``gossipctl`` or ``kubectl gossip``, as words up to where the command ends."""
    joined = re.sub(r"\\\n\s*", " ", text)
    for line in re.findall(r"(?:gossipctl|kubectl gossip) +([^\n`|&;)#]*)", joined):
        yield re.sub(r"'[^']*'|\"[^\"]*\"", "X", line).split()


@pytest.mark.parametrize("directory", ["docs/decisions", "docs/results"])
def test_an_index_lists_every_page_beside_it(directory: str) -> None:
    index = ROOT / directory / "README.md"
    listed = set(re.findall(r"\]\(([^)#/]+\.md)\)", index.read_text("utf-8")))
    assert listed == {page.name for page in index.parent.glob("*.md")} - {"README.md"}


def test_hooks_files_that_are_shown_are_valid() -> None:
    shown = [
        block.text
        for block in guides.blocks(ROOT / "docs" / "hooks.md")
        if block.language == "yaml"
    ]
    assert shown
    for text in shown:
        assert parse_hooks(yaml.safe_load(text))


def test_projections_that_are_shown_are_valid() -> None:
    shown = [
        document["project"]
        for block in guides.blocks(ROOT / "docs" / "projection.md")
        if block.language == "yaml" and "project" in (document := yaml.safe_load(block.text))
    ]
    assert [len(parse_projections(entries)) for entries in shown] == [3]


def test_the_events_that_hooks_may_name_are_all_described() -> None:
    page = (ROOT / "docs" / "hooks.md").read_text("utf-8")
    rows = re.search(r"^## Events\n(.*?)^## ", page, re.MULTILINE | re.DOTALL)
    assert rows
    first_columns = [line.split("|")[1] for line in rows[1].splitlines() if line.startswith("| `")]
    named = {name for column in first_columns for name in re.findall(r"`([^`]+)`", column)}
    assert named == {*EVENTS, *CALLED}


def test_reasons_of_refusals_that_are_shown_exist() -> None:
    page = (ROOT / "docs" / "http-api.md").read_text("utf-8")
    source = "".join(
        path.read_text("utf-8") for path in (ROOT / "agent" / "gossipswarm_agent").rglob("*.py")
    )
    shown = [
        reason
        for line in page.splitlines()
        if re.match(r"\| [45]\d\d", line)
        for reason in re.findall(r"`([a-z-]+)`", line.split("|")[2])
    ]
    assert shown
    assert [reason for reason in shown if f'"{reason}"' not in source] == []


def test_limits_that_are_shown_are_those_in_force() -> None:
    page = " ".join((ROOT / "docs" / "http-api.md").read_text("utf-8").split())
    assert (
        f"Limits: a body of {limits.MAX_BODY_BYTES >> 20} MiB, "
        f"a key of {paths.MAX_KEY_BYTES} bytes and {paths.MAX_DEPTH} segments, "
        f"{paths.MAX_LEAVES:,} leaves a write, values nested {limits.MAX_NESTING} deep."
    ) in page


@pytest.fixture
def swarm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Nine agents in three regions, and a directory to run commands in."""
    for name, place in (
        ("HOME", tmp_path),
        ("XDG_STATE_HOME", tmp_path / "state"),
        ("XDG_RUNTIME_DIR", tmp_path / "run"),
    ):
        place.mkdir(exist_ok=True)
        monkeypatch.setenv(name, str(place))
    monkeypatch.delenv("GOSSIPSWARM_SWARM", raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    work = tmp_path / "work"
    work.mkdir()
    (work / "examples").symlink_to(ROOT / "examples")
    gossipctl("swarm", "init", "--regions", "us-east,us-west,eu-central")
    for region in ("us-east", "us-west", "eu-central"):
        gossipctl("agent", "spawn", "--region", region, "--name", region, "--count", "3")
    gossipctl("wait", "--for", "ready")
    await_acquaintance(9, seconds=120.0)
    gossipctl("gossip", "state-update", "--key", "app.ttl", "--value", "60")
    yield work
    for directory in (tmp_path / "state" / "gossipswarm").iterdir():
        if directory.is_dir():
            gossipctl("swarm", "delete", directory.name, "--yes", "--if-exists")


def await_acquaintance(agents: int, seconds: float) -> None:
    """Until every agent knows every other: what a guide shows is the settled swarm."""
    deadline = time.monotonic() + seconds
    while any(each.agent().members_alive != agents for each in LocalBackend().swarm(None).agents()):
        assert time.monotonic() < deadline, "the agents do not know each other"


def gossipctl(*arguments: str) -> str:
    done = subprocess.run(["gossipctl", *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.swarm
@pytest.mark.parametrize("name", EXECUTED)
def test_the_commands_of_a_guide_run(name: str, swarm: Path) -> None:
    page = ROOT / name
    scripts = [block.text for block in guides.blocks(page) if block.language == "bash"]
    assert scripts
    guides.run(scripts, swarm, os.environ, seconds=900)


@pytest.mark.swarm
def test_the_code_of_the_python_guide_runs(swarm: Path) -> None:
    code = "\n".join(
        block.text
        for block in guides.blocks(ROOT / "docs" / "python-client.md")
        if block.language == "python"
    )
    script = 'eval "$(gossipctl agent env)"\npython guide.py\n'
    (swarm / "guide.py").write_text(code)
    (outcome,) = guides.run([script], swarm, os.environ, seconds=300)
    assert "100 acknowledged" in outcome.stdout
    assert "9 of 9 agents" in outcome.stdout


@pytest.mark.swarm
def test_metrics_that_are_shown_exist(swarm: Path) -> None:
    shown = {
        name
        for page in PAGES
        for name in re.findall(r"--metric ([a-z][a-z_-]+)", page.read_text("utf-8"))
    }
    assert len(shown) > 5
    for name in sorted(shown):
        gossipctl("gossip", "metrics", "--metric", name)
