"""The pages: no experiment without its section, no picture that nothing shows."""

import re
import shlex
from pathlib import Path

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


def _printed() -> list[tuple[str, list[str], str]]:
    """Blocks that begin with a command: their page, arguments, what it prints."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```\n(\$ rl-grads .*?)```", page.read_text(), re.S):
            command, _, output = block.partition("\n")
            found.append((page.name, shlex.split(command)[2:], output.strip()))
    return found


@pytest.mark.parametrize(("page", "arguments", "output"), _printed())
def test_what_a_command_prints_is_as_the_page_says(
    page, arguments, output, tmp_path, monkeypatch, capsys
):
    from rl_grads.cli.main import main

    monkeypatch.chdir(tmp_path)
    assert main(arguments) in (0, 1)
    assert capsys.readouterr().out.strip() == output


def test_there_are_such_blocks():
    assert len(_printed()) > 0
