"""What the README and the pages of docs/ say is so: commands are known, links lead somewhere, codes are those of the code."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer
import yaml

from benchmarks.table import TABLES, with_table
from indexer.cli import app
from indexer.config import load_job
from indexer.errors import VIDEO_ERRORS, StopRun, VideoSkip
from indexer.job_reference import job_reference
from tests.archives import Archive

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
RUN_ELSEWHERE = {"README.md": {"api"}, "docs/querying.md": None}
"""Pages with recipes in Python or shell, and the tests that run them: test_readme and test_querying look that they run all."""


def blocks(page: Path) -> list[tuple[str, str]]:
    """(What stands behind the first fence, the text) of each."""
    return re.findall(r"^```([^\n]*)\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[list[str]]:
    """What people are told to type after `indexer`."""
    for kind, text in blocks(page):
        if kind == "console":
            for line in text.splitlines():
                if found := re.match(r"(?:\w*\$ +)(?:ray job submit .* -- )?indexer (.*)", line):
                    yield shlex.split(re.split(r" [>|] | #", found[1])[0])


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_command_is_one_that_the_program_knows(page: Path) -> None:
    group = typer.main.get_group(app)
    for words in commands(page):
        command = group.commands[words[0]]
        try:
            command.make_context(words[0], words[1:])
        except click.ClickException as error:
            pytest.fail(f"indexer {' '.join(words)}: {error.message}")


def test_nobody_is_told_to_install_another_program_of_our_name() -> None:
    """This one is not published: only its folder, and the packages it can use, may be installed by name."""
    written = [*PAGES, ROOT / "CHANGELOG.md", *(ROOT / "indexer").rglob("*.py")]
    told = {found for path in written for found in re.findall(r"pip install (--upgrade \.|[\w'\[-]+)", path.read_text())}
    assert told == {"--upgrade .", "opentimelineio", "sentence-transformers", "faiss-cpu", "pandas"}


def test_every_command_takes_json_as_the_page_says() -> None:
    commands = typer.main.get_group(app).commands
    assert [name for name, command in commands.items() if not any("--json" in each.opts for each in command.params)] == []


def test_most_pages_show_commands() -> None:
    assert sum(len(list(commands(page))) for page in PAGES) >= 25


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_every_block_is_of_a_kind_that_is_checked(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK", "secret")
    for kind, text in blocks(page):
        language, _, name = kind.partition(" ")
        if language in ("python", "sh"):
            known = RUN_ELSEWHERE[str(page.relative_to(ROOT))]
            assert name if known is None else name in known
        elif language == "yaml":
            job = {"name": "x", "source": {"uri": "."}, "model": {"name": "r3d_18", "weights": "random"}}
            for section, keys in yaml.safe_load(text).items():
                job[section] = {**job.get(section, {}), **keys}  # type: ignore[dict-item]
            (tmp_path / "job.yaml").write_text(yaml.safe_dump(job))
            load_job(tmp_path / "job.yaml")
        else:
            assert language in ("", "console", "json"), kind


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


def test_every_page_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[^)]+\.md)\)", PAGES[0].read_text()))
    assert linked == {name for name in NAMES[1:] if name != "docs/README.md"}


def test_the_readme_fits_on_two_screens() -> None:
    assert len(PAGES[0].read_text().splitlines()) <= 110


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_files_of_the_program_that_are_named_are_there(page: Path) -> None:
    for name in re.findall(r"`((?:indexer|tests|benchmarks|demo|docker|jobs|schemas)/[\w./-]+\.\w+)`", page.read_text()):
        assert (ROOT / name).exists() or name == "jobs/mine.yaml", name
    for module in re.findall(r"python -m (benchmarks|demo|tests)[ .](\w+)", page.read_text()):
        assert (ROOT / "/".join(module)).with_suffix(".py").exists(), module


def table_of(page: str, heading: str) -> dict[str, list[str]]:
    """First cell of each row under a heading, without its marks -> the other cells."""
    text = (ROOT / page).read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")]
    return {row[0].strip("`"): row[1:] for row in rows[1:]}


def test_failure_codes_are_those_of_the_program() -> None:
    table = table_of("docs/operating.md", "Failure codes")
    assert table == {
        code: [(error.__doc__ or "").strip().splitlines()[0], "yes" if error.retry else "", error.cure]
        for code, error in VIDEO_ERRORS.items()
    }


def test_skip_reasons_are_those_of_the_program() -> None:
    table = table_of("docs/operating.md", "Skipped videos")
    assert {reason: cells[0] for reason, cells in table.items()} == {
        reason: f"{text[0].upper()}{text[1:]}." for reason, text in VideoSkip.REASONS.items()
    }


def test_warning_codes_are_those_of_the_program() -> None:
    used = {
        code for path in (ROOT / "indexer" / "decode").rglob("*.py") for code in re.findall(r'"(W_[A-Z_]+)"', path.read_text())
    }
    assert set(table_of("docs/operating.md", "Warnings")) == used


def exit_codes_of_errors(root: type[StopRun]) -> set[int]:
    return {root.exit_code}.union(*(exit_codes_of_errors(child) for child in root.__subclasses__()))


def test_exit_codes_are_those_of_the_program() -> None:
    named = {int(code) for cell in table_of("docs/operating.md", "Exit codes") for code in cell.split(", ")}
    assert named == exit_codes_of_errors(StopRun) | {0, 3, 4, 75, 130, 143}


def test_the_page_of_job_keys_is_the_one_of_the_code() -> None:
    assert (ROOT / "docs" / "job-file.md").read_text() == job_reference()


@pytest.mark.parametrize("page", TABLES)
def test_tables_of_speed_say_what_was_measured(page: str) -> None:
    assert (ROOT / page).read_text() == with_table(page)


def test_the_page_of_commands_names_every_command_and_no_other() -> None:
    table = "\n".join(line for line in (ROOT / "docs/commands.md").read_text().splitlines() if line.startswith("| `indexer "))
    assert set(re.findall(r"`indexer (\w+)", table)) == set(typer.main.get_group(app).commands)


def test_the_first_ten_minutes_go_as_they_are_told(tmp_path: Path) -> None:
    """Every command of the page on real videos; but no page is served, and no weights are downloaded."""
    archive = Archive(tmp_path)
    for number in range(3):
        archive.add(f"{number}.mp4", first=number * 9)
    (tmp_path / "jobs").mkdir()
    job = tmp_path / "jobs" / "mine.yaml"
    codes = {}
    here = {"/srv/archive/masters": str(archive.videos), "20": "1", "jobs/archive.yaml": "jobs/mine.yaml"}

    def indexer(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "indexer", *(here.get(word, word) for word in words)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)

    for words in commands(ROOT / "docs" / "getting-started.md"):
        if words[0] == "serve":
            continue
        done = indexer(*words)
        codes[" ".join(words[:1] + [word for word in words if word == "--limit"])] = (done.returncode, done.stderr)
        if words[0] == "init":
            text = done.stdout.replace("KINETICS400_V1", "random")
            job.write_text(re.sub(r"name: (r3d_18|mc3_18|r2plus1d_18|s3d|mvit\w+|swin\w+)", "name: r3d_18", text).replace(
                "min_age: 10m", "min_age: 0s").replace("cron: null", 'cron: "15 1 * * *"'))  # fmt: skip
    assert {name: code for name, (code, _) in codes.items()} == {
        "init": 0, "doctor": 0, "plan": 0, "run --limit": 75, "status": 0, "run": 0, "search": 0, "schedule": 0,
    }, codes  # fmt: skip
    assert (tmp_path / "archery.csv").exists()
    assert list((tmp_path / "units").iterdir())
    for page in ("README.md", "docs/operating.md", "docs/upkeep.md"):  # what they say of it all year
        for words in commands(ROOT / page):
            if words[0] not in ("serve", "init"):
                done = indexer(*words)
                assert done.returncode == 0, (page, words, done.stderr)
