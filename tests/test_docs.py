"""What the README and the pages of docs/ say is so: commands are known, links lead somewhere, codes are those of the code."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import urllib.request
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
from indexer.search.parse import parse
from tests.archives import Archive

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
RUN_ELSEWHERE = {"README.md": {"api", "parquet"}, "docs/querying.md": None}
"""Pages with recipes in Python or shell, and the tests that run them: test_readme and test_querying look that they run all."""


TYPED_ELSEWHERE = {
    "make demo": "tests/test_demo.py",
    "make test": "what you are looking at",
    ". .venv/bin/activate": "a file that `make` makes",
    "docker ": "tests/test_docker.py looks at files, targets and commands; there is no engine",
    "RAY_AUTH_MODE=token ray start ": "tests/test_cluster_demo.py starts such nodes; here, what Ray says of the options",
    "ray job submit ": "`make image-steps` submits a job; here, what Ray says of the options",
}
"""How a line begins that is no `indexer ...`, and who tests it."""


def blocks(page: Path) -> list[tuple[str, str]]:
    """(What stands behind the first fence, the text) of each."""
    return re.findall(r"^```([^\n]*)\n(.*?)^```$", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def typed(page: Path) -> list[str]:
    """What people are told to type, without comments."""
    text = "".join(text for kind, text in blocks(page) if kind == "console")
    return [line.split(" #")[0].strip() for line in re.findall(r"^\w*\$ +(.*)$", text, flags=re.MULTILINE)]


def commands(page: Path) -> Iterator[list[str]]:
    """What people are told to type after `indexer`."""
    for line in typed(page):
        if found := re.match(r"(?:ray job submit .* -- )?indexer (.*)", line):
            yield shlex.split(re.split(r" [>|] ", found[1])[0])


def test_everything_that_is_to_be_typed_is_run_or_tested_otherwise() -> None:
    """`indexer ...` by the last test of this file."""
    others = {line for page in PAGES for line in typed(page) if not line.startswith("indexer ")}
    assert {line for line in others if not line.startswith(tuple(TYPED_ELSEWHERE))} == set()
    assert [start for start in TYPED_ELSEWHERE if not any(line.startswith(start) for line in others)] == []
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(
        r"(?:^|`)make ([\w-]+)", "\n".join([*others, *(page.read_text() for page in PAGES)]), re.MULTILINE
    ):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"


def test_ray_understands_what_is_to_be_typed() -> None:
    from ray.dashboard.modules.job.cli import submit
    from ray.scripts.scripts import start

    lines = [line for line in typed(ROOT / "docs/scaling.md") if not line.startswith("indexer ")]
    assert len(lines) == 3
    for line in lines:
        words = [word for word in shlex.split(line) if word != "RAY_AUTH_MODE=token"]
        for command, beginning in ((start, ["ray", "start"]), (submit, ["ray", "job", "submit"])):
            if words[: len(beginning)] == beginning:
                command.make_context(beginning[-1], words[len(beginning) :])


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_and_options_in_the_text_are_those_of_the_program(page: Path) -> None:
    group = typer.main.get_group(app)
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for name, rest in re.findall(r"`indexer ([^\s`]+)([^`]*)`", text):
        known = {
            option for parameter in group.commands[name].params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        for option in re.findall(r"(?<![\w-])--?[a-z][\w-]*", rest):
            assert option in known, f"indexer {name} {option}"


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
    assert told == {"--upgrade .", "opentimelineio", "sentence-transformers", "faiss-cpu", "pandas", "torchcodec"}


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
            assert language == "console" or (kind, page.name) in {("", "architecture.md"), ("", "searching.md")}, kind


def test_the_example_of_a_query_is_one() -> None:
    ((_, text),) = [block for block in blocks(ROOT / "docs/searching.md") if block[0] == ""]
    query = parse(text.strip())
    assert query.near is not None
    assert (query.action.words, query.near.action.words, query.without) == (("drinking",), ("laughing",), ("drinking beer",))


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


def test_every_command_of_the_documentation_works(tmp_path: Path) -> None:
    """From the first ten minutes on, on real videos; no weights are downloaded."""
    archive = Archive(tmp_path)
    for number in range(3):
        archive.add(f"{number}.mp4", first=number * 9)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/demo.yaml").write_text((ROOT / "jobs/demo.yaml").read_text())
    job = tmp_path / "jobs" / "mine.yaml"
    codes = {}
    here = {"/srv/archive/masters": str(archive.videos), "20": "1", "jobs/archive.yaml": "jobs/mine.yaml"}
    here["/srv/jobs/archive.yaml"] = "jobs/mine.yaml"  # a path of all machines

    def indexer(*words: str) -> tuple[int, str, str]:
        """Its exit code, and what it said. A page is looked at; its exit code is 0 if it was there."""
        command = [sys.executable, "-m", "indexer", *(here.get(word, word) for word in words)]
        if words[0] == "serve":
            return looked_at([*command, "--port", "0"], tmp_path)
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout, done.stderr

    for words in commands(ROOT / "docs" / "getting-started.md"):
        code, out, complaints = indexer(*words)
        codes[" ".join(word for word in words if word in (words[0], "--limit", "jobs/demo.yaml"))] = (code, complaints)
        if words[0] == "init":
            text = out.replace("KINETICS400_V1", "random")
            job.write_text(re.sub(r"name: (r3d_18|mc3_18|r2plus1d_18|s3d|mvit\w+|swin\w+)", "name: r3d_18", text).replace(
                "min_age: 10m", "min_age: 0s").replace("cron: null", 'cron: "15 1 * * *"'))  # fmt: skip
    assert {name: code for name, (code, _) in codes.items()} == {
        "serve jobs/demo.yaml": 0, "init": 0, "doctor": 0, "plan": 0, "run --limit": 75, "status": 0, "run": 0, "search": 0,
        "serve": 0, "schedule": 0,
    }, codes  # fmt: skip
    assert (tmp_path / "archery.csv").exists()
    assert list((tmp_path / "units").iterdir())
    for words in {tuple(words): words for page in PAGES if page.name != "getting-started.md" for words in commands(page)}:
        code, _, complaints = indexer(*words)
        assert code == 0, (words, complaints)
    assert (tmp_path / "live.parquet").exists()


def looked_at(command: list[str], folder: Path) -> tuple[int, str, str]:
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        try:
            found = re.search(r"http://127\.0\.0\.1:\d+/", line)
            assert found, line
            with urllib.request.urlopen(found[0], timeout=60) as answer:
                return 0, answer.read().decode(), line
        finally:
            process.send_signal(signal.SIGINT)


def test_every_fault_is_tested_as_the_page_says() -> None:
    rows = re.findall(r"^\|.*\|$", (ROOT / "docs" / "reliability.md").read_text(), flags=re.MULTILINE)[2:]
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    assert len(rows) >= 20
    for row in rows:
        named = re.findall(r"`(test_\w+)`", row)
        assert named, row
        assert [name for name in named if f"def {name}(" not in tests] == []
