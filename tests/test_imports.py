"""The rooms of the house import one another in one direction only."""

import ast
from collections.abc import Iterator, Mapping

import pytest

from scripts import rooms
from scripts.rooms import PACKAGE, imports, modules, named, room

LIGHT = {"atomic", "blame", "config", "register", "schemas", "typing"}
COMMON = LIGHT | {"arrays"}
FLOOR = {"autodiff", "td", "envs", "replay", "tracking", "analysis"}
MIDDLE = FLOOR | {"gradients", "agents"}
# Which rooms a room may import, besides itself. A room that is not named here is not
# part of the house yet: the test fails until it has its place.
MAY_IMPORT = {
    "arrays": set(),
    "atomic": set(),
    "typing": set(),
    "blame": {"config", "typing"},
    "config": {"typing"},
    "long": {"typing"},
    "prng": set(),
    "register": {"config", "typing"},
    "schemas": {"config", "register", "typing"},
    **{room: COMMON for room in FLOOR},
    "autodiff": {"arrays", "typing"},
    "envs": COMMON | {"prng", "long"},
    "gradients": COMMON | {"autodiff"},
    "search": COMMON,
    "agents": COMMON | {"gradients", "td", "replay"},
    "meta": COMMON | {"prng", "agents", "autodiff"},
    "training": COMMON | {"prng", "long"} | MIDDLE | {"meta"},
    "studies": COMMON | {"prng"} | MIDDLE | {"meta", "training"},
    "results": COMMON | {"tracking", "analysis"},
    "inspection": COMMON | {"prng"} | MIDDLE | {"meta", "training"},
    "cli": COMMON | MIDDLE | {"meta", "training", "inspection", "search", "results"},
}
# Libraries that only some places import (prefixes of module names).
ONLY_IN = {
    "hydra": ("rl_grads.cli",),
    "omegaconf": ("rl_grads.cli",),
    "hydra._internal": ("rl_grads.cli.hydra_private",),
    "wandb": ("rl_grads.tracking.wandb",),
    "wandb_workspaces": ("rl_grads.tracking.wandb_view",),
    "trackio": (
        "rl_grads.tracking.trackio",
        "rl_grads.cli.dashboard",
        "rl_grads.cli.dashboard_runs",
    ),
}
ABOVE = ("experiments", "tests", "scripts")


# ------------------------------------------------------------------ reading imports


def eager_imports(source: str, module: str) -> set[str]:
    """Those that run when the module is imported: not in functions, not for typing."""
    nodes = _eager(ast.parse(source))
    return {name for node in nodes for name in named(node, module, False)}


def _eager(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.Lambda) and not _typing(child):
            yield from _eager(child)


