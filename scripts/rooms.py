"""The rooms of `rl_grads`, read from its imports, and their picture.

    python -m scripts.rooms        draws docs/images/rooms.svg

A room is a folder or a single file right below the package; the schemas of all folders,
which import no JAX, are one room of their own. Each stands above all that it imports; a
line is left out where a longer way says the same.
"""

import ast
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "rl_grads"
PICTURE = ROOT / "docs/images/rooms.svg"

Rooms = dict[str, set[str]]

# ------------------------------------------------------------------ reading imports


def modules(top: str) -> dict[str, Path]:
    """Dotted name to file of every module below a folder of the repository."""
    return {_dotted(path): path for path in sorted((ROOT / top).rglob("*.py"))}


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, module: str, is_package: bool = False) -> set[str]:
    """Every module that a source names in an import, wherever the import stands."""
    nodes = ast.walk(ast.parse(source))
    return {name for node in nodes for name in named(node, module, is_package)}


def named(node: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """What an import statement names; nothing for another node."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = _absolute(node, module, is_package)
        yield from (f"{base}.{alias.name}" for alias in node.names)


def _absolute(node: ast.ImportFrom, module: str, is_package: bool) -> str:
    """The module behind `from x import`, with leading dots resolved."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    parent = parts[: len(parts) - node.level + is_package]
    return ".".join([*parent, *([node.module] if node.module else [])])


def room(name: str) -> str | None:
    """The room of a dotted name inside the package; None outside and for the lobby."""
    head, _, rest = name.partition(".")
    if head != PACKAGE or not rest:
        return None
    parts = rest.split(".")
    return "schemas" if "schema" in parts[1:] else parts[0]


def rooms() -> Rooms:
    """Every room with the rooms that it imports."""
    known = modules(PACKAGE)
    found: Rooms = {str(room(name)): set() for name in known if room(name)}
    for name, path in known.items():
        own = room(name)
        if own is not None:
            said = imports(path.read_text(), name, path.name == "__init__.py")
            found[own] |= {str(room(n)) for n in said} & set(found) - {own}
    return found


# ------------------------------------------------------------------------ the picture

_WIDTH, _HEIGHT, _ROW, _GAP = 118, 34, 86, 22
_STYLE = (
    "text{font:14px sans-serif;text-anchor:middle;fill:#222}"
    "rect{fill:#eef3fa;stroke:#4a6fa5}path{fill:none;stroke:#9aa9bd;stroke-width:1.2}"
)


def heights(below: Mapping[str, set[str]]) -> dict[str, int]:
    """How many rooms a room has below it, one above another.

    Example:
        >>> heights({"top": {"middle", "floor"}, "middle": {"floor"}, "floor": set()})
        {'top': 2, 'middle': 1, 'floor': 0}
    """

    def height(name: str) -> int:
        return max((height(other) + 1 for other in below[name]), default=0)

    return {name: height(name) for name in below}


def direct(below: Mapping[str, set[str]]) -> Rooms:
    """The imports that no longer way says as well.

    Example:
        >>> direct({"top": {"middle", "floor"}, "middle": {"floor"}, "floor": set()})
        {'top': {'middle'}, 'middle': {'floor'}, 'floor': set()}
    """

    def reached(name: str) -> set[str]:
        return below[name].union(*(reached(other) for other in below[name]))

    return {
        name: others - set().union(*(reached(other) for other in others))
        for name, others in below.items()
    }


def draw(below: Mapping[str, set[str]]) -> str:
    """The rooms as SVG: what imports stands above what is imported."""
    rows: dict[int, list[str]] = {}
    for name, height in sorted(heights(below).items()):
        rows.setdefault(height, []).append(name)
    widest = max(len(row) for row in rows.values())
    width = widest * (_WIDTH + _GAP) + _GAP
    top = max(rows)
    places: dict[str, tuple[float, float]] = {}
    for height, row in rows.items():
        step = width / len(row)
        for at, name in enumerate(row):
            places[name] = (step * (at + 0.5), (top - height) * _ROW + 30)
    lines = [
        _line(places[name], places[other])
        for name, others in direct(below).items()
        for other in sorted(others)
    ]
    boxes = [_box(name, *places[name]) for name in sorted(places)]
    size = f'width="{width}" height="{(top + 1) * _ROW}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style>'
    return "\n".join([head, *lines, *boxes, "</svg>", ""])


def _line(start: tuple[float, float], end: tuple[float, float]) -> str:
    (x, y), (u, v) = start, end
    y, v = y + _HEIGHT / 2, v - _HEIGHT / 2
    middle = (y + v) / 2
    return f'<path d="M{x:.0f} {y:.0f}C{x:.0f} {middle:.0f} {u:.0f} {middle:.0f} ' + (
        f'{u:.0f} {v:.0f}"/>'
    )


def _box(name: str, x: float, y: float) -> str:
    left, up = x - _WIDTH / 2, y - _HEIGHT / 2
    box = f'<rect x="{left:.0f}" y="{up:.0f}" width="{_WIDTH}" height="{_HEIGHT}"/>'
    return f'{box}<text x="{x:.0f}" y="{y + 5:.0f}">{escape(name)}</text>'


if __name__ == "__main__":
    PICTURE.write_text(draw(rooms()))
