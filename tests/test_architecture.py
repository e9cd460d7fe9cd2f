"""Which package may import which, and what loads when."""

import ast
import functools
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ktransfer

PACKAGE = Path(ktransfer.__file__).parent
# An import goes to a package further on in this list, or stays within its package.
ORDER = (
    *(
        "__main__",
        "cli",
        "__init__",
        "demo",
        "commands",
        "shrinking",
        "searching",
        "pretraining",
        "reporting",
        "distillation",
        "runs",
        "image",
        "text",
    ),
    *(
        "audit",
        "exporting",
        "quantization",
        "pruning",
        "tasks",
        "training",
        "features",
        "evaluation",
        "models",
        "data",
    ),
    *("recipes", "utils", "security", "core", "errors"),
)
# Modules that do not keep to it yet.
EXCEPTIONS = {"exporting.runtimes": {"runs.run"}}
MAY_IMPORT_TENSORFLOW = (
    *("data.rebatching", "data.shards.tfrecord", "data.tfds", "exporting"),
    *("image.augmentation_ops", "image.dataset", "image.file_parity", "image.in_graph"),
    *("text.dataset", "text.in_graph_tokenizer"),
)
# What loads no framework when it is imported, but for the modules after it.
LIGHT = (
    *("errors", "security.safe_io", "utils", "recipes", "data", "audit", "runs.manifest", "cli"),
    *("core", "image.modality", "text.modality", "image.inputs", "text.inputs"),
    *("image.sources", "image.decoding", "image.checks", "image.augmentation"),
    *("text.sources", "text.augmentation", "features.store", "models.backbone_names", "exporting.formats"),
    *(
        "commands.checks",
        "searching.space",
        "searching.ranking",
        "demo.canvas",
        "demo.corpus",
        "demo.drawing",
        "demo.textures",
    ),
)
NOT_LIGHT = ("utils.machine", "data.rebatching", "data.tfds")
HEAVY = ("tensorflow", "keras", "keras_hub", "jax", "sklearn", "numpy")


def _modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts), path


MODULES = dict(_modules())


def within(module, *rooms):
    return any(module == room or module.startswith(room + ".") for room in rooms)


@functools.cache
def source(module):
    return MODULES[module].read_text(encoding="utf-8")


@functools.cache
def tree(module):
    return ast.parse(source(module))


@functools.cache
def imports(module, *, at_start=False):
    """Full names of what a module imports, in its functions as well or only while it is itself imported.

    What is imported for type checkers alone binds no module to another while a program runs.
    """
    return tuple(_imports(module, at_start))


def _imports(module, at_start):
    nodes = list(ast.walk(tree(module)))
    unbound = [
        inner
        for node in nodes
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    ]
    if at_start:
        unbound += [
            inner
            for node in nodes
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for inner in ast.walk(node)
        ]
    deferred = set(map(id, unbound))
    for node in nodes:
        if id(node) in deferred:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(module, **options):
    """The modules of the package that a module imports."""
    for name in imports(module, **options):
        if name == "ktransfer" or name.startswith("ktransfer."):
            name = name.removeprefix("ktransfer").removeprefix(".")
            # `from ktransfer.image.decoding import Resize` names what is in a module, or a module.
            yield next((n for n in (name, name.rpartition(".")[0]) if n in MODULES), "__init__")


def goes_up(module, other):
    one, other = (name.partition(".")[0] for name in (module, other))
    return {one, other} == {"image", "text"} or ORDER.index(other) < ORDER.index(one)


def test_a_module_imports_from_its_package_and_those_below():
    homeless = {module for module in MODULES if module.partition(".")[0] not in ORDER}
    assert not homeless, "give their packages a place in ORDER"
    up = {module: {other for other in ours(module) if goes_up(module, other)} for module in MODULES}
    assert {module: others for module, others in up.items() if others} == EXCEPTIONS


MODALITIES = ("image", "text")
# What tells one modality from another: names, and the values of attributes of `Modality`, `Examples` and manifests.
TELLING = {
    *("image", "images", "image-classification", "text", "texts", "text-classification", "file"),
    *("skip_corrupt", "text_column", "tokenizer"),
}
TELLING_NAMES = {"IMAGES", "TEXTS", "of_images", "of_texts", "is_image", "is_text"}
TELLING_CLASSES = {"Preprocessing", "TextPreprocessing", "Augmentation", "TextAugmentation"}
# How many there are: one, which asks whether a model takes a dictionary, of whatever modality; other modules call it.
KNOWN_BRANCHES = {"models.inputs": 1}


