"""Folders of runs: how one is taken, moved aside and read."""

import pytest

from rl_grads.config import ConfigError
from rl_grads.tracking import folder


def test_a_name_that_is_taken_gets_a_number(tmp_path):
    made = [folder.take_new(tmp_path / "runs" / "now") for _ in range(3)]
    assert [p.name for p in made] == ["now", "now-2", "now-3"]
    assert all(p.is_dir() for p in made)


@pytest.mark.parametrize("name", ["paper", "paper/second", "2026_11_28", "a b", "ä"])
def test_a_plain_name_is_a_runs(name):
    folder.check_id(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/..", "a//b", "/a", "a/", "a\nb", "a\0b", "x" * 201]
)
def test_another_is_refused(name):
    with pytest.raises(ConfigError, match=r"^run.id=.*: expected a name for a folder"):
        folder.check_id(name)


@pytest.mark.parametrize(
    "sign", ["config.json", "run.json", "metrics.jsonl", "0/run.json"]
)
def test_a_folder_with_a_run_is_claimed_to_go_on_or_moved_aside(tmp_path, sign):
    home = tmp_path / "run"
    (home / sign).parent.mkdir(parents=True)
    (home / sign).write_text("old")
    refused = folder.claimed(home, going_on=False, overwrite=False)
    with pytest.raises(ConfigError, match="holds a run already"), refused:
        pass
    with folder.claimed(home, going_on=True, overwrite=False):
        assert (home / sign).read_text() == "old"
    for number in (1, 2):
        with folder.claimed(home, going_on=False, overwrite=True):
            assert [p.name for p in home.iterdir()] == ["lease.json"]
            (home / sign).parent.mkdir(exist_ok=True)
            (home / sign).write_text(f"new {number}")
    assert (tmp_path / "run.replaced-1" / sign).read_text() == "old"
    assert (tmp_path / "run.replaced-2" / sign).read_text() == "new 1"
    assert not any(tmp_path.rglob("lease.json"))


def test_a_folder_in_which_a_process_works_is_refused(tmp_path):
    with folder.claimed(tmp_path, going_on=False, overwrite=False):
        again = folder.claimed(tmp_path, going_on=True, overwrite=True)
        with pytest.raises(
            ConfigError, match="a folder in which nobody works, process"
        ):
            again.__enter__()
