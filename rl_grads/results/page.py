"""A report as one HTML file: nothing is fetched, and what runs say is text."""

import html
import json
from collections.abc import Iterator, Mapping, Sequence

from rl_grads.results.report import Figure, Report, best
from rl_grads.tracking.metrics import axis_label, higher_is_better

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 0 auto;
  padding: 0 1rem 3rem; color: #1a1a1a; background: #fff; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; vertical-align: top;
  border-bottom: 1px solid #eee; }
td.best { font-weight: 700; }
.answer { font-size: 1.1rem; background: #eef5fb; padding: .7rem 1rem; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr));
  gap: 1rem; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .85rem; }
.legend span { white-space: nowrap; }
.figure { min-height: 380px; }
@media (max-width: 800px) { .figures { grid-template-columns: 1fr; } }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f6f6f6;
  padding: .6rem; }
.note { color: #555; }
"""
_SCRIPT = """
const figures = JSON.parse(document.getElementById("figures").textContent);
for (const [id, figure] of Object.entries(figures)) {
  Plotly.newPlot(id, figure.data, figure.layout,
    {responsive: true, displayModeBar: false});
}
"""
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:"
)


def page(
    report: Report, commands: Sequence[str] = (), refresh: int | None = None
) -> str:
    """The HTML of a report.

    Args:
        report: What it shows.
        commands: The commands that made the runs.
        refresh: Seconds after which a browser reads the file again; None: never.
    """
    import plotly.offline

    figures: dict[str, Figure] = {}
    body = "\n".join(_sections(report, commands, figures))
    again = "" if refresh is None else _refresh(refresh)
    script = plotly.offline.get_plotlyjs()
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
{again}<title>{_text(report.name)}</title>
<style>{_STYLE}</style>
</head>
<body>
{body}
<script type="application/json" id="figures">{_json(figures)}</script>
<script>{script}</script>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _refresh(seconds: int) -> str:
    return f'<meta http-equiv="refresh" content="{seconds}">\n'


def _json(value: Mapping[str, Figure]) -> str:
    """JSON that no name in it can end, inside a script element."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _text(value: object) -> str:
    return html.escape(str(value))


def _sections(
    report: Report, commands: Sequence[str], figures: dict[str, Figure]
) -> Iterator[str]:
    yield f"<h1>{_text(report.name)}</h1>"
    yield _answer(report)
    yield _overview(report)
    yield "<h2>Over training</h2>"
    told = "Lines are interquartile means over members, bands their 95 % bootstrap"
    yield f"<p class='note'>{told} intervals.</p>"
    yield _legend(report)
    yield _figures("curves", list(report.curves.values()), figures)
    if report.sensitivity:
        yield "<h2>Sensitivity to what was swept</h2>"
        yield _figures("sensitivity", report.sensitivity, figures)
    if report.gradients:
        yield "<h2>Gradients</h2>"
        yield _legend(report)
        yield _figures("gradients", list(report.gradients.values()), figures)
    yield "<h2>Every point</h2>"
    head = ("folder", "status", "seeds", "notes")
    yield _folded(f"{len(report.status)} points", _table([head, *report.status]))
    if commands:
        yield "<h2>Commands</h2>"
        told = f"<pre>{_text(chr(10).join(commands))}</pre>"
        yield _folded(f"{len(commands)} commands", told)


def _folded(title: str, content: str) -> str:
    """What is shown at once where it is short."""
    is_open = " open" if content.count("<tr>") + content.count("\n") <= 12 else ""
    return f"<details{is_open}><summary>{_text(title)}</summary>{content}</details>"


def _legend(report: Report) -> str:
    """What the lines over training are, beside no line."""
    entries = []
    for method in report.methods:
        look = report.looks[method.label]
        stroke = f"stroke='{look.colour}' stroke-width='3'"
        dashes = _DASHES[look.dash]
        line = f"<line x1='0' y1='6' x2='34' y2='6' {stroke} {dashes}/>"
        picture = f"<svg width='34' height='12'>{line}</svg>"
        entries.append(f"<span>{picture} {_text(method.label)}</span>")
    return f"<div class='legend'>{''.join(entries)}</div>"


_DASHES = {
    "solid": "",
    "dash": "stroke-dasharray='9 5'",
    "dot": "stroke-dasharray='3 3'",
    "dashdot": "stroke-dasharray='9 4 3 4'",
}


def _answer(report: Report) -> str:
    """Which method is best where, in a sentence."""
    better = "highest" if higher_is_better(report.metric) else "lowest"
    words = []
    for environment in report.environments:
        label = best(report, environment)
        if label is not None:
            cell = report.cells[label, environment]
            words.append(
                f"<b>{_text(label)}</b> in {_text(environment)}: {_text(cell)}"
            )
    if not words:
        return "<p class='answer'>No point has a value yet.</p>"
    head = f"The {better} {_text(axis_label(report.metric))}"
    return f"<p class='answer'>{head}:<br>{'<br>'.join(words)}</p>"


def _overview(report: Report) -> str:
    """A row for each method, a column for each environment."""
    winners = {e: best(report, e) for e in report.environments}
    rows = []
    for method in report.methods:
        cells = [f"<td>{_text(method.label)}</td>"]
        for environment in report.environments:
            cell = report.cells.get((method.label, environment))
            kind = " class='best'" if winners[environment] == method.label else ""
            cells.append(f"<td{kind}>{_text(cell or '-')}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f"<th>{_text(e)}</th>" for e in ("method", *report.environments))
    title = f"<h2>{_text(axis_label(report.metric))}: IQM (95 % interval), members</h2>"
    whole = "".join(rows)
    return f"{title}<div class='wide'><table><tr>{head}</tr>{whole}</table></div>"


def _figures(kind: str, found: Sequence[Figure], figures: dict[str, Figure]) -> str:
    """Places for figures, which the script fills."""
    places = []
    for number, figure in enumerate(found):
        name = f"{kind}-{number}"
        figures[name] = figure
        places.append(f"<div class='figure' id='{name}'></div>")
    return f"<div class='figures'>{''.join(places)}</div>"


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = rows
    top = "".join(f"<th>{_text(cell)}</th>" for cell in head)
    lines = "".join(
        f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rest
    )
    return f"<div class='wide'><table><tr>{top}</tr>{lines}</table></div>"