def branches_on_the_modality(code):
    """The places in the source of a module that choose between images and texts themselves."""

    def telling(node):
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            return any(map(telling, node.elts))
        if isinstance(node, ast.Constant):
            return node.value in TELLING
        return (node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")) in TELLING_NAMES

    for node in ast.walk(ast.parse(code)):
        found = False
        if isinstance(node, ast.Compare):
            found = any(map(telling, [node.left, *node.comparators]))
        elif isinstance(node, ast.If | ast.IfExp | ast.While):
            found = telling(node.test)
        elif isinstance(node, ast.match_case):
            found = any(map(telling, ast.walk(node.pattern)))
        elif isinstance(node, ast.Dict):
            keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
            found = {"images", "texts"} <= keys or {"image", "text"} <= keys
        elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "isinstance":
            given, kinds = map(ast.unparse, node.args)
            found = bool(TELLING_CLASSES & set(re.findall(r"\w+", kinds)))
            found |= kinds == "dict" and re.fullmatch(r"(.*\.)?inputs?", given) is not None
        if found:
            yield ast.unparse(node).partition("\n")[0]


def test_nothing_but_the_modality_chooses_between_images_and_texts():
    others = [each for each in MODULES if not within(each, *MODALITIES, "core.modality", "data.modality")]
    assert len(others) > 100
    found = {module: list(branches_on_the_modality(source(module))) for module in others}
    counts = {module: len(branches) for module, branches in found.items() if branches}
    assert counts == KNOWN_BRANCHES, {module: branches for module, branches in found.items() if branches}


@pytest.mark.parametrize(
    "code",
    [
        "explain = one if run.task == TEXTS else other",
        "if splits.train.kind == 'text': pass",
        "if kind in ('images', 'audio'): pass",
        "rate = 1 if of_images else 2",
        "ids = model.input if isinstance(model.input, dict) else {}",
        "if 'skip_corrupt' in facts: pass",
        "if isinstance(recipe.augmentation, Augmentation | TextAugmentation): pass",
        "make = {'images': image_recipe, 'texts': text_recipe}[noun]",
    ],
)
def test_a_branch_on_the_modality_is_found(code):
    assert len(list(branches_on_the_modality(code))) == 1


def test_a_call_of_the_modality_is_no_branch():
    code = "splits = run.modality.read(data, text_column=text_column); noun = 'texts'; kind == 'bytes'"
    assert not list(branches_on_the_modality(code))


def test_nothing_imports_a_modality_but_itself():
    """Others ask `core.modality`, which finds them by name."""
    others = [module for module in MODULES if not within(module, *MODALITIES)]
    assert [(one, other) for one in others for other in ours(one) if within(other, *MODALITIES)] == []


def test_every_exception_is_that_of_a_module():
    assert EXCEPTIONS.keys() - MODULES.keys() == set()


def test_the_root_holds_the_public_names_and_the_errors_only():
    assert {path.name for path in PACKAGE.glob("*.py")} <= {"__init__.py", "__main__.py", "errors.py"}


def test_no_module_imports_itself_by_a_detour():
    reached = {}

    def walk(module, trail):
        assert module not in trail, " -> ".join([*trail, module])
        if module not in reached:
            reached[module] = True
            for other in set(ours(module, at_start=True)) - {module.rpartition(".")[0]}:
                walk(other, [*trail, module])

    for module in MODULES:
        walk(module, [])


def test_tensorflow_is_imported_where_it_may_be_and_nowhere_else():
    others = [module for module in MODULES if not within(module, *MAY_IMPORT_TENSORFLOW)]
    of_tensorflow = ("tensorflow", "tensorflow_datasets")
    assert [
        (one, name) for one in others for name in imports(one) if name.split(".")[0] in of_tensorflow
    ] == []


def test_what_is_light_imports_no_framework():
    light = [module for module in MODULES if within(module, *LIGHT) and module not in NOT_LIGHT]
    found = [(module, name) for module in light for name in imports(module, at_start=True)]
    assert [(module, name) for module, name in found if name.split(".")[0] in HEAVY[:4]] == []


def test_only_public_names_of_keras_are_used():
    private, found = ("keras.src", "keras_hub.src"), []
    for module in MODULES:
        attributes = (node for node in ast.walk(tree(module)) if isinstance(node, ast.Attribute))
        # Only a name that begins so is unparsed, which is what takes time.
        dotted = {ast.unparse(node) for node in attributes if _root(node) in ("keras", "keras_hub")}
        found += [(module, name) for name in {*imports(module), *dotted} if name.startswith(private)]
    assert found == []


def _root(attribute):
    """The name that a chain of attributes begins with; none where it begins with a call."""
    while isinstance(attribute, ast.Attribute):
        attribute = attribute.value
    return getattr(attribute, "id", None)


def test_a_module_says_what_it_holds():
    assert [module for module in MODULES if not ast.get_docstring(tree(module))] == []


def test_the_package_its_recipes_and_its_command_line_load_nothing_heavy():
    script = (
        "import json, sys, ktransfer, ktransfer.recipes.recipe, ktransfer.cli, ktransfer.errors; dir(ktransfer); "
        f"print(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_reading_and_checking_data_loads_no_framework():
    script = (
        "import json, sys, ktransfer.image.sources, ktransfer.image.checks; "
        f"print(json.dumps([name for name in {HEAVY[:4]} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_every_public_name_is_found_at_its_home_and_explained():
    for name in ktransfer.__all__:
        value = getattr(ktransfer, name)
        assert value.__module__ == ktransfer._HOMES[name], name
        assert value.__name__ == name
        assert value.__doc__, name
        assert not value.__doc__.startswith(f"{name}("), "the docstring that dataclasses make up says nothing"


def test_the_stub_for_type_checkers_names_the_same_things_at_the_same_homes():
    tree = ast.parse((PACKAGE / "__init__.pyi").read_text(encoding="utf-8"))
    stub = {
        alias.asname: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.name == alias.asname  # `import X as X` is how a stub exports a name
    }
    assert stub == ktransfer._HOMES


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'train_model'"):
        ktransfer.train_model  # noqa: B018
    assert dir(ktransfer) == sorted(ktransfer._HOMES)


def test_the_command_line_offers_the_formats_that_there_are():
    options, exporters = (
        importlib.import_module(f"ktransfer.{name}") for name in ("cli.options", "exporting.export_model")
    )
    assert options.FORMATS == exporters.FORMATS


@pytest.mark.parametrize("package", sorted({module.partition(".")[0] for module in MODULES}))
def test_text_files_are_read_and_written_in_a_named_encoding(package):
    """The default is the locale's, which may be cp1252 or ASCII."""
    nodes = [node for module in MODULES if within(module, package) for node in ast.walk(tree(module))]
    for call in (node for node in nodes if isinstance(node, ast.Call)):
        name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
        options = {option.arg: option.value for option in call.keywords}
        if name in ("read_text", "write_text") and isinstance(call.func, ast.Attribute):
            assert "encoding" in options or len(call.args) > 1, ast.unparse(call)
        elif name == "open" and isinstance(call.func, ast.Name):
            mode = call.args[1].value if len(call.args) > 1 else getattr(options.get("mode"), "value", "r")
            assert "b" in mode or "encoding" in options, ast.unparse(call)
        elif name in ("run", "Popen", "check_output"):
            assert "text" not in options or "encoding" in options, ast.unparse(call)


PRIVATE_NAMES_OF_OTHERS = {
    ("models.blocks", "_flatten_layers"),
    ("training.layerwise_optimizer", "_untrack_variable"),
}


def test_private_names_of_keras_in_strings_are_in_one_module():
    """Those that `layerwise_optimizer` names at its top, with the reason."""
    pattern = re.compile(
        r"""["'](_backend_\w+|_apply_weight_decay|_update_model\w+|_model_var\w+|_trainable_var\w+)["']"""
    )
    found = {name for name in MODULES if pattern.search(source(name))}
    assert found == {"training.layerwise_optimizer"}


def test_private_names_of_other_libraries_are_used_in_two_places_only():
    """An attribute with an underscore, on anything but `self`, that ktransfer does not define itself."""
    used, defined = set(), set()
    for name in MODULES:
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                defined.add(node.name)
            if (
                isinstance(node, ast.Attribute)
                and node.attr.startswith("_")
                and not node.attr.startswith("__")
            ):
                owner = node.value.id if isinstance(node.value, ast.Name) else ""
                if owner in ("self", "cls"):
                    defined.add(node.attr)
                else:
                    used.add((name, node.attr))
    assert {(module, name) for module, name in used if name not in defined} == PRIVATE_NAMES_OF_OTHERS
