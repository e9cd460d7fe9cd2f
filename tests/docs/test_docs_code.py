"""Every Python and bash block of the pages runs, in order, in an empty folder and without network."""

import ast
import contextlib
import importlib
import io
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import ktransfer

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```$", re.M | re.S)
RUN = ("python", "bash")
# These train several runs or have command lines, each of which imports TensorFlow anew.
SLOW = (
    "index.md",
    *(f"how_to/{name}.md" for name in ("pretraining", "search", "smaller")),
    *(f"tutorials/{name}.md" for name in ("images", "mobile", "own_fit_script", "texts")),
    *(f"tutorials/{name}.md" for name in ("multi_label", "named_entities", "pairs", "regression", "serving")),
)
# What a page has to print, as patterns, in addition to running to its end.
PRINTED = {
    "index.md": ['"label": "mug"', '"label": "key"', r"onnx +\d"],
    "tutorials/images.md": [r"validation 0\.", "'label': 'mug'", r"artifacts/model_float16\.tflite [01]\."],
    "tutorials/texts.md": ["'label': 'delivery'", r"refund [01]\."],
    "tutorials/multi_label.md": [
        r"multi_label \[0\.",
        r"delivery [01]\.\d+ True",
        r"refund [01]\.\d+ True",
        r"account 0\.\d+ False",
    ],
    "tutorials/pairs.md": [
        r"'label': '(same|other)'",
        "'truncate': 'round_robin'",
        r"^\(1, \d+\)$",
        r'"label": "(same|other)"',
    ],
    "tutorials/regression.md": ["'label': 'price', 'value': ", "'coverage': 0.9"],
    "tutorials/named_entities.md": [
        r"\('ITEM', 'ORDER'\)",
        r"ORDER F1 [01]\.\d+ of \d+ entities",
        r"ORDER \d+ \d+ 4711",
        r'"text": "1234"',
    ],
    "tutorials/mobile.md": [r"^key [01]\.", r"labels\.txt", '"label": "boat"'],
    "tutorials/serving.md": ['"label":"mug"', "'label': 'key'"],
    "tutorials/own_fit_script.md": [r"\[0, 0, 1, 1, 2, 2\]", "'accuracy': "],
    "how_to/adapters.md": [r"merged 1 layers"],
    "how_to/pretraining.md": [r"^round ", r"^perplexity fell: True"],
    "how_to/learning_rate.md": ["conv1", r"1\.0e-04"],
    "how_to/smaller.md": [r"^pruned     50%", r"^\[\d+, \d+\] 0\.5$"],
    "how_to/search.md": [r"^best [01]\.\d"],
}


def blocks(page):
    """The blocks of a page that run: language, code and the number of the line before the code."""
    text = (DOCS / page).read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        if found["language"] in RUN:
            indent = len(found["indent"])
            code = "".join(line[indent:] for line in found["code"].splitlines(keepends=True))
            yield found["language"], code, text[: found.start("code")].count("\n")


PAGES = [page.relative_to(DOCS).as_posix() for page in sorted(DOCS.rglob("*.md"))]
WITH_CODE = [page for page in PAGES if any(blocks(page))]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder but for the deployment kit, with `ktransfer` and `python` on the path, and no way out."""
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name, command in (("python", ""), ("ktransfer", " -m ktransfer")):
        script = binaries / name
        script.write_text(f'#!/bin/sh\nexec "{sys.executable}"{command} "$@"\n')
        script.chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    (work / "export").symlink_to(ROOT / "export")
    monkeypatch.chdir(work)
    monkeypatch.setenv("PATH", f"{binaries}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    )
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # where nothing listens
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield work
    for kept in work.glob("*.pid"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(kept.read_text()), signal.SIGTERM)


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=pytest.mark.slow) if page in SLOW else page for page in WITH_CODE]
)
def test_the_code_of_a_page_runs(page, folder):
    names, printed = {"__name__": "__main__"}, io.StringIO()
    for language, code, line in blocks(page):
        if language == "bash":
            if "curl " in code and not shutil.which("curl"):
                pytest.skip("curl is not installed")
            done = subprocess.run(
                ["bash", "-e", "-o", "pipefail", "-c", code],
                capture_output=True,
                encoding="utf-8",
                check=False,
            )
            assert done.returncode == 0, f"{page}:{line}\n{code}\n{done.stdout}\n{done.stderr}"
            printed.write(done.stdout)
        else:
            compiled = compile("\n" * line + code, str(DOCS / page), "exec")
            with contextlib.redirect_stdout(printed):
                exec(compiled, names)
    missing = [text for text in PRINTED.get(page, []) if not re.search(text, printed.getvalue(), re.M)]
    assert not missing, f"{missing} not in\n{printed.getvalue()}"


@pytest.mark.parametrize("page", WITH_CODE)
def test_the_code_of_a_page_can_be_read_and_its_names_exist(page):
    """Of pages whose code only the slow tests run as well."""
    for language, code, line in blocks(page):
        if language == "bash":
            done = subprocess.run(["bash", "-n", "-c", code], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{page}:{line}\n{done.stderr}"
            continue
        for node in ast.walk(ast.parse(code, f"{page}:{line}")):
            if isinstance(node, ast.ImportFrom) and node.module.partition(".")[0] == "ktransfer":
                for alias in node.names:
                    assert hasattr(importlib.import_module(node.module), alias.name), f"{page}: {alias.name}"
            if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) == "ktransfer":
                assert hasattr(ktransfer, node.attr), f"{page}: ktransfer.{node.attr}"


@pytest.mark.parametrize("page", PAGES)
def test_a_fence_says_its_language(page):
    """So that no block of code is passed over for want of a name."""
    text = (DOCS / page).read_text(encoding="utf-8")
    languages = {found["language"] for found in FENCE.finditer(text)}
    assert languages <= {*RUN, "console", "json", "kotlin", "swift", "text", "toml", "yaml"}
    assert text.count("```") == 2 * len(list(FENCE.finditer(text)))


@pytest.mark.parametrize("page", PAGES)
def test_a_list_begins_after_an_empty_line(page):
    """Without one Markdown takes its items for the end of the paragraph."""
    text = FENCE.sub("", (DOCS / page).read_text(encoding="utf-8"))
    item = re.compile(r" *([-*]|\d+\.) ")
    for before, line in itertools.pairwise(text.splitlines()):
        begins = item.match(line) and before.strip() and not item.match(before)
        assert not begins or before.startswith((" ", "|", "#")), line


def test_every_tutorial_has_code_and_a_check():
    tutorials = {page for page in PAGES if page.startswith("tutorials/")} | {"index.md"}
    assert tutorials <= set(WITH_CODE)
    assert tutorials <= PRINTED.keys()
    assert PRINTED.keys() <= set(WITH_CODE)
    assert set(SLOW) <= set(WITH_CODE)