def _typing(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def within(name: str, *prefixes: str) -> bool:
    """Whether a dotted name is one of the prefixes or lies below it."""
    return any(name == p or name.startswith(f"{p}.") for p in prefixes)


# ------------------------------------------------------------------------- the rules


def wrong_rooms(module: str, names: set[str], rooms: set[str]) -> set[str]:
    """Imports of a room that this one must not know."""
    allowed = MAY_IMPORT[room(module)] | {room(module)}
    return {n for n in names if (room(n) or "") in rooms - allowed}


def wrong_libraries(module: str, names: set[str]) -> set[str]:
    """Imports of a library that belongs elsewhere."""
    barred = {lib for lib, places in ONLY_IN.items() if not within(module, *places)}
    return {n for n in names if within(n, *barred)}


def wrong_siblings(module: str, names: set[str], pages: set[str]) -> set[str]:
    """Imports of another agent's page; only the room's own page collects them."""
    if not module.startswith(f"{PACKAGE}.agents."):
        return set()
    others = {page for page in pages if not within(module, page)}
    return {n for n in names if within(n, *others)}


def circles(imported: Mapping[str, set[str]]) -> list[str]:
    """Files that import themselves over others; what only leads to them is left out.

    Files that import nothing, or that nothing imports, are taken away as long as there
    are any: what stays is a circle, or lies between two.
    """
    left = {name: set(others) for name, others in imported.items()}
    while True:
        used = set().union(*left.values()) if left else set()
        ends = {n for n, others in left.items() if not others & set(left)}
        ends |= {name for name in left if name not in used}
        if not ends:
            return sorted(left)
        left = {n: o - ends for n, o in left.items() if n not in ends}


def is_agent_page(source: str) -> bool:
    """Whether a module defines a public function that returns an `Agent`."""
    return any(
        isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and node.returns is not None
        and ast.unparse(node.returns).strip("'\"").split(".")[-1] == "Agent"
        for node in ast.parse(source).body
    )


def must_be_light(module: str) -> bool:
    """Modules that the command line reads before it knows what to do."""
    return module.endswith(".schema") or room(module) in LIGHT


# ------------------------------------------------------------------- the real sources


MODULES = modules(PACKAGE)
INNER = [name for name in MODULES if room(name)]
ROOMS = {str(room(name)) for name in INNER}


def _imports_of(module: str) -> set[str]:
    path = MODULES[module]
    return imports(path.read_text(), module, path.name == "__init__.py")


def _agent_pages() -> set[str]:
    pages = [name for name in INNER if room(name) == "agents"]
    return {name for name in pages if is_agent_page(MODULES[name].read_text())}


def test_every_room_has_its_place() -> None:
    assert set() == ROOMS - set(MAY_IMPORT)
    assert COMMON < ROOMS


@pytest.mark.parametrize("module", INNER)
def test_a_room_imports_only_the_rooms_below_it(module: str) -> None:
    assert wrong_rooms(module, _imports_of(module), ROOMS) == set()


@pytest.mark.parametrize("module", MODULES)
def test_libraries_stay_in_their_place(module: str) -> None:
    assert wrong_libraries(module, _imports_of(module)) == set()


@pytest.mark.parametrize("module", MODULES)
def test_the_package_imports_nothing_from_above(module: str) -> None:
    assert {n for n in _imports_of(module) if within(n, *ABOVE)} == set()


def _file_of(name: str) -> str:
    """The module that a dotted name is, or is defined in; empty outside."""
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def test_no_file_imports_itself_over_others() -> None:
    files = {m: {_file_of(n) for n in _imports_of(m)} - {m, ""} for m in MODULES}
    assert circles(files) == []


@pytest.mark.parametrize("module", [m for m in INNER if room(m) == "agents"])
def test_no_agent_imports_a_sibling(module: str) -> None:
    assert wrong_siblings(module, _imports_of(module), _agent_pages()) == set()


@pytest.mark.parametrize("module", [m for m in INNER if must_be_light(m)])
def test_schemas_import_no_arrays(module: str) -> None:
    eager = eager_imports(MODULES[module].read_text(), module)
    assert {n for n in eager if within(n, "jax", "numpy", "flax", "optax")} == set()


# ----------------------------------------------------------------- checking the checker


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("import jax.numpy as jnp", "jax.numpy"),
        ("def f():\n    from rl_grads.td import errors", "rl_grads.td.errors"),
        ("from rl_grads import envs", "rl_grads.envs"),
        ("from .. import networks", "rl_grads.agents.networks"),
        ("from .rules import Q", "rl_grads.agents.pages.rules.Q"),
        ("from ...td import errors", "rl_grads.td.errors"),
    ],
)
def test_imports_are_found(source: str, named: str) -> None:
    assert imports(source, "rl_grads.agents.pages.q_learning") == {named}


def test_dots_in_a_package_start_at_the_package() -> None:
    found = imports("from .schema import Env", "rl_grads.envs", is_package=True)
    assert found == {"rl_grads.envs.schema.Env"}


def test_eager_imports_leave_out_functions_and_typing() -> None:
    source = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import jax
try:
    import numpy
except ImportError:
    pass
def f():
    import jax.numpy
class A:
    import optax
