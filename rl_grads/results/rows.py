"""The rows of many runs, as arrays: DuckDB reads them.

Measured against Polars and Arrow on our own rows. All three are quick; DuckDB alone
reads the text "Infinity" among numbers, looks at the columns of every file rather than
those of the first, names the file that it cannot read, and aggregates 10^7 rows
without holding them. Its names of columns do not tell a from A: see `_apart`.
"""

import contextlib
import io
import itertools
import json
import os
import pathlib
import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rl_grads.tracking.files import LABELS
from rl_grads.typing import Json

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_TAIL = 1 << 16  # Bytes in which the last row is looked for.
Columns = dict[str, np.ndarray]


class File(NamedTuple):
    """A metrics file, and whether a process may be writing it now."""

    path: pathlib.Path
    grows: bool = False


class Table(NamedTuple):
    """Rows of several files, in the order of the files and of their lines.

    Attributes:
        file: The place of each row's file among those that were given, `[rows]`.
        step: Environment steps per member, `[rows]`.
        member: `[rows]`.
        seed: `[rows]`.
        metrics: Name to values `[rows]`, nan where a row has none.
    """

    file: np.ndarray
    step: np.ndarray
    member: np.ndarray
    seed: np.ndarray
    metrics: Columns


class Damaged(Exception):
    """Files in which a line is no row; `files` are their places among the given."""

    def __init__(self, files: Sequence[int]):
        super().__init__(files)
        self.files = files


def names(files: Sequence[File]) -> list[list[str]]:
    """The metrics that each file has, in alphabetical order.

    Members have the same ones, so the rows of the first are looked at. One that is
    called as a label but for its capitals is left out.

    Args:
        files: The files.

    Raises:
        Damaged: A line of some is no row.
    """
    query = """
        SELECT file, json_keys(json) FROM (
          SELECT parse_filename(filename, true)::INTEGER AS file, json
          FROM read_ndjson_objects(?, filename = true)
          WHERE json_extract(json, '$.member') = 0
        ) GROUP BY ALL ORDER BY ALL
    """
    with _whole(files) as engine:
        rows = engine.rows(query)
    found: list[set[str]] = [set() for _ in files]
    for file, keys in rows:
        found[file] |= {key for key in keys if key.lower() not in LABELS}
    return [sorted(names) for names in found]


def read(files: Sequence[File], metrics: Sequence[str]) -> Table:
    """Every row of some files.

    What a killed process has left at the end of one and is not whole, a line or the
    rows of some members, is no row.

    Args:
        files: The files.
        metrics: Names of the metrics that are wanted.

    Raises:
        Damaged: A line of some is no row.
    """
    query = """
        SELECT parse_filename(filename, true)::INTEGER AS file,
          step, member, seed, {metrics} FROM {rows}
    """
    found = _table(files, metrics, query, "coalesce({column}, 'nan'::DOUBLE)")
    _check_blocks(found)
    return found


def last(files: Sequence[File], metrics: Sequence[str]) -> Table:
    """One row for each file and member: the last value that every metric had.

    Args:
        files: The files.
        metrics: Names of the metrics that are wanted.

    Raises:
        Damaged: A line of some is no row.
    """
    query = """
        SELECT parse_filename(filename, true)::INTEGER AS file, max(step) AS step,
          member, any_value(seed) AS seed, {metrics}
        FROM {rows} GROUP BY file, member ORDER BY file, member
    """
    return _table(
        files, metrics, query, "coalesce(arg_max({column}, step), 'nan'::DOUBLE)"
    )


def _table(
    files: Sequence[File], metrics: Sequence[str], query: str, form: str
) -> Table:
    """The table of a query whose metrics have a form."""
    labels, found = {}, {}
    with _whole(files) as engine:
        for own in _apart(metrics):
            columns = engine.columns(query, own, form)
            labels = {name: columns[name] for name in ("file", *LABELS)}
            found |= {name: columns[f"c{k}"] for k, name in enumerate(own)}
    return Table(**labels, metrics={name: found[name] for name in metrics})


def _apart(metrics: Sequence[str]) -> list[list[str]]:
    """Names in groups in which no two differ by capitals alone; at least one group.

    Example:
        >>> _apart(["a", "b", "A"])
        [['a', 'b'], ['A']]
    """
    groups: list[list[str]] = []
    seen: dict[str, int] = {}
    for name in metrics:
        place = seen[name.lower()] = seen.get(name.lower(), -1) + 1
        if place == len(groups):
            groups.append([])
        groups[place].append(name)
    return groups or [[]]


# -------------------------------------------------------------------------- the engine


