"""The site builds without warnings and network, names everything public, and is right in a browser."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from browser import broken_images, chromium, complaints, overflow, requests, show, without_alt

import ktransfer

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(page.relative_to(DOCS).with_suffix(".html").as_posix() for page in DOCS.rglob("*.md"))
sys.path.append(str(DOCS / "tools"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site."""
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


def test_every_public_name_is_in_the_reference_once():
    found = [
        name
        for page in sorted((DOCS / "reference").glob("*.md"))
        for name in re.findall(r"^::: ktransfer\.(\w+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert sorted(found) == ktransfer.__all__


def test_the_reference_of_the_command_line_is_up_to_date():
    import cli_reference

    assert cli_reference.PAGE.read_text(encoding="utf-8") == cli_reference.page(), "run `make docs`"


def test_the_pictures_are_up_to_date_and_name_packages_that_there_are():
    import architecture_svg
    from test_architecture import ORDER

    for name, content in architecture_svg.pictures().items():
        assert (architecture_svg.IMAGES / name).read_text(encoding="utf-8") == content, "run `make docs`"
    layers = [package for packages, _ in architecture_svg.LAYERS for package in packages]
    assert layers == [package for package in ORDER if package not in ("__main__", "__init__", "errors")]
    assert {package for *_, package in architecture_svg.FLOW} - {""} <= set(layers)


def test_examples_of_docstrings_are_shown_as_code(site):
    page = (site / "reference" / "training.html").read_text(encoding="utf-8")
    assert "&gt;&gt;&gt;" in page
    assert not re.search(r"<blockquote>", page)


def test_no_page_asks_for_anything_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert {page.relative_to(site).as_posix() for page in pages} == {*PAGES, "404.html"}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|img|iframe)[^>]+src=\"?(?:https?:)?//", text), page
        assert not re.findall(r"<link[^>]+rel=\"?(?:stylesheet|preconnect|icon)[^>]+https?://", text), page


@pytest.mark.spread
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_its_window_and_is_whole(page, width, site, browser):
    show(browser, site / page, width=width)
    assert overflow(browser) <= 0
    assert without_alt(browser) == 0
    assert broken_images(browser) == 0
    assert complaints(browser) == []
    assert [url for url in requests(browser) if not url.startswith(("file:", "blob:", "about:"))] == []


def test_the_search_finds_a_page_without_a_server(site, browser):
    show(browser, site / "index.html")
    field = browser.find_element("css selector", "input.md-search__input")
    browser.execute_script("arguments[0].focus()", field)
    field.send_keys("openvino")
    end = time.monotonic() + 30
    while not (found := browser.find_elements("css selector", ".md-search-result__link")):
        assert time.monotonic() < end, "no result"
        time.sleep(0.2)
    links = [link.get_attribute("href") for link in found]
    assert any("how_to/runtimes.html" in link for link in links)