"""
    found = eager_imports(source, "rl_grads.envs.schema")
    assert found == {"typing.TYPE_CHECKING", "numpy", "optax"}


@pytest.mark.parametrize(
    ("module", "name", "wrong"),
    [
        ("rl_grads.td.errors", "rl_grads.autodiff.norms", True),
        ("rl_grads.td.errors", "rl_grads.td.corrections", False),
        ("rl_grads.td.errors", "rl_grads.config.config", False),
        ("rl_grads.replay.buffer", "rl_grads.envs.environment.Environment", True),
        ("rl_grads.gradients.mean", "rl_grads.autodiff.norms", False),
        ("rl_grads.gradients.mean", "rl_grads.agents.agent.Agent", True),
        ("rl_grads.agents.pages.q_learning", "rl_grads.envs", True),
        ("rl_grads.meta.inner", "rl_grads.training.loop", True),
        ("rl_grads.training.loop", "rl_grads.tracking.files", False),
        ("rl_grads.training.loop", "rl_grads.cli.main", True),
        ("rl_grads.training.loop", "rl_grads.studies.walks", True),
        ("rl_grads.meta.inner", "rl_grads.inspection.audit", True),
        ("rl_grads.studies.walks", "rl_grads.training.devices", False),
        ("rl_grads.cli.main", "rl_grads.training.loop", False),
        ("rl_grads.config", "rl_grads.envs.schema", True),
        ("rl_grads.td.errors", "rl_grads.training.schema.Config", False),
        ("rl_grads.autodiff.clip", "rl_grads.training.schema.Config", True),
        ("rl_grads.training.diagnostics.schema", "rl_grads.training.loop", True),
        ("rl_grads.envs.gymnax", "gymnax.make", False),
    ],
)
def test_the_room_rule_can_fail(module: str, name: str, wrong: bool) -> None:
    assert wrong_rooms(module, {name}, set(MAY_IMPORT)) == ({name} if wrong else set())


@pytest.mark.parametrize(
    ("module", "name", "wrong"),
    [
        ("rl_grads.training.loop", "hydra.compose", True),
        ("rl_grads.training.loop", "omegaconf.OmegaConf", True),
        ("rl_grads.cli.main", "hydra", False),
        ("rl_grads.tracking.wandb", "wandb.init", False),
        ("rl_grads.tracking.files", "wandb", True),
        ("rl_grads.cli.dashboard", "trackio", False),
        ("rl_grads.cli.main", "trackio.show", True),
        ("rl_grads.training.loop", "rl_grads.tracking.wandb", False),
    ],
)
def test_the_library_rule_can_fail(module: str, name: str, wrong: bool) -> None:
    assert wrong_libraries(module, {name}) == ({name} if wrong else set())


def test_the_picture_of_the_rooms_is_up_to_date() -> None:
    drawn = rooms.draw(rooms.rooms())
    assert rooms.PICTURE.read_text() == drawn, "run: python -m scripts.rooms"


def test_the_circle_rule_can_fail() -> None:
    files = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"c"}, "e": set()}
    assert circles(files) == ["b", "c"]
    assert circles(files | {"c": {"e"}}) == []


def test_the_sibling_rule_can_fail() -> None:
    pages = {"rl_grads.agents.pages.prediction", "rl_grads.agents.pages.q_learning"}
    names = {"rl_grads.agents.pages.prediction.act", "rl_grads.agents.networks.mlp"}
    wrong = {"rl_grads.agents.pages.prediction.act"}
    assert wrong_siblings("rl_grads.agents.pages.q_learning", names, pages) == wrong
    assert wrong_siblings("rl_grads.agents.pages.prediction", names, pages) == set()
    assert wrong_siblings("rl_grads.agents", names, pages) == set()
    assert wrong_siblings("rl_grads.training.loop", names, pages) == set()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def q_learning() -> Agent: ...", True),
        ("def q_learning() -> 'agent.Agent': ...", True),
        ("def _helper() -> Agent: ...", False),
        ("def mlp() -> Network: ...", False),
    ],
)
def test_agent_pages_are_recognised(source: str, expected: bool) -> None:
    assert is_agent_page(source) is expected
