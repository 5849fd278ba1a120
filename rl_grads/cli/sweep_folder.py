"""What a sweep's folder has before its points train, and the table at the end."""

import json
import math
import os
import pathlib
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from rl_grads.cli.sweep_points import Point
from rl_grads.tracking import folder, labels
from rl_grads.tracking.metrics import higher_is_better
from rl_grads.tracking.progress import estimate
from rl_grads.tracking.sweep import Entry, Sweep
from rl_grads.typing import Document, Value

_PLAIN = re.compile(r"[A-Za-z_][\w./=+-]*")
_WORDS = "true false yes no on off y n null nan inf"  # No texts, where they are bare.


class _Dumper(yaml.CSafeDumper):
    """YAML as OmegaConf reads it: a text that it would take for a value is quoted."""


def _text(dumper: _Dumper, text: str) -> yaml.Node:
    bare = _PLAIN.fullmatch(text) and text.lower() not in _WORDS.split()
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, None if bare else "'")


_Dumper.add_representer(str, _text)


def write_points(home: pathlib.Path, points: Mapping[int, Point]) -> None:
    """Make the points' folders, each with what Hydra writes of a job.

    Args:
        home: The sweep's folder.
        points: The points, by number; those that have a folder keep it as it is.

    Raises:
        OSError: They cannot be written.
    """
    for number, point in points.items():
        own = home / str(number) / ".hydra"
        if own.exists():
            continue
        new = own.with_name(".hydra.new")  # Renamed as a whole.
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        _dump(new / "config.yaml", point.composed)
        _dump(new / "hydra.yaml", {"hydra": _section(home, number, point)})
        _dump(new / "overrides.yaml", list(point.overrides))
        new.rename(own)


def _section(home: pathlib.Path, number: int, point: Point) -> dict[str, Any]:
    """Hydra's section as the job of this point would have it."""
    job = {**point.hydra["job"], "num": number, "id": str(number)}
    output = str((home / str(number)).absolute())
    runtime = {**point.hydra["runtime"], "output_dir": output}
    return {**point.hydra, "job": job, "runtime": runtime}


def _dump(path: pathlib.Path, value: Value) -> None:
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    path.write_text(text, encoding="utf-8")


# ------------------------------------------------------------------------- the table

_MOST = 20  # Points of the table.
_WIDTH = 80
_PREFERRED = ("evaluation/return", "evaluation/rmsve")
Summaries = Mapping[int, Document]


def table(home: pathlib.Path, sweep: Sweep) -> str:
    """The end of a sweep: its points with their headline metric, the best first.

    Args:
        home: The sweep's folder.
        sweep: Its points.
    """
    found = {e.number: _summary(home / str(e.number)) for e in sweep.entries}
    metric = _headline(found)
    ranked = sorted(sweep.entries, key=lambda e: _rank(found[e.number], metric))
    head = ("point", f"{metric}, IQM (95 % interval)", "n", "status", "")
    rows = [_row(entry, found[entry.number], metric) for entry in ranked[:_MOST]]
    return "\n".join([*_aligned([head, *rows]), _counts(home, sweep, found)])


def _summary(directory: pathlib.Path) -> Document:
    """What a point has come to; nothing where it has not, or where it is damaged."""
    try:
        found = json.loads((directory / folder.SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _headline(found: Summaries) -> str:
    """The metric that the points are ranked by."""
    known = [name for name in _PREFERRED for s in found.values() if name in s]
    return known[0] if known else _PREFERRED[0]


def _rank(summary: Document, metric: str) -> float:
    """Where a point stands: the best first, those without a value last."""
    value = summary.get(metric, {}).get("iqm", {}).get("value")
    if value is None:
        return math.inf
    return -value if higher_is_better(metric) else value


def _row(entry: Entry, summary: Document, metric: str) -> tuple[str, ...]:
    value = estimate(summary.get(metric, {}).get("iqm"))
    seeds = str(len(summary["seeds"])) if "seeds" in summary else "-"
    status = "refused" if entry.refused else str(summary.get("status", "not done"))
    return (str(entry.number), value, seeds, status, labels.short(entry.overrides))


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Lines of columns, cut where a terminal ends."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        line = "  ".join(cells).rstrip()
        yield line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}..."


def _counts(home: pathlib.Path, sweep: Sweep, found: Summaries) -> str:
    """Where it lies, and how many points are done."""
    shown, total = os.path.relpath(home), len(sweep.entries)
    done = sum(bool(summary) for summary in found.values())
    more = f", the best {_MOST} above" if total > _MOST else ""
    populations = len(sweep.populations())
    told = f"{shown}: {done} of {total} points done{more}, populations: {populations}"
    return f"{told}\nrl-grads report {shlex.quote(shown)}  # all of it as one page"