class _Engine(NamedTuple):
    """DuckDB, and the whole files that it reads: `0.jsonl`, `1.jsonl`, ..."""

    connection: "DuckDBPyConnection"
    paths: list[str]

    def rows(self, query: str) -> list[tuple[Json, ...]]:
        """What a query of the files gives."""
        with self._naming(query):
            return self.connection.execute(query, [self.paths]).fetchall()

    def columns(self, query: str, metrics: Sequence[str], form: str) -> Columns:
        """The columns of a query: the labels, and `c0`, `c1`, ... of the metrics."""
        kinds = {_quoted(name, "'"): "'BIGINT'" for name in LABELS}
        kinds |= {_quoted(name, "'"): "'DOUBLE'" for name in metrics}
        schema = ", ".join(f"{name}: {kind}" for name, kind in kinds.items())
        formed = [
            f"{form.format(column=_quoted(name, chr(34)))} AS c{k}"
            for k, name in enumerate(metrics)
        ]
        source = (
            f"read_json(?, format = 'newline_delimited', filename = true, "
            f"columns = {{{schema}}})"
        )
        asked = query.format(metrics=", ".join(formed) or "0", rows=source)
        with self._naming(asked):
            given = self.connection.execute(asked, [self.paths]).fetchnumpy()
        found = {name: np.asanyarray(column) for name, column in given.items()}
        _check_labels(found)
        return found

    @contextlib.contextmanager
    def _naming(self, query: str) -> Iterator[None]:
        """An error of the engine as `Damaged`, with every file that has one."""
        import duckdb

        try:
            yield
        except duckdb.Error as error:
            wrong = [k for k, path in enumerate(self.paths) if self._fails(query, path)]
            if not wrong:
                raise
            raise Damaged(wrong) from error

    def _fails(self, query: str, path: str) -> bool:
        import duckdb

        try:
            self.connection.execute(query, [[path]]).fetchnumpy()
        except duckdb.Error:
            return True
        return False


def _quoted(text: str, mark: str) -> str:
    return f"{mark}{text.replace(mark, 2 * mark)}{mark}"


def _check_labels(columns: Columns) -> None:
    """Refuse files with rows that lack a label."""
    missing = [np.ma.getmaskarray(columns[name]) for name in LABELS]
    wrong = np.unique(np.asarray(columns["file"])[np.any(missing, axis=0)])
    if wrong.size:
        raise Damaged(wrong.tolist())


def _check_blocks(table: Table) -> None:
    """Refuse files in which a step has not one row for each member, in order."""
    starts = np.flatnonzero(np.diff(table.file, prepend=-1)).tolist()
    parts = [slice(*ends) for ends in itertools.pairwise([*starts, len(table.file)])]
    wrong = [
        own for own in parts if not _are_blocks(table.step[own], table.member[own])
    ]
    if wrong:
        raise Damaged([int(table.file[own.start]) for own in wrong])


def _are_blocks(steps: np.ndarray, members: np.ndarray) -> bool:
    size = max(int(members.max()), 0) + 1
    if len(steps) % size:
        return False
    steps, members = steps.reshape(-1, size), members.reshape(-1, size)
    return bool((members == np.arange(size)).all() and (steps == steps[:, :1]).all())


@contextlib.contextmanager
def _whole(files: Sequence[File]) -> Iterator[_Engine]:
    """The engine, and the whole part of each file under a plain name.

    DuckDB takes `[` and `*` in a path for patterns, and knows no end of a file but its
    own: what is whole is linked to, of what is not there is a copy.
    """
    import duckdb

    with tempfile.TemporaryDirectory(prefix="rl_grads_") as place:
        paths = [os.path.join(place, f"{number}.jsonl") for number in range(len(files))]
        for path, file in zip(paths, files, strict=True):
            _link(file, path)
        settings: dict[str, Any] = {
            "autoinstall_known_extensions": "false",
            "temp_directory": place,
        }
        with duckdb.connect(config=settings) as connection:
            connection.execute("SET enable_progress_bar = false")
            yield _Engine(connection, paths)


def _link(file: File, path: str) -> None:
    with open(file.path, "rb") as rows:
        members = _members(rows)
        is_whole = _ends(_tail(rows), members)
        if file.grows or not is_whole:
            rows.seek(0)
            pathlib.Path(path).write_bytes(_whole_part(rows.read(), members))
            return
    os.symlink(os.path.abspath(file.path), path)


def _members(rows: io.BufferedReader) -> int:
    """How many rows the first step has."""
    steps = (_label(line, "step") for line in rows)
    first = next(steps, None)
    return 1 + sum(1 for _ in itertools.takewhile(lambda step: step == first, steps))


def _tail(rows: io.BufferedReader) -> bytes:
    """The last line, with its end; of a line that is very long a part."""
    size = rows.seek(0, os.SEEK_END)
    rows.seek(max(size - _TAIL, 0))
    return rows.read().splitlines(keepends=True)[-1]


def _ends(line: bytes, members: int) -> bool:
    """Whether a line is the row of the last member."""
    return line.endswith(b"\n") and _label(line, "member") == members - 1


def _whole_part(content: bytes, members: int) -> bytes:
    """The content up to the last row of the last step that has all members."""
    end = content.rfind(b"\n") + 1
    while end:
        begin = content.rfind(b"\n", 0, end - 1) + 1
        member = _label(content[begin:end], "member")
        if member is None:
            return content  # The engine says what is wrong.
        if member == members - 1:
            return content[:end]
        end = begin
    return b""


def _label(line: bytes, name: str) -> Json:
    """A label of a line; None where it is no row."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row.get(name) if isinstance(row, dict) else None
