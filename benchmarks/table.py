"""The README's table of speed, from the figures in results/: `python -m benchmarks table` writes it anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.side_by_side import WORKLOADS

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parents[1] / "README.md"
BEGIN, END = "<!-- benchmarks -->\n", "<!-- /benchmarks -->"
CONTENDERS = {
    "indexer": "`indexer run`",
    "torchvision": "torchvision's own recipe",
    "torchvision, careful": "the same, batches of 8, bf16",
    "Ray Data": "Ray Data",
    "Daft": "Daft",
}


def rendered(figures: dict[str, Any]) -> str:
    """Markdown: a row for each workload of `side_by_side`, wall seconds for each contender."""
    lines = ["| | " + " | ".join(CONTENDERS.values()) + " |", "|---" + "|--:" * len(CONTENDERS) + "|"]
    for name in WORKLOADS:
        taken = figures[name]["wall_seconds"]
        cells = [f"{taken[one]:.0f} s" if one in taken else "" for one in CONTENDERS]
        minutes = figures[name]["video_seconds"] // 60
        lines.append(f"| {minutes} min of {name} | {' | '.join(cells)} |")
    machine = figures["machine"]
    about = f"Whole commands, start-up included, {machine['cores']} cores ({machine['cpu']}), r3d_18, {figures['date']}."
    return "\n".join(lines) + f"\n\n{about}\n"


def with_table(text: str) -> str:
    """`text`, with what stands between the two marks replaced."""
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    return before + BEGIN + rendered(json.loads((RESULTS / "side_by_side.json").read_text())) + END + after


def main() -> None:
    README.write_text(with_table(README.read_text()))


if __name__ == "__main__":
    main()
