"""Old names work, warn once at the line that uses them, and name the new one."""

import importlib.util
import json
import subprocess
import sys
import warnings

import pytest

import ktransfer
from ktransfer.utils import deprecation

# Public names and the modules that they had in 0.1.0.
OLD_HOMES = {
    "ktransfer.backbones": ("load_backbone", "list_backbones"),
    "ktransfer.blocks": ("find_blocks",),
    "ktransfer.callbacks": ("ProgressiveUnfreezing",),
    "ktransfer.classifier": ("build_classifier",),
    "ktransfer.data.augmentation": ("Augmentation",),
    "ktransfer.data.pipeline": ("image_dataset",),
    "ktransfer.data.sources": ("load_splits", "read_data"),
    "ktransfer.data.text_augmentation": ("TextAugmentation",),
    "ktransfer.data.text_pipeline": ("text_dataset",),
    "ktransfer.data.text_sources": ("load_text_splits",),
    "ktransfer.default_recipes": ("image_recipe", "text_recipe"),
    "ktransfer.depthwise": ("use_depthwise",),
    "ktransfer.freezing": ("set_depth",),
    "ktransfer.head": ("solve_head", "extract_features"),
    "ktransfer.jobs.benchmark": ("benchmark",),
    "ktransfer.jobs.evaluate": ("evaluate",),
    "ktransfer.jobs.export": ("export",),
    "ktransfer.jobs.report": ("report",),
    "ktransfer.jobs.train": ("train", "resume"),
    "ktransfer.jobs.verify": ("verify",),
    "ktransfer.quantization_aware": ("fine_tune_quantized",),
    "ktransfer.recipe": ("Recipe", "Stage", "progressive_stages"),
    "ktransfer.run": ("Run",),
    "ktransfer.sequence_length": ("choose_sequence_length",),
    "ktransfer.text_backbones": ("load_text_backbone", "load_text_preprocessing"),
    "ktransfer.text_classifier": ("build_text_classifier",),
    "ktransfer.text_preprocessing": ("TextPreprocessing",),
}


@pytest.fixture
def forgotten(monkeypatch):
    """As a process that has used no old name yet."""
    monkeypatch.setattr(deprecation, "_warned", set())
    for name in deprecation.MOVED:
        monkeypatch.delitem(sys.modules, name, raising=False)


def test_the_list_is_that_of_the_old_homes():
    assert deprecation.MOVED.keys() - {"ktransfer.jobs"} == OLD_HOMES.keys()


@pytest.mark.parametrize("old", OLD_HOMES)
def test_an_old_module_warns_once_and_has_its_public_names(old, forgotten):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        names = {}
        for name in OLD_HOMES[old]:
            exec(f"from {old} import {name}", names)
            assert names[name] is getattr(ktransfer, name)
    messages = [str(warning.message) for warning in found if warning.category is DeprecationWarning]
    assert [message for message in messages if message.startswith(f"{old} is deprecated")] == [
        f"{old} is deprecated and goes in 0.4.0. Use {deprecation.MOVED[old][0]}, or for a public name "
        "`from ktransfer import ...`."
    ]


def test_the_new_modules_are_there():
    for homes in deprecation.MOVED.values():
        assert all(importlib.util.find_spec(home) for home in homes)


def test_the_warning_names_the_line_that_imports(tmp_path):
    script = tmp_path / "old.py"
    script.write_text("import ktransfer\n\nfrom ktransfer.recipe import Stage\nimport ktransfer.recipe\n")
    done = subprocess.run([sys.executable, script], capture_output=True, encoding="utf-8", check=True)
    assert f"{script}:3: DeprecationWarning: ktransfer.recipe is deprecated" in done.stderr
    assert done.stderr.count("DeprecationWarning") == 1


def test_a_name_that_an_old_module_never_had_is_an_error(forgotten):
    with pytest.warns(DeprecationWarning, match="ktransfer.recipe is deprecated"):
        import ktransfer.recipe
    with pytest.raises(AttributeError, match=r"'ktransfer\.recipe' has no attribute 'Recept'"):
        ktransfer.recipe.Recept  # noqa: B018
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("ktransfer.recept")


def test_a_renamed_public_name_warns_once_and_works(forgotten, monkeypatch):
    monkeypatch.setitem(deprecation.RENAMED, "Schedule", "Stage")
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        assert ktransfer.Schedule is ktransfer.Stage
        assert ktransfer.Schedule is ktransfer.Stage
    assert [str(warning.message) for warning in found] == [
        "ktransfer.Schedule is deprecated and goes in 0.4.0. Use ktransfer.Stage."
    ]
    assert found[0].filename == __file__


def test_importing_the_package_imports_no_old_or_new_module():
    script = "import json, sys, ktransfer; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True)
    loaded = {name for name in json.loads(done.stdout) if name.startswith("ktransfer")}
    assert loaded == {"ktransfer", "ktransfer.utils", "ktransfer.utils.deprecation", "ktransfer.utils.onednn"}
