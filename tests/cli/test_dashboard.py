"""The dashboard as a user has it: a process, a port and a browser."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

from rl_grads.cli import dashboard, dashboard_runs

LOG_A_RUN = """
import pathlib, sys
import numpy as np
from rl_grads.tracking import Run, open_trackers
from rl_grads.tracking.schema import Tracking, WandB
settings = Tracking(trackio=True, wandb=WandB(mode="disabled", project="walks"))
folder = pathlib.Path(sys.argv[1], sys.argv[2])
folder.mkdir()
name = f"walk/{folder.name}"
run = Run(folder, name, (40, 41, 42), ({},) * 3, settings)
with open_trackers(run) as trackers:
    for step in range(0, 10_000, 500):
        slope = np.asarray([1.0, 2.0, 3.0])
        metrics = {
            "clip/angle": slope * step,
            "evaluation/length": slope * step,
            "evaluation/return": slope * step,
            "gradient/norm": slope * step,
            "loss/td_error": 9 - slope * step,
            "training/return": slope * step,
        }
        trackers.log(step, metrics)
    trackers.finish({})
"""
RUNS = ("before", "today")
# A shell starts its background jobs, and all that they start, deaf to Ctrl-C.
SERVE = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from rl_grads.cli import dashboard
sys.exit(dashboard.main({}))
"""
CHROMIUM = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1400,3000",
]

# Per plot: its title and, for every colour of its legend, how many pixels have it.
PIXELS = """
return [...document.querySelectorAll('canvas.marks')].map(canvas => {
  const box = canvas.closest('.plot-container') || canvas.closest('[class*=plot]')
    .parentElement.parentElement;
  const data = canvas.getContext('2d')
    .getImageData(0, 0, canvas.width, canvas.height).data;
  const count = rgb => {
    let n = 0;
    for (let i = 0; i < data.length; i += 4) {
      const far = Math.max(...[0, 1, 2].map(c => Math.abs(data[i + c] - rgb[c])));
      n += data[i + 3] > 128 && far < 12;
    }
    return n;
  };
  const dots = [...box.querySelectorAll('.legend-dot')];
  const colours = dots.map(d => d.style.backgroundColor.match(/\\d+/g).map(Number));
  return {title: box.innerText, pixels: colours.map(count)};
});
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(probe, seconds=30.0):
    """The first true answer of `probe`, which may fail to connect until then."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            answer = probe()
        except (urllib.error.URLError, ConnectionError):
            answer = None
        if answer or time.monotonic() > deadline:
            return answer
        time.sleep(0.2)


def ask(url, body=None, method=None, headers=()):
    """A request and its JSON answer (`None` for other answers)."""
    data = None if body is None else json.dumps(body).encode()
    named = {"Content-Type": "application/json", **dict(headers)}
    request = urllib.request.Request(url, data, named)
    request.method = method or request.get_method()
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read()
    return json.loads(text) if text.startswith(b"{") else text


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Variables under which two finished runs lie in Trackio's store."""
    folder = tmp_path_factory.mktemp("dashboard")
    root = str(pathlib.Path(dashboard.__file__).parents[2])
    made = os.environ | {"TRACKIO_DIR": str(folder / "store"), "PYTHONPATH": root}
    for name in RUNS:
        command = [sys.executable, "-c", LOG_A_RUN, str(folder), name]
        subprocess.run(command, env=made, check=True, timeout=60)
    return made


@pytest.fixture
def ids(environment):
    """Under which ids Trackio knows the members, by run."""
    folder = pathlib.Path(environment["TRACKIO_DIR"]).parent
    texts = {name: (folder / name / "trackio.json").read_text() for name in RUNS}
    return {name: json.loads(text)["ids"] for name, text in texts.items()}


@pytest.fixture
def server(environment):
    """The dashboard in a process of its own: `(process, address)`."""
    with serving(environment) as found:
        yield found


