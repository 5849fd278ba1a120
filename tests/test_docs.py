"""The pages: no experiment without its section, no picture that nothing shows."""

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
    pictures = [file.name for file in (ROOT / "docs" / "images").iterdir()]
    assert [name for name in pictures if f"images/{name})" not in text()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page):
    parts = page.read_text().split("](")[1:]
    links = [part.split(")")[0].split("#")[0] for part in parts]
    files = [link for link in links if link and "://" not in link]
    assert [f for f in files if not (page.parent / f).exists()] == []
