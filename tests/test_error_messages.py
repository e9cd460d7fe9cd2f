"""Messages of errors: bounded however many names there are, with the closest name to a mistyped one."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ktransfer.data.examples import Examples, Splits
from ktransfer.data.tables.table import read_input_column
from ktransfer.errors import DataError, KTransferError, bounded, did_you_mean, listed
from ktransfer.image.augmentation import Augmentation
from ktransfer.image.checks import require_readable
from ktransfer.image.sources import load_splits
from ktransfer.models.freezing import resolve_depth
from ktransfer.models.locate import locate
from ktransfer.recipes.recipe import Recipe
from ktransfer.text.augmentation import TextAugmentation
from ktransfer.text.sources import load_text_splits

MANY = [f"class number {number:04}" for number in range(1000)]
LONGEST = 1600  # characters


def images(folder, names):
    for name in names:
        (folder / name).mkdir(parents=True)
        Image.new("RGB", (2, 2)).save(folder / name / "a.png")
    return folder


def unknown_class(folder):
    train = images(folder / "train", MANY)
    load_splits(train, validation=images(folder / "val", ["class numbr 0007"]))


def unknown_label(folder):
    lines = [f"some words of {name},{name}" for name in MANY]
    (folder / "train.csv").write_text("\n".join(["text,label", *lines, *lines]), encoding="utf-8")
    (folder / "val.csv").write_text("text,label\nother words,class numbr 0007\n", encoding="utf-8")
    load_text_splits(folder / "train.csv", validation=folder / "val.csv")


def unknown_column(folder):
    (folder / "a.jsonl").write_text(json.dumps(dict.fromkeys(MANY, "words")), encoding="utf-8")
    read_input_column(folder / "a.jsonl", input_column="class numbr 0007")


def other_classes(folder):
    one, other = (Examples(("a",), [0], [*MANY, name], kind="text") for name in ("x", "y"))
    Splits(one, other)


def unreadable_images(folder):
    (folder / "a.png").write_bytes(b"no image")
    paths = [shutil.copy(folder / "a.png", folder / f"{'long' * 30} {number}.png") for number in range(200)]
    require_readable(Examples(paths, np.zeros(200), ["a", "b"]))


def unknown_block(folder):
    resolve_depth("class numbr 0007", [SimpleNamespace(name=name) for name in MANY])


def unknown_layer(folder):
    import keras

    inputs = keras.Input((1,))
    named = [keras.layers.Identity(name=name) for name in MANY]
    locate(keras.Model(inputs, [layer(inputs) for layer in named]), "class numbr 0007")


# The name that is suggested, where one was mistyped.
RAISES = {
    "a class among 1,000": (unknown_class, "class number 0007"),
    "a label among 1,000": (unknown_label, "class number 0007"),
    "a column among 1,000": (unknown_column, "class number 0007"),
    "a block among 1,000": (unknown_block, "class number 0007"),
    "a layer among 1,000": (unknown_layer, "class number 0007"),
    "two parts of 1,000 classes": (other_classes, None),
    "unreadable images": (unreadable_images, None),
    "unknown keys of a recipe": (lambda _: Recipe.from_dict(dict.fromkeys(["lss", *MANY])), None),
    "a key of a recipe": (lambda _: Recipe.from_dict({"stages": [], "batchsize": 1}), "batch_size"),
    "a key of an augmentation": (lambda _: Augmentation.from_dict({"rotate": 1, "satuation": 1}), None),
    "a mistyped key": (lambda _: Augmentation.from_dict({"satuation": 1}), "saturation"),
    "a mistyped key of texts": (lambda _: TextAugmentation.from_dict({"typo": 1}), "typos"),
    "an error of another library": (lambda _: raise_(DataError(f"got {'x' * 10_000}. Fix it.")), None),
}


def raise_(error):
    raise error


@pytest.mark.parametrize("what", RAISES)
def test_a_message_is_bounded_and_suggests_the_closest_name(tmp_path, what):
    call, suggested = RAISES[what]
    with pytest.raises(KTransferError) as raised:
        call(tmp_path)
    text = str(raised.value)
    assert len(text) < LONGEST
    assert suggested is None or f"Did you mean {suggested}" in text
    if "1,000" in what:
        assert "more)" in text


def test_what_is_left_out_of_a_message_is_counted_and_its_end_stays():
    text = bounded("Expected one. " + "x" * 20_000 + " Choose another.")
    assert len(text) < LONGEST
    assert text.startswith("Expected one. ")
    assert text.endswith(" Choose another.")
    assert "(18,530 characters left out)" in text
    assert bounded("short") == "short"


@pytest.mark.parametrize("count", [0, 1, 2, 20, 1_000, 100_000])
def test_a_list_of_names_is_bounded_and_counts_the_rest(count):
    text = listed(f"name {number}" for number in range(count))
    assert len(text) < 450
    shown = [name for name in text.split(", ") if name.startswith("name")]
    left_out = int(text.rpartition("(")[2].removesuffix(" more)").replace(",", "")) if "(" in text else 0
    assert len(shown) + left_out == count


def test_one_name_is_shown_however_long_it_is():
    assert listed(["x" * 1000]) == "x" * 77 + "..."


@pytest.mark.parametrize(
    ("given", "names", "expected"),
    [
        ("Daisy", ["daisy", "rose"], "Did you mean daisy? "),
        ("tflite_int8", ["tflite-int8"], "Did you mean tflite-int8? "),
        ("rosé", ["daisy", "rose"], "Did you mean rose? "),
        ("玫瑰", ["玫瑰花", "rose"], "Did you mean 玫瑰花? "),
        ("tulip", ["daisy", "rose"], ""),
        ("", ["daisy"], ""),
        ("x" * 100_000, ["daisy"], ""),
        (7, ["7a", "8"], ""),
    ],
)
def test_the_closest_names_are_suggested(given, names, expected):
    assert did_you_mean(given, names) == expected
