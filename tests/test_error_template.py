"""One form for every error: `Expected <what>, got <value>. <How to fix it>.`

Read from the source: each place that makes an error with a message written there.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOR_USERS = {
    *("KTransferError", "DataError", "RecipeError", "RunError", "ExportError", "BackboneError"),
    *("MissingExtraError", "Ended", "StartError", "Refused"),
}
OF_PYTHON = {"ValueError", "TypeError", "RuntimeError", "OSError", "EOFError"}
# A field, such as `{fix}`, may be all or the end of the second sentence.
TEMPLATE = re.compile(r"Expected .+, got .+[.}] ?(.+\.|\{.+\}\.?)$", re.DOTALL)
# An error that quotes another one in full, and may add to it.
QUOTES_ANOTHER = re.compile(r"\{(str\()?(error|ended|errors\[0\]|place\}: \{self)\)?\}")
# The errors of Python's own kinds in these modules are caught and quoted after `got`: they are what was found there, a
# phrase without a verb that asks for something and without a full stop.
QUOTED_BY = {
    "export/onnx_server/json_body.py",
    "ktransfer/data/shards/contents.py",
    "ktransfer/data/shards/shard.py",
    "ktransfer/runs/exported.py",
    "ktransfer/data/tables/file_bytes.py",
    "ktransfer/data/tables/json_tables.py",
    "ktransfer/data/tables/label_sets.py",
    "ktransfer/data/tables/table_files.py",
    "ktransfer/evaluation/explanations.py",
    "ktransfer/exporting/artifact.py",
    "ktransfer/exporting/onnx/exporter.py",
    "ktransfer/exporting/precision.py",
    "ktransfer/exporting/processes/ipc.py",
    "ktransfer/features/extract.py",
    "ktransfer/features/store.py",
    "ktransfer/image/decoding.py",
    "ktransfer/image/preprocessing.py",
    "ktransfer/models/presets.py",
    "ktransfer/security/keras_archive.py",
    "ktransfer/security/safe_io.py",
    "ktransfer/text/pair_preprocessing.py",
    "ktransfer/text/preprocessing.py",
    "ktransfer/text/shards.py",
}


def text_of(node):
    """The message as it is written, each field as `{...}`; of what is no text a field."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        parts = (
            v.value if isinstance(v, ast.Constant) else f"{{{ast.unparse(v.value)}}}" for v in node.values
        )
        return "".join(map(str, parts))
    if isinstance(node, ast.BinOp):
        return text_of(node.left) + text_of(node.right)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "rstrip":
        return text_of(node.func.value)
    return f"{{{ast.unparse(node)}}}"


def opened(message, function):
    """A message whose first field is a text given in the same function, with that in its place."""
    field = re.match(r"\{(\w+)\}", message)
    for node in ast.walk(function) if field and function else ():
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == field.group(1):
            return text_of(node.value) + message[field.end() :]
    return message


def errors_in(source):
    """`(line, class, message)` of each error that is made with a message."""
    tree = ast.parse(source)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or not node.args:
            continue
        name = node.func.id
        if name in FOR_USERS | OF_PYTHON:
            message = node.args[1] if name == "Refused" and len(node.args) > 1 else node.args[0]
            around = [each for each in functions if each.lineno <= node.lineno <= (each.end_lineno or 0)]
            yield node.lineno, name, opened(text_of(message), around[-1] if around else None)


ERRORS = [
    (path.relative_to(ROOT).as_posix(), *error)
    for top in ("ktransfer", "export")
    for path in sorted((ROOT / top).rglob("*.py"))
    for error in errors_in(path.read_text(encoding="utf-8"))
]


def is_fragment(path, name, message):
    return name in OF_PYTHON and path in QUOTED_BY and not message.endswith(".")


def is_of_the_system(message):
    return message == "{error.errno}"


@pytest.mark.parametrize("path", sorted({path for path, *_ in ERRORS}))
def test_every_error_has_the_one_form(path):
    wrong = [
        f"{path}:{line}: {name}: {message}"
        for where, line, name, message in ERRORS
        if where == path
        and not TEMPLATE.match(message)
        and not QUOTES_ANOTHER.match(message)
        and not is_fragment(path, name, message)
        and not is_of_the_system(message)
    ]
    assert not wrong, "Expected: Expected <what>, got <value>. <How to fix it>.\n" + "\n".join(wrong)


def test_there_are_errors_to_look_at():
    assert len(ERRORS) > 400
    assert {name for _, _, name, _ in ERRORS} >= {
        "DataError",
        "RecipeError",
        "RunError",
        "Refused",
        "ValueError",
    }


def test_each_module_that_is_listed_has_a_quoted_error():
    quoted = {path for path, _, name, message in ERRORS if is_fragment(path, name, message)}
    assert quoted == set(QUOTED_BY)


@pytest.mark.parametrize("path", sorted({path for path, *_ in ERRORS}))
def test_no_error_has_the_older_forms(path):
    messages = [message for where, *_, message in ERRORS if where == path]
    assert not [each for each in messages if re.search(r"Received: |(was|were) expected\b|,,", each)]


@pytest.mark.parametrize(
    ("message", "holds"),
    [
        ("Expected a file, got {path}. Pass another.", True),
        ("Expected a file, got {path}. {fix}", True),
        ("Expected a file, got {path}. {did_you_mean(a, b)}Pass one.", True),
        ("Expected a file, got {path}.", False),
        ("Expected a file, got {path}. Pass another", False),
        ("Expected a file. Received: {path}. Pass another.", False),
        ("A file was expected, got {path}. Pass another.", False),
    ],
)
def test_the_form_is_what_it_says(message, holds):
    assert bool(TEMPLATE.match(message)) is holds
