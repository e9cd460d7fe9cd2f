"""Without a package of an extra, everything that needs it names the extra in one line."""

import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from ktransfer.errors import MissingExtraError
from ktransfer.utils.extras import EXTRAS, missing_extra, need_modules

# Modules that Keras, TensorFlow or what is always installed need themselves.
HIDDEN = sorted(set(EXTRAS) - {"jax", "scipy"})
ALWAYS = {
    *("LearningRateCurve", "ProgressiveUnfreezing", "Stage", "Recipe", "find_blocks", "set_depth"),
    *("find_learning_rate", "progressive_stages", "image_recipe", "text_recipe", "use_depthwise"),
    *("KTransferError", "MissingExtraError", "Examples", "Splits"),
}


def without(modules, script):
    """Run a script in a process that cannot import these modules."""
    hiding = f"""
        import sys
        class Hidden:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {modules!r}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        sys.meta_path.insert(0, Hidden())
    """
    script = textwrap.dedent(hiding) + textwrap.dedent(script)
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


def names(lines):
    return {Requirement(line).name for line in lines}


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))[
        "project"
    ]


@pytest.mark.parametrize("module", EXTRAS)
def test_the_extra_that_is_named_brings_the_package(module, project):
    package, extra = EXTRAS[module]
    assert package in names(project["optional-dependencies"][extra])


def test_no_package_of_an_extra_is_always_installed(project):
    assert not names(project["dependencies"]) & {package for package, _ in EXTRAS.values()}


def test_all_packages_of_training_and_export_are_known(project):
    extras = project["optional-dependencies"]
    known = {package for package, _ in EXTRAS.values()} | {"ktransfer"}
    assert names(extras["train"]) | names(extras["export"]) <= known


def test_each_public_name_loads_or_names_the_extra():
    script = """
        import ktransfer
        for name in ktransfer.__all__:
            try:
                getattr(ktransfer, name)
            except ktransfer.MissingExtraError as error:
                print(name, "-", error)
            else:
                print(name, "loads")
    """
    done = without(HIDDEN, "import os\nos.environ['KERAS_BACKEND'] = 'jax'\n" + textwrap.dedent(script))
    assert done.returncode == 0, done.stderr[-2000:]
    lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert {name for name, found in lines.items() if found == "loads"} >= ALWAYS
    refused = [found for found in lines.values() if found != "loads"]
    assert len(refused) > 10
    assert all('`pip install "ktransfer[' in found for found in refused)


@pytest.mark.spread(2)
@pytest.mark.parametrize(
    ("verb", "extra"),
    [
        (["train", "things", "--backbone", "b", "--out", "run", "--no-export"], "train"),
        (["lr-find", "things", "--backbone", "b"], "train"),
        (["audit", "things"], "train"),
        (["backbones"], "train"),
        (["demo"], "train"),
    ],
)
def test_a_command_names_the_extra_in_one_line_and_exits_2(verb, extra, tmp_path):
    script = f"""
        import os, sys
        os.environ["KERAS_BACKEND"] = "jax"
        os.chdir({str(tmp_path)!r})
        for part in ("things/train/cat", "things/train/dog", "things/val/cat", "things/val/dog"):
            os.makedirs(part)
            for index in range(3):
                open(f"{{part}}/{{index}}.png", "wb").write(b"x")
        sys.argv = ["ktransfer", *{verb!r}]
        from ktransfer.cli import main
        main()
    """
    done = without(HIDDEN, script)
    assert done.returncode == 2, done.stderr[-2000:]
    [line] = [line for line in done.stderr.splitlines() if line.startswith("ktransfer: ")]
    assert f'ktransfer[{extra}]"' in line
    assert "Traceback" not in done.stderr


@pytest.mark.spread(1)
@pytest.mark.parametrize(("format", "module"), [("onnx", "tf2onnx"), ("tflite", "ai_edge_litert")])
def test_a_format_without_its_packages_is_refused_before_anything_is_done(format, module):
    script = f"""
        from ktransfer.exporting.export_model import check_formats
        check_formats(["savedmodel"])
        try:
            check_formats(["savedmodel", {format!r}])
        except Exception as error:
            print(type(error).__name__, error)
    """
    done = without([module], script)
    assert done.stdout.startswith("MissingExtraError Expected the package "), done.stderr[-2000:]
    assert f"for the format {format}" in done.stdout
    assert '`pip install "ktransfer[export]"`' in done.stdout


def test_a_module_of_no_extra_is_another_error():
    assert missing_extra(ModuleNotFoundError("No module named 'colour'", name="colour")) is None
    assert missing_extra(ImportError("cannot import name 'x'", name="onnx")) is None
    with pytest.raises(ModuleNotFoundError, match="colour_of_nothing"):
        need_modules(["colour_of_nothing"], "colours")
    with pytest.raises(MissingExtraError, match=r"ktransfer\[audit\]"):
        raise missing_extra(ModuleNotFoundError("", name="datasketch.hashfunc"))
