"""Quantized artifacts of whole runs, as `ktransfer export` makes them."""

from pathlib import Path

import numpy as np
import pytest

from ktransfer.commands.export import export
from ktransfer.commands.train import train
from ktransfer.demo import PRESET_PATH
from ktransfer.demo.drawing import write_target_task
from ktransfer.exporting.runtimes import open_artifact
from ktransfer.recipes.recipe import Recipe

SHARED = Path(__file__).resolve().parents[3] / "shared"


def quiet(line):
    pass


def test_a_run_judges_by_its_validation_examples_and_the_limits_of_its_recipe(tmp_path):
    data = write_target_task(tmp_path / "data", train_per_class=6, validation_per_class=4)
    recipe = Recipe(stages=(), int8_agreement=0.8, int8_accuracy_drop=0.15)
    run = train(data, PRESET_PATH, tmp_path / "run", recipe=recipe, formats=(), verbose=0, say=quiet)
    lines = []
    [artifact] = export(run, ["onnx-int8"], say=lines.append)
    assert artifact.limits == {"agreement": 0.8, "accuracy_drop": 0.15}
    parity = artifact.parity
    assert parity.examples == 24
    assert parity.accuracy_of_model == pytest.approx(run.manifest["metrics"]["validation"])
    assert f"accuracy {parity.accuracy:.1%} (the model's {parity.accuracy_of_model:.1%})" in lines[-1]
    assert [entry["format"] for entry in run.manifest["artifacts"]] == ["onnx-int8"]
    assert run.manifest["artifacts"][0]["parity"]["accuracy"] == parity.accuracy


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "share"), [("resnet50_v2_3stage_imagenet", 0.27), ("mobilenet_v2_100_imagenet", 0.28)]
)
def test_int8_of_a_real_backbone_is_a_quarter_as_large_and_at_most_a_point_worse(name, share, tmp_path):
    preset, flowers = SHARED / "backbones" / name, SHARED / "data" / "flowers"
    if not preset.is_dir() or not flowers.is_dir():
        pytest.skip("the shared data is not here")
    run = train(
        flowers,
        preset,
        tmp_path / "run",
        image_size=160,
        epochs=0,
        formats=(),
        cache=False,
        verbose=0,
        say=quiet,
    )
    exact, small = export(run, ["tflite", "tflite-int8"], say=quiet)
    assert small.size_bytes <= share * exact.size_bytes
    parity = small.parity
    assert parity.examples == 130
    assert parity.label_agreement >= 128 / 130
    assert round(130 * (parity.accuracy_of_model - parity.accuracy)) <= 1
    picture = next((flowers / "val" / "roses").iterdir())
    pixels = run.preprocessing([picture])
    answer = open_artifact("tflite-int8", run.path / small.path).answer({"image": pixels})
    np.testing.assert_allclose(answer, run.predict_probabilities([picture]), atol=0.2)
