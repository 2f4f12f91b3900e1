"""The house rules of who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "indexer"
STAGES = {"plan", "decode", "infer", "write", "catalog", "search"}


def imports(path: Path) -> set[str]:
    """Modules that `path` imports, wherever in it, except only for type checking."""
    tree = ast.parse(path.read_text())
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if id(node) in guarded:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


MODULES = {path.relative_to(PACKAGE).with_suffix("").as_posix(): imports(path) for path in PACKAGE.rglob("*.py")}


def test_the_nouns_and_the_errors_import_nothing_of_ours() -> None:
    assert not [name for module in ("records", "errors") for name in MODULES[module] if name.startswith("indexer")]


def test_stages_do_not_import_each_other() -> None:
    crossings = {
        (module, name)
        for module, names in MODULES.items()
        for name in names
        if name.startswith("indexer.") and module.split("/")[0] in STAGES
        for other in STAGES - {module.split("/")[0]}
        if name.startswith(f"indexer.{other}")
    }
    # Search reads the catalog: it may open a reading transaction, and nothing else.
    assert {crossing for crossing in crossings if not crossing[1].startswith("indexer.catalog.connect")} == set()
    assert {module.split("/")[0] for module, _ in crossings} == {"search"}


def test_ray_is_imported_in_one_module_and_torch_where_a_network_or_a_gpu_is_used() -> None:
    def importers(library: str) -> set[str]:
        return {module for module, names in MODULES.items() if any(n.split(".")[0] == library for n in names)}

    assert importers("ray") == {"execute/ray"}
    assert {module for module in importers("torch") | importers("torchvision") if not module.startswith("infer/")} == {
        "execute/workers",
        "decode/readers/nvdec",
    }
    assert {module for module in importers("av") | importers("decord") if not module.startswith("decode/")} == set()


def test_help_loads_nothing_heavy() -> None:
    code = "import sys; from indexer.cli import app; print(sorted({'torch', 'ray', 'av', 'pyarrow', 'sqlalchemy', 'pydantic'} & set(sys.modules)))"  # noqa: E501
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_modules_stay_small() -> None:
    long = {name: n for name in MODULES if (n := len((PACKAGE / f"{name}.py").read_text().splitlines())) > 300}
    assert long == {}