@contextlib.contextmanager
def serving(environment, *options):
    """The dashboard under these variables: `(process, address)`."""
    port = free_port()
    arguments = ["--project", "walks", "--port", str(port), "--no-browser", *options]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE.format(arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    address = f"http://127.0.0.1:{port}/"
    try:
        assert wait_for(lambda: ask(address)), process.communicate(timeout=1)
        yield process, address
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def browser(tmp_path):
    """A session of headless Chromium, driven through WebDriver: its address."""
    driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
    if not (driver and chromium):
        assert not os.environ.get("CI"), "CI needs chromium and chromedriver"
        pytest.skip("no chromium and chromedriver")
    port = free_port()
    process = subprocess.Popen(
        [driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    arguments = [*CHROMIUM, f"--user-data-dir={tmp_path / 'profile'}"]
    options = {"binary": chromium, "args": arguments}
    wish = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
    root, session = f"http://127.0.0.1:{port}/session", None
    try:
        session = wait_for(lambda: ask(root, wish))["value"]["sessionId"]
        yield f"{root}/{session}"
    finally:
        if session:
            ask(f"{root}/{session}", method="DELETE")
        process.terminate()
        process.wait(timeout=10)


@pytest.mark.browser
def test_the_curves_of_the_newest_run_are_drawn(server, browser):
    ask(f"{browser}/url", {"url": server[1] + "?project=walks"})

    def drawn():
        plots = ask(f"{browser}/execute/sync", {"script": PIXELS, "args": []})["value"]
        curves = all(len(p["pixels"]) == 3 and min(p["pixels"]) > 50 for p in plots)
        return plots if len(plots) == 6 and curves else None

    plots = wait_for(drawn)
    assert plots, ask(f"{browser}/execute/sync", {"script": PIXELS, "args": []})
    # What is looked for first, evaluation, training, loss, gradient; then the alphabet.
    titles = [plot["title"].split()[0] for plot in plots]
    assert titles == ["return", "length", "return", "td_error", "norm", "angle"]
    for plot in plots:
        for seed in (40, 41, 42):
            assert f"walk/today · seed {seed}" in plot["title"]


def led_to(address):
    """The query of the address at which a page is found."""
    with urllib.request.urlopen(address, timeout=60) as answer:
        return urllib.parse.parse_qs(urllib.parse.urlsplit(answer.url).query)


def test_the_page_opens_with_the_newest_run(server, ids):
    _, address = server
    newest = {"run_ids": [",".join(ids["today"])]}
    assert led_to(address) == newest
    assert led_to(f"{address}metrics?project=walks") == {"project": ["walks"], **newest}
    assert led_to(f"{address}?project=walk") == {"project": ["walk"], **newest}
    chosen = {"run_ids": [ids["before"][1]]}
    assert led_to(f"{address}?run_ids={ids['before'][1]}") == chosen
    assert led_to(f"{address}?run_ids=") == {}  # All of them.
    assert led_to(f"{address}?runs=one") == {"runs": ["one"]}
    assert led_to(f"{address}runs") == {}


def test_the_newest_runs_are_listed(environment, ids):
    with serving(environment, "--last", "4") as (_, address):
        listed = str(ask(f"{address}api/get_runs_for_project", {"project": "walks"}))
        configs = str(ask(f"{address}api/get_run_configs", {"project": "walks"}))
    for one in (listed, configs):
        assert [id in one for id in ids["before"]] == [False, False, True]
        assert all(id in one for id in ids["today"])


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([], []),
        (["a", "a"], []),
        (["a", "b", "a", "b"], ["1", "3"]),
        (["a", None], ["1"]),
        ([None, None], ["1"]),
        (["a", "b"] * 70, [str(k) for k in range(13, 140, 2)]),
        (["a"] * 70, [str(k) for k in range(6, 70)]),
    ],
)
def test_which_runs_are_the_newest(monkeypatch, groups, expected):
    from trackio.sqlite_storage import SQLiteStorage

    runs = [{"id": str(k), "name": "same"} for k in range(len(groups))]
    configs = {str(k): {"_Group": g} if g else {} for k, g in enumerate(groups)}
    known = {"get_run_records": runs, "get_all_run_configs": configs}
    for name, value in known.items():
        call = staticmethod(lambda project, value=value: value)
        monkeypatch.setattr(SQLiteStorage, name, call)
    assert dashboard_runs.newest_group("walks") == expected


def test_control_c_ends_it_cleanly(server):
    process, _ = server
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 0, output
    assert "Traceback" not in output


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "127.0.0.2"])
@pytest.mark.parametrize("path", ["", "api/get_all_projects", "version"])
def test_a_foreign_host_is_refused(server, host, path):
    _, address = server
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(address + path, headers={"Host": host})
    with refused.value as answer:
        assert (answer.code, answer.read()) == (400, b"Invalid host header")


def test_this_machine_is_answered_under_both_names_and_no_other_is(server):
    _, address = server
    port = address.strip("/").rpartition(":")[2]
    for name in (f"localhost:{port}", f"127.0.0.1:{port}"):
        assert b"<html" in ask(address, headers={"Host": name}).lower()
    with socket.socket() as other:
        other.settimeout(2)
        assert (
            other.connect_ex(("127.0.0.2", int(port))) != 0
        )  # Loopback's one address.


def test_a_trackio_that_cannot_be_guarded_is_not_started(monkeypatch, capsys):
    import trackio

    started = []

    def show(**_):
        trackio.launch_trackio_dashboard("an application of its own")

    monkeypatch.setattr(trackio, "launch_trackio_dashboard", started.append)
    monkeypatch.setattr(trackio, "show", show)
    assert dashboard.main(["--no-browser"]) == 1
    assert "not the one whose hosts are checked" in capsys.readouterr().err
    assert started == []


def test_a_damaged_project_is_left_out_in_one_line(environment, tmp_path):
    shutil.copytree(environment["TRACKIO_DIR"], tmp_path / "store")
    (tmp_path / "store" / "broken.db").write_bytes(b"this is no database" * 99)
    made = environment | {"TRACKIO_DIR": str(tmp_path / "store")}
    command = [sys.executable, "-c", SERVE.format(["--project", "broken"])]
    done = subprocess.run(command, env=made, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    first, *_, last = done.stderr.splitlines()
    path = tmp_path / "store" / "broken.db"
    assert first.startswith(f"rl-grads dashboard: {path}: left out, as it cannot be")
    assert "expected a project with runs (walks)" in last
    with serving(made) as (_, address):
        projects = ask(f"{address}api/get_all_projects", {})
    assert "walks" in str(projects) and "broken" not in str(projects)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--project", "walk"], "did you mean 'walks'?"),
        (["--port", "eight"], "invalid int value: 'eight'"),
        (["--prot", "8"], "unrecognized arguments: --prot"),
        (["--last", "0"], "--last: expected an integer in [1, inf), got 0"),
    ],
)
def test_bad_arguments_are_one_message_and_code_2(environment, arguments, message):
    command = [sys.executable, "-c", SERVE.format(arguments)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_help_imports_no_tracker(environment):
    code = SERVE.format(["--help"]).replace(
        "sys.exit(", "import atexit; atexit.register(show); sys.exit("
    )
    show = "def show(): print('trackio' in sys.modules)\n"
    command = [sys.executable, "-c", f"import sys\n{show}{code}"]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "--no-browser" in done.stdout
    assert done.stdout.splitlines()[-1] == "False"
