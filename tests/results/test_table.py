"""Tables: cells, marks, keys and formats."""

import csv
import io
import math
import shutil
import subprocess

import numpy as np
import pytest

from rl_grads import results
from rl_grads.config import ConfigError
from rl_grads.results import formats, table
from rl_grads.results.table import BEST, LIKE_BEST
from tests.results.made_runs import write_run

METRIC = "evaluation/return"


def write(place, values, metric=METRIC, seeds=None, **own):
    seeds = range(len(values)) if seeds is None else seeds
    write_run(place, {metric: [values]}, seeds=seeds, steps=(5,), **own)


@pytest.fixture
def sweep(tmp_path):
    """Three rates with two agents; the second rate is the best for agent a."""
    for k, rate in enumerate((0.1, 0.2, 0.3)):
        own = {"optimizer__learning_rate": rate}
        a, b = (100, 200, 197)[k], (9, 8, 7)[k]
        write(tmp_path / str(2 * k), [a + x for x in range(12)], agent="a", **own)
        write(tmp_path / str(2 * k + 1), [b] * 12, agent="b", **own)
    return tmp_path


def made(top, rows=None, columns=None, metric=METRIC, statistic="mean"):
    runs = results.load(top)
    return table.make(runs, metric, *table.keys(runs, rows, columns), statistic)


def test_cells_have_the_statistic_its_interval_and_n(sweep):
    found = made(sweep, ["agent"], ["optimizer.learning_rate"])
    assert found.rows == (("a",), ("b",))
    assert found.columns == (("0.1",), ("0.2",), ("0.3",))
    cell = found.cells[("a",), ("0.2",)]
    assert (cell.found.value, cell.found.n) == (205.5, 12)
    assert cell.found.low == pytest.approx(203.5, abs=0.3)
    assert found.cells[("b",), ("0.3",)].found == (7, 7, 7, 12)
    iqm = made(sweep, ["agent"], ["optimizer.learning_rate"], statistic="iqm")
    assert iqm.cells[("a",), ("0.1",)].found.value == 105.5


def test_the_best_of_each_column_is_marked_and_what_chance_may_have_made(sweep):
    found = made(sweep, ["optimizer.learning_rate"], ["agent"])
    marks = {at: cell.mark for at, cell in found.cells.items()}
    assert marks[("0.2",), ("a",)] == BEST
    assert marks[("0.3",), ("a",)] == LIKE_BEST
    assert marks[("0.1",), ("a",)] == ""
    assert marks[("0.1",), ("b",)] == BEST
    assert marks[("0.3",), ("b",)] == ""  # Constant values are told apart.


def test_of_an_error_the_lowest_is_the_best(tmp_path):
    for k, metric in enumerate(("evaluation/rmsve", "training/length")):
        write(tmp_path / f"{k}-0", [1.0] * 9, metric, agent="a")
        write(tmp_path / f"{k}-1", [2.0] * 9, metric, agent="b")
        found = made(tmp_path, metric=metric)
        assert {at: c.mark for at, c in found.cells.items() if c.mark} == (
            {(("a",), ()): BEST} if k == 0 else {}
        )


def test_runs_that_diverged_stay_in(tmp_path):
    write(tmp_path / "0", [1.0, 2.0, math.nan], agent="a", status="diverged")
    write(tmp_path / "1", [5.0, 2.0, 3.0], agent="b")
    found = made(tmp_path)
    lost = found.cells[("a",), ()]
    assert math.isnan(lost.found.value) and lost.found.n == 3
    assert found.cells[("b",), ()].mark == BEST
    assert "a      - n=3 =" in formats.text(found)  # Three runs cannot tell them apart.


def test_default_keys(sweep, tmp_path):
    runs = results.load(sweep)
    rate = "optimizer.learning_rate"
    assert runs.keys == ["agent", rate]
    assert table.keys(runs, None, None) == (("agent",), (rate,))
    assert table.keys(runs, [rate], None) == ((rate,), ("agent",))
    assert table.keys(runs, [rate, "agent"], None) == ((rate, "agent"), ())
    assert table.keys(runs, None, [rate]) == (("agent",), (rate,))
    assert table.keys(runs, None, []) == (("agent", rate), ())
    write(tmp_path / "6", [1.0], agent="a", env__id="b", replay__exponent=0.5)
    more = results.load(tmp_path)
    assert table.keys(more, None, None) == (
        ("agent", rate, "replay.exponent"),
        ("env.id",),
    )


def test_keys_that_are_not_shown_or_not_there_are_refused(sweep):
    runs = results.load(sweep)
    with pytest.raises(ConfigError, match=r"points differ in optimizer\.learning"):
        table.keys(runs, ["agent"], ["env.id"])
    with pytest.raises(ConfigError, match=r"--rows=agnt: .* did you mean 'agent'\?"):
        table.keys(runs, ["agnt"], None)
    with pytest.raises(ConfigError, match="--columns=nothing: expected a key of"):
        table.keys(runs, None, ["nothing"])


