"""Claims about the shape of the code: dependencies point one way, and every module says what lives in it."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "copilot_quant_pipeline"
MODULES = sorted(PACKAGE.rglob("*.py"))

# A room may import from its own level's other rooms only where LAYERS names them together, and from any level below.
LAYERS = [
    {"definitions", "cli", "dagit"},
    {"hosting"},
    {"upkeep", "alerts"},
    {"equities", "prediction_markets"},
    {"grid", "ledger", "warehouse", "landing"},
    {"calendar", "settings", "home", "process", "sandbox", "gate"},
    {"errors", "answers", "answered", "transport", "vendor_clock", "retry_policy", "redaction", "links"},
]
WITHOUT_DAGSTER = {
    "calendar",
    "landing",
    "sandbox",
    "settings",
    "errors",
    "answers",
    "answered",
    "gate",
    "transport",
    "vendor_clock",
    "retry_policy",
    "redaction",
    "links",
    "home",
    "process",
}
DAGSTER_ONLY_IN = {
    "equities": {"assets"},
    "warehouse": {"io_manager"},
    "grid": {"axes", "runs"},
    "prediction_markets": {"assets", "checks"},
    "alerts": {"sensor", "dagster_problems"},
    "hosting": {"accounts", "ticks", "supervisor"},
}


def _imports(module: Path, *, at_start: bool = False) -> Iterator[str]:
    tree = ast.parse(module.read_text())
    for node in tree.body if at_start else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def _room(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _level(room: str) -> int:
    (level,) = (n for n, rooms in enumerate(LAYERS) if room in rooms)
    return level


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_room_imports_from_its_own_level_or_below(module: Path) -> None:
    if module == PACKAGE / "__init__.py":
        return
    for name in _imports(module):
        if name.startswith("copilot_quant_pipeline."):
            assert _level(name.split(".")[1]) >= _level(_room(module)), f"{module} imports {name}"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_dagster_stays_in_its_modules(module: Path) -> None:
    room, name = _room(module), module.stem
    if room in WITHOUT_DAGSTER or name not in DAGSTER_ONLY_IN.get(room, {name}):
        assert not [n for n in _imports(module) if n.split(".")[0].startswith("dagster")]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_says_what_lives_in_it(module: Path) -> None:
    said = ast.get_docstring(ast.parse(module.read_text())) or ""
    assert said
    if module.name != "__init__.py":
        assert "Not here" in said, f"{module} does not say what does not belong in it"


def test_modules_import_one_another_in_no_circle() -> None:
    names = {".".join(module.relative_to(PACKAGE.parent).with_suffix("").parts): module for module in MODULES}
    # By `from room import module` the module is meant, by `from module import name` the module, too.
    imported = {
        name: {one for one in _modules_imported(module) if one in names and one != name}
        for name, module in names.items()
    }
    TopologicalSorter(imported).prepare()


def _modules_imported(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_a_public_type_has_a_name_of_its_own() -> None:
    named = [
        node.name
        for module in MODULES
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    ]
    assert [name for name, times in Counter(named).items() if times > 1] == []


def test_equities_and_prediction_markets_know_nothing_of_each_other() -> None:
    for module in MODULES:
        others = {"equities": "prediction_markets", "prediction_markets": "equities"}.get(_room(module))
        assert not [name for name in _imports(module) if name.split(".")[1:2] == [others]]


def test_only_the_settings_read_the_environment_for_settings() -> None:
    readers = {_room(module) for module in MODULES if "COPILOT_QUANT_" in module.read_text().replace('"""', "")}
    speaking = {"upkeep", "warehouse", "definitions", "sandbox", "alerts", "hosting", "gate", "ledger"}
    assert readers <= {"settings", "cli", *speaking}
    reading = {_room(module) for module in MODULES if "os.environ" in module.read_text()}
    assert reading <= {"settings", "cli", "ledger"}
