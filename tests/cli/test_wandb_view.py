"""`rl-grads wandb view`: to a server that answers as W&B's does, and without one."""

import http.server
import json
import sys
import threading
import types

import pytest

KEY = "0" * 40
VIEWER = {"id": "u", "entity": "team", "username": "me", "teams": {"edges": []}}
ROWS = (
    {"step": 10, "member": 0, "seed": 0, "loss/x": 1.0},
    {"step": 20, "member": 0, "seed": 0, "loss/x": 1.0, "evaluation/return": 2.0},
)


@pytest.fixture
def run(home):
    """A run and a sweep of which it is a point."""
    text = "".join(f"{json.dumps(row)}\n" for row in ROWS)
    for folder in ("runs/paper", "sweeps/both/0"):
        (home / folder).mkdir(parents=True)
        (home / folder / "metrics.jsonl").write_text(text)
    return home


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """A user without credentials."""
    for name in ("API_KEY", "IDENTITY_TOKEN_FILE", "BASE_URL", "MODE"):
        monkeypatch.delenv(f"WANDB_{name}", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture
def server(nobody, monkeypatch):
    """A server: what it was `asked` to save, and its `answer`."""
    answer = {"view": {"id": "v", "name": "nw-abc-v"}, "inserted": True}
    it = types.SimpleNamespace(asked=[], answer=answer)

    class Server(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            content = self.rfile.read(int(self.headers["Content-Length"]))
            asked = json.loads(content) if self.path == "/graphql" else {}
            if "upsertView" in asked.get("query", ""):
                it.asked.append(asked["variables"])
            answers = {"viewer": VIEWER, "upsertView": it.answer}
            self.reply(json.dumps({"data": answers}).encode())

        def do_GET(self):
            self.reply(b"")

        def reply(self, content):
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            """Say nothing."""

    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{made.server_port}")
    yield it
    made.shutdown()
    thread.join()
    made.server_close()


def refused(command, capsys, *argv):
    with pytest.raises(SystemExit, match="2"):
        command("wandb", "view", *argv)
    return capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("folder", ["runs/paper", "sweeps/both"])
def test_a_view_of_what_a_run_has_logged_is_saved(run, command, server, folder):
    status, out, err = command("wandb", "view", folder, "--project", "walks")
    assert (status, err) == (0, "")
    assert out.startswith("http://127.0.0.1:") and out.endswith("/team/walks?nw=abc\n")
    (saved,) = server.asked
    assert (saved["entityName"], saved["projectName"]) == ("team", "walks")
    assert (saved["displayName"], saved["type"]) == ("rl_grads", "project-view")
    section = json.loads(saved["spec"])["section"]
    panels = {
        one["name"]: [panel["config"]["metrics"] for panel in one["panels"]]
        for one in section["panelBankConfig"]["sections"]
    }
    assert panels == {"evaluation": [["evaluation/return"]], "loss": [["loss/x"]]}


def test_whose_it_is_and_what_it_is_called_can_be_said(run, command, server):
    argv = ("runs/paper", "--entity", "us", "--title", "walks")
    assert command("wandb", "view", *argv).status == 0
    (saved,) = server.asked
    assert (saved["entityName"], saved["displayName"]) == ("us", "walks")


def test_what_the_server_does_not_save_is_one_line(run, command, server):
    server.answer = None
    status, out, err = command("wandb", "view", "runs/paper", "--entity", "us")
    assert (status, out) == (1, "")
    assert err.startswith("rl-grads wandb: not saved (")
    assert err.count("\n") == 1


def test_without_its_package_it_is_one_line(run, command, server, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    status, _, err = command("wandb", "view", "runs/paper", "--entity", "us")
    expected = "expected its package: pip install wandb-workspaces"
    assert (status, err) == (1, f"rl-grads wandb: not saved ({expected})\n")


def test_without_credentials_it_is_one_line(run, nobody, command, capsys):
    line = refused(command, capsys, "runs/paper")
    expected = "no credentials; run `wandb login` or set WANDB_API_KEY"
    assert line == f"rl-grads wandb: error: {expected}"


def test_a_folder_without_a_run_is_refused(run, nobody, command, capsys):
    line = refused(command, capsys, "runs/papr")
    expected = "expected the folder of a run or of a sweep"
    assert line == f"rl-grads wandb: error: runs/papr: {expected}"