def test_seeds_are_pooled_and_a_repeated_one_counts_once(tmp_path):
    write(tmp_path / "0", [1.0, 2.0])
    write(tmp_path / "1", [3.0], seeds=(7,))
    write(tmp_path / "2", [9.0], seeds=(0,))
    found = made(tmp_path)
    assert found.repeated == 1
    assert found.cells[(), ()].found == (pytest.approx(14 / 3), 2.0, 9.0, 3)


def test_numbers_that_look_alike_are_not_one(tmp_path):
    for k, value in enumerate((0.12345, 0.123456, 0.5)):
        write(tmp_path / str(k), [float(k)], replay__exponent=value)
    assert made(tmp_path).rows == (("0.12345",), ("0.123456",), ("0.5",))


def test_text_is_literal_and_goes_on_below_where_it_is_wide(sweep):
    told = formats.text(made(sweep, ["agent"], ["optimizer.learning_rate"]))
    assert told.splitlines() == [
        "evaluation/return: mean of the final values of n runs",
        "(95 % bootstrap interval)",
        "",
        "agent  lr=0.1                         lr=0.2",
        "a      105.5 (103.6 to 107.4) n=12 *  205.5 (203.6 to 207.4) n=12 *",
        "b      9 (9 to 9) n=12                8 (8 to 8) n=12",
        "",
        "agent  lr=0.3",
        "a      202.5 (200.6 to 204.4) n=12 *",
        "b      7 (7 to 7) n=12",
        "",
        "* best of its column; = not told from it at 5 % (permutations, Holm)",
    ]


def test_csv_has_a_line_for_each_cell(sweep):
    text = formats.comma_separated(made(sweep))
    lines = list(csv.DictReader(io.StringIO(text)))
    assert len(lines) == 6
    assert lines[0] | {"low": "", "high": ""} == {
        "agent": "a",
        "optimizer.learning_rate": "0.1",
        "metric": METRIC,
        "statistic": "mean",
        "value": "105.5",
        "low": "",
        "high": "",
        "n": "12",
        "mark": BEST,
    }


def test_markdown(sweep):
    text = formats.markdown(made(sweep, ["agent"], ["optimizer.learning_rate"]))
    head, rule, first, _ = (line for line in text.splitlines() if "|" in line)
    assert text.endswith(
        "Bold: best of its column; italic: not told from it at 5 % "
        "(permutations, Holm)."
    )
    assert head == "| agent | lr=0.1 | lr=0.2 | lr=0.3 |"
    assert rule == "| --- | --- | --- | --- |"
    assert first.startswith("| a | **105.5 (") and first.count("**") == 6


def odd(tmp_path):
    """A table whose words LaTeX would not take as they are."""
    write(tmp_path / "0", [1.0, 2.0, 3.0], agent="50%_&#{x}^~\\$", env__id="a_1")
    write(tmp_path / "1", [1.0, 2.0, 3.0], agent="b|c", env__id="b")
    return made(tmp_path)


def test_latex_has_whole_lines(tmp_path):
    text = formats.latex(odd(tmp_path))
    body = text.partition("\\midrule\n")[2].partition("\n\\bottomrule")[0].splitlines()
    assert text.count("{") == text.count("}")
    assert "\\begin{tabular}{lll}" in text and text.endswith("\\end{tabular}")
    assert [line.count(" & ") for line in body] == [2, 2]
    assert all(line.endswith(" \\\\") for line in body)
    assert "50\\%\\_\\&\\#\\{x\\}\\textasciicircum{}\\textasciitilde{}" in text
    assert "id=a\\_1" in text or "env=a\\_1" in text
    assert "\\textbf{" not in text  # One run of each is alone in its column.


@pytest.mark.slow
def test_latex_compiles(tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("needs pdflatex")
    begin = "\\documentclass{article}\\usepackage{booktabs}\\begin{document}"
    text = f"{begin}\n{formats.latex(odd(tmp_path))}\n\\end{{document}}\n"
    (tmp_path / "a.tex").write_text(text)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_markdown_escapes_its_own_marks(tmp_path):
    assert "b\\|c" in formats.markdown(odd(tmp_path))


def test_wide_tables_go_on_below(tmp_path):
    random = np.random.default_rng(0)
    for k in range(9):
        own = {"agent": "abcdefgh" * 9, "replay__exponent": k / 10}
        write(tmp_path / str(k), random.normal(size=10).tolist(), **own)
        own["agent"] = "other"
        write(tmp_path / str(k + 9), random.normal(size=10).tolist(), **own)
    lines = formats.text(made(tmp_path)).splitlines()
    assert max(map(len, lines)) <= 80
    heads = [line for line in lines if line.startswith("agent")]
    columns = [word for head in heads for word in head.split()[1:]]
    assert columns == [f"exponent={k / 10:g}" for k in range(9)]
    assert len(heads) > 2
