"""README and CONTRIBUTING: short, with links that lead somewhere and figures that were measured."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_readme_is_short():
    assert len(README.splitlines()) < 150


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_links_lead_to_files(name):
    links = re.findall(r"\]\(([^)#]+)(?:#[\w-]+)?\)", (ROOT / name).read_text(encoding="utf-8"))
    links = [link for link in links if not link.startswith("https://")]
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_page_of_the_site_is_linked_or_generated():
    pages = {page.relative_to(ROOT).as_posix() for page in (ROOT / "docs").rglob("*.md")}
    generated = {page for page in pages if "::: ktransfer." in (ROOT / page).read_text(encoding="utf-8")}
    linked = set(re.findall(r"\((docs/[\w/]+\.md)\)", README + (ROOT / "CONTRIBUTING.md").read_text("utf-8")))
    assert pages - generated - linked == set()


def test_figures_stand_in_the_benchmarks():
    table = README.partition("## Figures")[2].partition("\n\n")[2].partition("\n\n")[0]
    figures = re.findall(r"(?<![\w.-])\d+(?:\.\d+)?(?![\w-])", table.partition("---|\n")[2])
    measured = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert len(figures) > 10
    missing = [
        each for each in figures if not re.search(rf"(?<![\d.]){re.escape(each)}(?!\d|\.\d)", measured)
    ]
    assert missing == []


def test_its_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"make (\w+)", README)
    assert "test" in targets
    assert [target for target in targets if f"\n{target}:" not in makefile] == []


@pytest.mark.parametrize("what", ["task", "export format", "backbone family"])
def test_adding_something_takes_under_ten_lines(what):
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.partition(f"## Add a{'n' * (what[0] == 'e')} {what}\n")[2].partition("\n## ")[0]
    assert 3 <= len(section.strip().splitlines()) < 10
