"""The tables of speed in README.md and docs/scaling.md, from the figures in results/: `python -m benchmarks.table`.

Each stands between two marks, as in <!-- side_by_side --> ... <!-- /side_by_side -->, and is written anew.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
GOAL_MS = 10
"""What half of the searches should not take longer than, at ten million segments."""
RATIOS = "Compare within a row: the machine is shared, and was not equally fast in the hour of each."
CONTENDERS = {
    "indexer": "`indexer run`",
    "torchvision": "torchvision's own recipe",
    "torchvision, careful": "the same, batches of 8, {}",
    "Ray Data": "Ray Data",
    "Daft": "Daft",
}


def side_by_side(figures: dict[str, Any]) -> str:
    """A row for each kind of work: our wall seconds, and how many times as long the others take.

    Rows may be of different hours, in which the same machine was not equally fast; those of one row were measured in turn.
    """
    heads = " | ".join(CONTENDERS.values()).format(figures.get("careful_format", "bf16"))
    lines = [f"| | {heads} |", "|---" + "|--:" * len(CONTENDERS) + "|"]
    for name, workload in sorted(figures.items()):
        if isinstance(workload, dict) and "wall_seconds" in workload:
            taken = workload["wall_seconds"]
            others = [f"{taken[one] / taken['indexer']:.1f} x" if one in taken else "" for one in list(CONTENDERS)[1:]]
            cells = [f"{taken['indexer']:.0f} s", *others]
            lines.append(f"| {workload['video_seconds'] // 60} min of {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + f"\n\nWhole commands, start-up included, r3d_18, {_machine(figures)}. {RATIOS}\n"


def models(figures: dict[str, Any]) -> str:
    """A row for each model: seconds for a clip as it runs by itself and as `precision: auto` runs it, and how they agree."""
    heads = ["model", "fp32, one clip", "`precision: auto`", "mode", "times faster", "cosine of embeddings"]
    lines = [f"| {' | '.join(heads)} |", "|---|--:|--:|---|--:|--:|"]
    for name, model in figures.items():
        if isinstance(model, dict) and "times_faster" in model:
            lines.append(
                f"| {name} | {model['fp32_seconds_per_clip']:.2f} s | {model['seconds_per_clip']:.2f} s | {model['mode']} |"
                f" {model['times_faster']:.1f} | {model['cosine_of_embeddings']:.6f} |"
            )
    return "\n".join(lines) + f"\n\nCPU seconds for one clip of the model's own length and size, {_machine(figures)}.\n"


def catalog(figures: dict[str, Any]) -> str:
    """A row for each question that a search asks, with the milliseconds for a common, a middling and a rare label."""
    places = {"SQLite": figures["sqlite"], "PostgreSQL": figures["postgresql"]}
    lines = [f"| | {' | '.join(places)} |", "|---" + "|--:" * len(places) + "|"]

    def row(name: str, cells: Iterable[str]) -> None:
        lines.append(f"| {name} | {' | '.join(cells)} |")

    row("hits a second while committing", (f"{place['hits_per_second']:,}" for place in places.values()))
    row("bytes for each segment", (f"{place['bytes_per_segment']:.0f}" for place in places.values()))
    kinds = list(dict.fromkeys(name.partition(", ")[0] for name in figures["sqlite"]["answers_ms"]))
    for question in dict.fromkeys(name.partition(", ")[2] for name in figures["sqlite"]["answers_ms"]):
        answers = ([place["answers_ms"][f"{kind}, {question}"] for kind in kinds] for place in places.values())
        row(question, (f"{' / '.join(f'{taken:.0f}' for taken in times)} ms" for times in answers))
    more = "more_when_something_has_changed_ms"
    row("more, when something has changed since the last search", (f"{place[more]:.0f} ms" for place in places.values()))
    met = [sum(taken <= GOAL_MS for taken in place["answers_ms"].values()) for place in places.values()]
    return "\n".join(lines) + (
        f"\n\nMedians for a label that is in very many segments / in many / in few; {figures['segments']:,} segments,"
        f" {_machine(figures)}.\nNo more than {GOAL_MS} ms: {met[0]} of {len(figures['sqlite']['answers_ms'])} answers on"
        f" SQLite, {met[1]} on PostgreSQL.\n"
    )


def whole_run(figures: dict[str, Any]) -> str:
    """A row for each kind of sampling: what decoding and the model alone would take, and what the whole run takes."""
    lines = ["| | floor | `indexer run` | times the floor | ... without start-up |", "|---|--:|--:|--:|--:|"]
    for name, of in (("a clip every 2 s", figures["dense"]), ("a clip every 10 s", figures["sparse"])):
        taken = of["run"]["wall_seconds"]
        lines.append(
            f"| {name} | {of['floor_seconds']:.0f} s | {taken:.0f} s | {of['times_the_floor']:.2f} |"
            f" {of['times_the_floor_after_start']:.2f} |"
        )
    return "\n".join(lines) + f"\n\n{figures['video_seconds'] // 60} minutes of 720p, r3d_18, {_machine(figures)}.\n"


def s3_faults(figures: dict[str, Any]) -> str:
    """A row for the run that met no faults, and one for that which did."""
    lines = ["| | indexed | requests | bytes sent | needed | time |", "|---|--:|--:|--:|--:|--:|"]
    share = f"{figures['faulty_share_of_requests']:.0%} of all requests fail"
    for name, run in {"no faults": figures["undisturbed"], share: figures["disturbed"]}.items():
        sizes = (f"{run[size] / 1e6:,.1f} MB" for size in ("sent_bytes", "needed_bytes"))
        lines.append(f"| {name} | {run['indexed']:,} | {run['requests']:,} | {' | '.join(sizes)} | {run['seconds']:.0f} s |")
    same = "the same" if figures["same_index"] else "different"
    return "\n".join(lines) + (
        f"\n\nBoth indexes are {same}; {figures['wasted_share_of_bytes']:.1%} of the bytes were sent for nothing."
        f" {_machine(figures)}.\n"
    )


def _machine(figures: dict[str, Any]) -> str:
    machine = figures["machine"]
    kind = machine["cpu"] if machine.get("avx512", True) else f"{machine['cpu']} without AVX-512"
    return f"{machine['cores']} cores ({kind}), {figures['date']}"


TABLES: dict[str, dict[str, Callable[[dict[str, Any]], str]]] = {
    "README.md": {"side_by_side": side_by_side},
    "docs/scaling.md": {
        "catalog_10_000_000": catalog,
        "whole_run": whole_run,
        "models": models,
        "models_avx2": models,
        "side_by_side_avx2": side_by_side,
    },
    "docs/storage.md": {"s3_faults": s3_faults},
}
"""Page -> names of figures, and what makes a table of them."""


def with_table(page: str) -> str:
    """The text of a page, with its tables as the figures say."""
    text = (ROOT / page).read_text()
    for name, render in TABLES[page].items():
        figures = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, rest = text.split(begin)
        text = before + begin + render(figures) + end + rest.split(end)[1]
    return text


def main() -> None:
    for page in TABLES:
        (ROOT / page).write_text(with_table(page))


if __name__ == "__main__":
    main()
