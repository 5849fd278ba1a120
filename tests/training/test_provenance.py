"""`run.json` says what a run was made of, and the mirrors are told less."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

import rl_grads
from rl_grads.training import provenance
from rl_grads.training.provenance import Origin


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    command = ["git", "-C", str(folder), *identity, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A module in a Git tree of its own, imported."""
    git(tmp_path, "init", "-q")
    path = tmp_path / "foreign_plugin.py"
    path.write_text("X = 1\n")
    git(tmp_path, "add", path.name)
    git(tmp_path, "commit", "-qm", "one")
    monkeypatch.syspath_prepend(tmp_path)
    yield path
    sys.modules.pop("foreign_plugin", None)


def described(plugins=("foreign_plugin",)):
    __import__("foreign_plugin")
    provenance._commit.cache_clear()
    return provenance.describe(Origin(("rl-grads", "train"), plugins))


def test_commit_and_changes_of_a_plugins_tree(plugin, tmp_path):
    plugin.write_text("X = 2\n")
    document = described()
    found = document["source"]["foreign_plugin"]
    assert found["commit"] == git(tmp_path, "rev-parse", "HEAD")
    assert "-X = 1\n+X = 2\n" in found["diff"]
    assert found["sha256"] == hashlib.sha256(b"X = 2\n").hexdigest()
    assert document["command"] == ["rl-grads", "train"]
    assert document["plugins"] == ["foreign_plugin"]


def test_a_plugin_that_git_does_not_know_is_kept_whole(plugin, tmp_path):
    git(tmp_path, "rm", "-q", "--cached", plugin.name)
    found = described()["source"]["foreign_plugin"]
    assert found["diff"] == "X = 1\n"
    assert "commit" not in found


def test_without_git_the_rest_is_said(plugin, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    document = described()
    assert document["source"]["rl_grads"] == {}
    assert document["source"]["foreign_plugin"]["file"] == str(plugin)


def test_this_packages_own_commit():
    root = Path(rl_grads.__file__).parents[1]
    provenance._commit.cache_clear()
    found = provenance.describe(Origin())["source"]["rl_grads"]
    assert found["commit"] == git(root, "rev-parse", "HEAD")
    assert set(found) == {"commit", "diff"}


def test_mirrors_are_not_told_the_changes(plugin):
    plugin.write_text("X = 2  # unpublished\n")
    document = described()
    assert "unpublished" in str(document)
    public = provenance.public(document)
    assert "unpublished" not in str(public)
    assert public["source"]["foreign_plugin"]["commit"]
    assert public["versions"] == document["versions"]


def test_very_long_changes_are_cut(plugin, monkeypatch):
    monkeypatch.setattr(provenance, "_LONGEST_DIFF", 30)
    plugin.write_text("X = 2\n" * 100)
    found = described()["source"]["foreign_plugin"]
    assert found["diff"].endswith("\n... cut after 30 characters\n")
    assert len(found["diff"]) == 30 + len("\n... cut after 30 characters\n")


@pytest.mark.parametrize("source", [None, [], {"x": 1}, {"x": {"diff": 1}}])
def test_odd_documents_have_a_public_part_too(source):
    assert "diff" not in str(provenance.public({"source": source, "a": 1}))
