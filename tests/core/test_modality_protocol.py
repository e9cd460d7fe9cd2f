"""Images and texts keep to one protocol, and are told apart in one place."""

import inspect
import json
import subprocess
import sys

import pytest

from ktransfer.core.modality import (
    Modality,
    augmentations,
    modalities,
    modality,
    modality_of,
    modality_of_facts,
    modality_of_kind,
    modality_of_noun,
    modality_of_task,
)
from ktransfer.data.examples import Examples

METHODS = [
    name for name, member in vars(Modality).items() if inspect.isfunction(member) and not name.startswith("_")
]
PROPERTIES = [name for name, member in vars(Modality).items() if isinstance(member, property)]


@pytest.mark.parametrize("each", modalities(), ids=lambda each: each.name)
def test_a_modality_has_all_attributes_of_the_protocol(each):
    attributes = [*inspect.get_annotations(Modality), *PROPERTIES]
    assert [name for name in attributes if not hasattr(each, name)] == []
    own = {name for name in dir(each) if not name.startswith("_")}
    assert own == {*METHODS, *attributes}, "what one has the protocol has"


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("each", modalities(), ids=lambda each: each.name)
def test_a_method_takes_what_the_protocol_passes(each, name):
    asked = list(inspect.signature(getattr(Modality, name)).parameters.values())[1:]
    taken = inspect.signature(getattr(each, name))
    positional = [one.name for one in asked if one.kind is one.POSITIONAL_OR_KEYWORD]
    by_name = [one.name for one in asked if one.kind is one.KEYWORD_ONLY]
    taken.bind(*positional, **dict.fromkeys(by_name))
    if any(one.kind is one.VAR_KEYWORD for one in asked):
        assert any(one.kind is one.VAR_KEYWORD for one in taken.parameters.values())


@pytest.mark.parametrize("each", modalities(), ids=lambda each: each.name)
def test_a_modality_is_found_by_each_of_its_marks(each):
    assert modality(each.name) is each
    assert modality_of_task(each.task) is each
    assert modality_of_kind(each.kind) is each
    assert modality_of_noun(each.noun) is each
    assert modality_of_facts(dict.fromkeys(each.facts)) is each
    assert Examples(("a", "b"), [0, 1], ("x", "y"), kind=each.kind).modality is each
    assert augmentations()[modalities().index(each)].none().is_on is False


def test_manifests_of_the_first_runs_name_no_task_and_are_of_images():
    assert modality_of_task(None).name == "image"
    assert modality_of(None).name == "image"


def test_a_mark_that_no_modality_has_is_an_error_that_names_those_there_are():
    with pytest.raises(
        ValueError, match=r"a task out of 'image-classification', 'text-classification', got 'x'"
    ):
        modality_of_task("x")


def test_no_option_belongs_to_two_modalities():
    options = [option for each in modalities() for option in each.options]
    assert len(set(options)) == len(options)


def test_asking_for_a_modality_loads_no_framework_and_no_numpy():
    script = (
        "import json, sys; from ktransfer.core.modality import modalities; "
        "[(each.noun, each.options, each.export_options) for each in modalities()]; "
        "heavy = ('tensorflow', 'keras', 'keras_hub', 'jax', 'numpy', 'PIL'); "
        "print(json.dumps([name for name in heavy if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", check=True)
    assert json.loads(done.stdout) == []
