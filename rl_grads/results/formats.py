"""A table as text for terminals, Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence

from rl_grads.config import shorten
from rl_grads.results import groups, words
from rl_grads.results.groups import Place
from rl_grads.results.table import BEST, LIKE_BEST, Cell, Table

WIDTH = 80
_LABEL = 32  # Characters of a row's label beside its cells.
_MARKS = {BEST: " *", LIKE_BEST: " ="}
_TOLD = "* best of its column; = not told from it at 5 % (permutations, Holm)"
_TYPESET = _TOLD.removeprefix("* ").replace("=", "italic:")
_NAMES = {"iqm": "interquartile mean", "mean": "mean"}


def text(table: Table) -> str:
    """Lines of at most 80 columns; columns that have no room go on below."""
    blocks = ["\n".join(aligned(block)) for block in _blocks(_grid(table, _plain))]
    foot = [_TOLD] if any(cell.mark for cell in table.cells.values()) else []
    return "\n\n".join([title(table), *blocks, *foot])


def title(table: Table) -> str:
    """What a table shows."""
    name = f"{table.metric}: {_NAMES[table.statistic]} of the final values of n runs"
    return f"{name}\n(95 % bootstrap interval)"


def markdown(table: Table) -> str:
    """A table of GitHub's kind."""
    head, *rows = _grid(table, _starred)
    lines = [head, ["---"] * len(head), *rows]
    escaped = ([cell.replace("|", "\\|") for cell in line] for line in lines)
    drawn = (f"| {' | '.join(line)} |" for line in escaped)
    return "\n".join([title(table), "", *drawn, "", f"Bold: {_TYPESET}."])


def latex(table: Table) -> str:
    r"""A `tabular` that needs `\usepackage{booktabs}`."""
    head, *rows = _grid(table, _typeset, _escaped)
    body = [f"{' & '.join(row)} \\\\" for row in rows]
    return "\n".join(
        [
            *(f"% {line}" for line in title(table).splitlines()),
            f"% bold: {_TYPESET}",
            f"\\begin{{tabular}}{{{'l' * len(head)}}}",
            "\\toprule",
            f"{' & '.join(head)} \\\\",
            "\\midrule",
            *body,
            "\\bottomrule",
            "\\end{tabular}",
        ]
    )


def comma_separated(table: Table) -> str:
    """A line for each cell, with whole keys, values and ends."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = ("metric", "statistic", "value", "low", "high", "n", "mark")
    writer.writerow([*table.row_keys, *table.column_keys, *names])
    for (row, column), cell in table.cells.items():
        kind = (table.metric, table.statistic)
        writer.writerow([*row, *column, *kind, *cell.found, cell.mark])
    return file.getvalue().rstrip("\n")


FORMATS: Mapping[str, Callable[[Table], str]] = {
    "text": text,
    "markdown": markdown,
    "csv": comma_separated,
    "latex": latex,
}


# ----------------------------------------------------------------------------- details


def _grid(
    table: Table,
    form: Callable[[Cell], str],
    escape: Callable[[str], str] = str,
) -> list[list[str]]:
    """The head and the rows, in words."""
    names = groups.short(table.row_keys)
    head = [", ".join(names), *(_head(table, column) for column in table.columns)]
    rows = []
    for row in table.rows:
        cells = [table.cells.get((row, column)) for column in table.columns]
        told = [form(cell) if cell is not None else "" for cell in cells]
        rows.append([escape(", ".join(row)), *told])
    return [[escape(cell) for cell in head], *rows]


def _head(table: Table, column: Place) -> str:
    return groups.label(table.column_keys, column) or table.metric


def _plain(cell: Cell) -> str:
    return f"{words.value(cell.found)} n={cell.found.n}{_MARKS.get(cell.mark, '')}"


def _starred(cell: Cell) -> str:
    told, stars = words.shown(cell.found), {BEST: "**", LIKE_BEST: "*"}
    around = stars.get(cell.mark, "")
    return f"{around}{told}{around}"


def _typeset(cell: Cell) -> str:
    told = f"{words.value(cell.found)}, $n = {cell.found.n}$"
    kind = {BEST: "textbf", LIKE_BEST: "textit"}.get(cell.mark)
    return told if kind is None else f"\\{kind}{{{told}}}"


_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
}


def _escaped(written: str) -> str:
    r"""Text as LaTeX takes it.

    Example:
        >>> _escaped("td_gradient=50%")
        'td\\_gradient=50\\%'
    """
    return "".join(_SPECIAL.get(letter, letter) for letter in written)


def _blocks(grid: Sequence[Sequence[str]]) -> Iterator[list[list[str]]]:
    """The label's column with as many others as have room, again and again."""
    cut = [[shorten(row[0], _LABEL - 3), *row[1:]] for row in grid]
    widths = [max(map(len, column)) for column in zip(*cut, strict=True)]
    begin = 1
    while begin < len(widths):
        end, room = begin + 1, WIDTH - widths[0] - 2 - widths[begin]
        while end < len(widths) and room >= widths[end] + 2:
            room -= widths[end] + 2
            end += 1
        yield [[row[0], *row[begin:end]] for row in cut]
        begin = end


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        pairs = zip(row, widths, strict=True)
        yield "  ".join(cell.ljust(width) for cell, width in pairs).rstrip()
