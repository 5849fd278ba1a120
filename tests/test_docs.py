"""The pages: no experiment without its section, no picture that nothing shows."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def text() -> str:
    return "\n".join(page.read_text() for page in PAGES)


def test_every_experiment_has_its_command_on_a_page():
    experiments = [file.stem for file in (ROOT / "experiments").glob("*.py")]
    assert "meta_sinusoid" in experiments
    unknown = [name for name in experiments if f"experiments.{name}" not in text()]
    assert unknown == []


def test_every_picture_is_shown():
    images = ROOT / "docs" / "images"
    pictures = [file.name for file in images.iterdir() if file.is_file()]
    assert [name for name in pictures if f"images/{name})" not in text()] == []


def test_every_page_is_in_the_index():
    readme = (ROOT / "README.md").read_text()
    pages = {page.name for page in (ROOT / "docs").glob("*.md")}
    assert {name for name in pages if f"](docs/{name})" not in readme} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    parts = page.read_text().split("](")[1:]
    links = [part.split(")")[0].split("#")[0] for part in parts]
    files = [link for link in links if link and "://" not in link]
    assert [f for f in files if not (page.parent / f).exists()] == []


class Command(NamedTuple):
    """Arguments of `rl-grads`, and what it prints where the page says it."""

    arguments: list[str]
    prints: str


def _commands(block: str) -> list[Command]:
    """The commands of a block, each behind a `$`."""
    found = []
    for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
        command, _, output = part.replace("\\\n", " ").partition("\n")
        found.append(Command(shlex.split(command)[1:], output.strip()))
    return found


def _blocks() -> list:
    """Blocks that begin with a command, by page; those that train are slow."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```\n(\$ rl-grads .*?)```", page.read_text(), re.S):
            commands = _commands(block)
            trains = any(one.arguments[0] == "train" for one in commands)
            marks = [pytest.mark.slow] if trains else []
            names = "-".join(one.arguments[0] for one in commands)
            name = f"{page.name}-{names}"
            found.append(pytest.param(commands, marks=marks, id=name))
    return found


NUMBER = re.compile(r"(?<![\w#])-?\d+(?:\.\d+)?(?:e-?\d+)?")


def alike(printed: str, expected: str) -> bool:
    """Whether two texts have the same words, and numbers within two per cent.

    Another processor rounds otherwise, and training amplifies that.
    """
    texts = (printed, expected)
    words = [" ".join(NUMBER.sub("N", text).split()) for text in texts]
    numbers = [[float(n) for n in NUMBER.findall(text)] for text in texts]
    return words[0] == words[1] and numbers[0] == pytest.approx(
        numbers[1], rel=0.02, abs=2e-3
    )


@pytest.mark.parametrize("commands", _blocks())
def test_what_commands_print_is_as_the_page_says(commands, tmp_path):
    line = [sys.executable, "-m", "rl_grads.cli.main"]
    for arguments, expected in commands:
        done = subprocess.run(
            [*line, *arguments], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode in (0, 1), done.stderr
        if expected:
            assert alike(done.stdout, expected), done.stdout


def test_words_and_numbers_are_compared():
    assert alike("#4  10.1  of\n 2", "#4 10.0 of 2")
    assert not alike("#4 10.1 of 2", "#5 10.1 of 2")
    assert not alike("#4 10.1 of 2", "#4 11.0 of 2")
    assert not alike("#4 10.1 of 2", "#4 10.1 in 2")
    assert not alike("1 2", "1")


def test_there_are_such_blocks():
    assert len(_blocks()) > 1
