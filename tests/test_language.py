"""The project's words: plain technical English, as the field uses it.

Each row is a pattern that the project does not use and what it uses in its place. Patterns are looked for in code,
comments, docstrings, messages, help and documents, whatever their case; a space in a pattern is any white space, also a
line's end with the `#` of a comment after it. `_` and a capital begin a word, so identifiers are covered.
"""

import ast
import functools
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCANNED = (
    "ktransfer",
    "export",
    "docs",
    "examples",
    "benchmarks",
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
)
TEXT = {
    ".py",
    ".pyi",
    ".md",
    ".html",
    ".txt",
    ".ipynb",
    ".kt",
    ".swift",
    ".yaml",
    ".yml",
    ".toml",
    ".css",
    ".js",
}

# What is not used, and what is.
WORDS = {
    r"(goes?|went|gone|going) on from": "resumes from",
    r"thaw(s|ed|ing)?": "unfreeze",
    r"artefacts?": "artifact",
    r"strangers?( wrote)?": "untrusted input",
    r"(train(ing)?|validation|test|both|judge|read_table|found|readable) parts?": "split",
    r"parts? of the data": "split",
    r"kept features": "cached features",
    r"(process|processes) of (its|their) own": "a subprocess",
    r"gone on (from|with)": "training resumes from it",
    r"judg(e|es|ed|ing|e?ment)": "evaluate",
    r"rounded (model|network)": "fake-quantized model",
    r"(is|are) no numbers?": "is NaN or infinite",
    r"answers no numbers": "is NaN or infinite",
    r"heed(s|ed|ing)?": "handle",
    r"mend(s|ed|ing)?": "fix",
    r"looked through": "validated, searched",
    r"told": "logged, printed, warned",
    r"said": "logged, printed, warned",
    r"besides?": "next to, as well as, in addition to",
    r"toss-?up": "a near tie",
    r"surviv(e|es|ed|al|ing)": "crash, end, recover, as fits",
    r"nobody": "the actor that is meant",
    r"that which": "what, the one that",
    r"whoever": "the actor that is meant",
    r"(says?|said) so": "prints it, sets it, reports it",
    r"lines? for a person": "message",
    r"stumbles?": "the errors that are meant",
    r"worth a word": "when a note is printed",
    r"checked at birth": "validated on construction",
    r"(falling|rising|peak) rates?|the rates? (climbs?|falls?)": "learning rate",
    r"_rounding|draws? anew|drawn anew": "fake_quant, random_state, independent for each",
    r"batch_?parts": "gradient_accumulation",
    r"own_?process": "runtime_process",
    r"fatal_operation": "bisect",
    r"halve_weights": "float16_weights",
    r"(jobs|cli)[/.](parts|finish|stock|judge)": "splits, fit, backbones, evaluate",
    r"mixed_precision_search": "layer_sensitivity",
}
# Where a word is right: the file, and the text around it.
ALLOWED = {
    ("ktransfer/runs/manifest.py", '_OLD_ARTIFACTS = "artefacts"'): "the key and folder of runs of 0.1.0",
    ("ktransfer/runs/manifest.py", "`artefacts` where a version before 0.2.0"): "the same",
    ("export/onnx/predict.py", 'or manifest.get("artefacts", [])'): "the same",
    ("export/onnx_server/model.py", 'or manifest.get("artefacts", [])'): "the same",
    ("export/savedmodel/predict.py", 'or manifest.get("artefacts", [])'): "the same",
    ("export/tf_serving/client.py", 'or manifest.get("artefacts", [])'): "the same",
    ("export/tflite/predict.py", 'or manifest.get("artefacts", [])'): "the same",
    ("ktransfer/data/tables/pair_cells.py", '"entailment_judgment"'): "a column's name in SICK",
    ("ktransfer/text/preprocessing.py", "def beside(self,"): "the name in 0.1.0, which warns",
    ("ktransfer/text/preprocessing.py", 'warn_once("TextPreprocessing.beside"'): "the same",
    ("CHANGELOG.md", "`TextPreprocessing.beside`"): "the same",
    ("CHANGELOG.md", "in place of `artefacts`"): "the same",
    ("export/triton/make_repository.py", 'or manifest.get("artefacts", [])'): "the same",
}


def scanned():
    """The project's texts by their path from the root; of the changelog the newest section."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *SCANNED],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    names = listed.stdout.splitlines() or [
        path.relative_to(ROOT).as_posix()
        for top in SCANNED
        for path in (sorted((ROOT / top).rglob("*")) if (ROOT / top).is_dir() else [ROOT / top])
    ]
    texts = {
        name: (ROOT / name).read_text(encoding="utf-8")
        for name in names
        if Path(name).suffix in TEXT and (ROOT / name).is_file()
    }
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    return texts | {"CHANGELOG.md": "\n## ".join(changelog.split("\n## ")[:2])}


TEXTS = scanned()


@functools.cache
def pattern(words):
    """A pattern as `WORDS` has them, compiled."""
    spaced = words.replace(" ", r"(?:\s|#|\"\s*f?\")+")
    # A word begins after what is no letter, or with a capital; it ends before what is no small letter.
    return re.compile(rf"(?:(?<![a-zA-Z])|(?<=[a-z])(?=(?-i:[A-Z])))(?:{spaced})(?![a-z])", re.IGNORECASE)


def found(words, texts=TEXTS):
    """`path:line: text` of each use that is not allowed."""
    for name, text in texts.items():
        if not pattern(words).search(text):
            continue
        allowed = [
            range(start.start(), start.end())
            for (path, around) in ALLOWED
            if path == name
            for start in re.finditer(re.escape(around), text)
        ]
        for match in pattern(words).finditer(text):
            if not any(match.start() in place for place in allowed):
                line = text.count("\n", 0, match.start()) + 1
                yield f"{name}:{line}: {text.splitlines()[line - 1].strip()[:120]}"


@pytest.mark.parametrize("words", WORDS)
def test_the_project_does_not_use_the_words(words):
    uses = list(found(words))
    assert not uses, f"Expected: {WORDS[words]}.\n" + "\n".join(uses)


def docstrings():
    """`(place, first line)` of each docstring of the package and the kit."""
    for name, text in TEXTS.items():
        if name.startswith(("ktransfer/", "export/", "examples/", "benchmarks/")) and name.endswith(".py"):
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
                    line = 1 if isinstance(node, ast.Module) else node.lineno
                    yield f"{name}:{line}", ast.get_docstring(node).splitlines()[0]


def test_docstrings_begin_with_a_noun_phrase_or_a_verb():
    asking = re.compile(r"(What|Which|How|Where|Who|Why|Say|Says|That|Those|Of)\b(?!ever)")
    assert not [f"{place}: {line}" for place, line in docstrings() if asking.match(line)]


@pytest.mark.parametrize(("name", "around"), ALLOWED)
def test_each_exception_is_still_there(name, around):
    assert around in TEXTS[name]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("judg(e|ed)", "def judge_parts():"),
        ("judg(e|ed)", "self._judged = 1"),
        ("judg(e|ed)", "class IsJudged:"),
        ("kept features", "on kept\n    # features"),
        ("kept features", 'f"on kept "\n    f"features"'),
        ("beside", "Beside this"),
    ],
)
def test_a_word_is_found_in_prose_and_in_names(words, text):
    assert list(found(words, {"a.py": text}))


@pytest.mark.parametrize("text", ["amend", "recommended", "besieged"])
def test_a_word_within_another_is_none(text):
    assert not [words for words in WORDS if list(found(words, {"a.py": text}))]
