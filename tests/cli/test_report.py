"""`rl-grads report`: one HTML file that needs no network, and shows text as text."""

import json
import re
import shutil
import subprocess

import pytest


@pytest.fixture
def swept(train, home):
    """`sweeps/s`: two step sizes and two discounts, two seeds each."""
    values = ("optimizer.learning_rate=1e-3,1e-2", "agent.discount=.9,.99")
    status, _, err = train(
        "-m", "network=mlp", "network.hidden=[8]", "run.id=s", *values
    )
    assert status == 0, err
    return home / "sweeps" / "s"


def figures(page):
    """The figures of a page, by the names of their places."""
    (text,) = re.findall(r'id="figures">(.*?)</script>', page)
    return json.loads(text)


def test_a_page_has_every_method_with_its_interval_and_members(command, swept):
    status, out, err = command("report", "sweeps/s")
    assert (status, err) == (0, "")
    assert out == "sweeps/s/report.html: open it in a browser\n"
    page = (swept / "report.html").read_text()
    summary = json.loads((swept / "3" / "summary.json").read_text())
    value = summary["evaluation/return"]["iqm"]["value"]
    assert f"{value:.4g}, n = 2" in page
    assert page.count("<tr>") == 1 + 4 + 1 + 4  # A table of methods, one of points.
    found = figures(page)
    assert found["curves-0"]["layout"]["title"]["text"].startswith("evaluation return")
    names = {line["name"] for line in found["curves-0"]["data"]}
    assert names == {
        f"discount={d}, lr={r}" for d in ("0.9", "0.99") for r in ("1e-3", "0.01")
    }
    heat = found["sensitivity-2"]["data"][0]
    assert (heat["type"], heat["x"], heat["y"]) == (
        "heatmap",
        ["0.9", "0.99"],
        ["0.001", "0.01"],
    )
    norms = found["gradients-0"]["data"][0]
    rows = [json.loads(r) for r in (swept / "0/metrics.jsonl").read_text().splitlines()]
    assert norms["x"] == sorted({row["step"] for row in rows})
    assert "rl-grads train seeds=2" in page
    script = page.index("plotly.js")
    assert len(page[:script]) < 60_000


def test_nothing_is_fetched_and_names_are_text(command, swept):
    planted = "</script><script>alert(1)</script><img src=//x.invalid onerror=alert(2)>"
    for name in ("config.json", "run.json", "summary.json"):
        path = swept / "0" / name
        document = json.loads(path.read_text())
        if name == "config.json":
            document["config"]["env.id"] = planted
            document["config"]["agent.discount"] = planted
        elif name == "run.json":
            document["command"] = [planted]
        else:
            document["notes"] = [planted]
        path.write_text(json.dumps(document))
    status, _, err = command("report", "sweeps/s")
    assert status == 0, err
    page = (swept / "report.html").read_text()
    assert "alert(1)" in page
    assert "<script>alert" not in page and "<img" not in page.partition("<script>")[0]
    assert "default-src 'none'" in page
    assert page.count("</script>") == 3


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (("sweeps/t",), "sweeps/t: expected the folder of a run or sweep"),
        (
            ("sweeps/s", "--metric", "evaluation/retrun"),
            "--metric=evaluation/retrun: expected a metric of sweeps/s",
        ),
        (
            ("sweeps/s", "--to", "sweeps/s/sweep.json/x"),
            "--to=sweeps/s/sweep.json/x: expected a file that can be written",
        ),
    ],
)
def test_bad_input_is_one_message(command, swept, argv, expected):
    status, _, err = command("report", *argv)
    assert status == 2
    assert err.startswith(f"rl-grads report: {expected}")
    assert err.count("\n") == 1


@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 768])
def test_every_figure_is_drawn_in_a_browser(command, swept, width):
    browser = shutil.which("chromium")
    assert browser, "chromium: expected a browser"
    status, _, err = command("report", "sweeps/s")
    assert status == 0, err
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--dump-dom")
    told = ("--enable-logging=stderr", "--virtual-time-budget=8000")
    page = swept / "report.html"
    done = subprocess.run(
        [browser, *options, *told, f"--window-size={width},2000", f"file://{page}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    count = len(figures(page.read_text()))
    # Plotly draws each with three layers.
    assert done.stdout.count('class="main-svg"') >= count > 4
    assert "CONSOLE" not in done.stderr
