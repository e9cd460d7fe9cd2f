import shutil
import threading

import numpy as np
import pytest
from images import class_folders, draw
from PIL import Image

from ktransfer.audit.audit_splits import audit_splits
from ktransfer.audit.findings import KINDS, Audit, Finding, Item, list_items
from ktransfer.data.examples import Examples, Splits
from ktransfer.image.sources import read_data


def audited(root, **options):
    return audit_splits(read_data(root), root=root, **options)


def keys(findings):
    return [[item.key for item in finding.items] for finding in findings]


@pytest.fixture
def parts(tmp_path):
    """Two classes of ten images in train and of two in val, all different."""
    class_folders(tmp_path / "train", {"a": 10, "b": 10})
    for number, name in enumerate(("a/0.png", "a/1.png", "b/0.png", "b/1.png")):
        draw(tmp_path / "val" / name, seed=9000 + number)
    return tmp_path


def test_different_images_have_nothing_wrong_with_them(parts):
    found = audited(parts)
    assert found.findings == ()
    assert not found.is_severe
    assert found.counts == {"train": {"a": 10, "b": 10}, "validation": {"a": 2, "b": 2}}


def test_the_same_file_in_two_parts_is_a_leak_and_severe(parts):
    shutil.copyfile(parts / "train/a/003.png", parts / "val/a/other.png")
    found = audited(parts)
    assert [finding.kind for finding in found.findings] == ["leak"]
    assert keys(found.findings) == [["train/a/003.png", "val/a/other.png"]]
    assert found.findings[0].detail == "the same in train and validation"
    assert found.is_severe


def test_the_same_file_twice_in_one_part_is_a_duplicate_and_not_severe(parts):
    shutil.copyfile(parts / "train/a/003.png", parts / "train/a/other.png")
    found = audited(parts)
    assert [finding.kind for finding in found.findings] == ["duplicate"]
    assert not found.is_severe


def test_the_same_file_in_two_classes_contradicts_itself(parts):
    shutil.copyfile(parts / "train/a/003.png", parts / "train/b/other.png")
    (finding,) = audited(parts).of("contradiction")
    assert finding.detail == "the same, and labelled a, b"
    assert keys([finding]) == [["train/a/003.png", "train/b/other.png"]]


@pytest.mark.parametrize("change", ["quality", "half"])
def test_an_image_encoded_anew_in_another_part_is_a_near_leak(parts, change):
    picture = draw(parts / "train/a/large.jpg", seed=105, size=(240, 180), quality=95)
    with Image.open(picture) as image:
        image = image.resize((120, 90)) if change == "half" else image
        image.save(parts / "val/a/again.jpg", quality=40)
    found = audited(parts)
    assert [finding.kind for finding in found.findings] == ["near_leak"]
    assert keys(found.findings) == [["train/a/large.jpg", "val/a/again.jpg"]]
    assert not audited(parts, near=False).findings


def test_the_same_shapes_in_another_colour_are_another_picture(tmp_path):
    class_folders(tmp_path, {"a": 10, "b": 10})
    for name, channel in (("a", 0), ("b", 2)):
        colour = np.zeros((128, 128, 3), np.uint8)
        colour[20:90, 30:70, channel] = 255
        Image.fromarray(colour).save(tmp_path / name / "shape.png")
    # The perceptual hash alone takes them for one.
    assert audited(tmp_path).findings == ()


def test_broken_and_empty_files_are_unreadable_with_the_reason(parts):
    (parts / "train/a/003.png").write_bytes(b"")
    (parts / "train/b/003.png").write_bytes(b"<html>404</html>")
    found = audited(parts)
    unreadable = found.of("unreadable")
    assert [finding.detail for finding in unreadable] == ["empty file", "not an image: it starts with text"]
    assert found.is_severe
    assert not found.of("duplicate", "leak")


def test_two_empty_files_are_no_duplicates(parts):
    (parts / "train/a/003.png").write_bytes(b"")
    (parts / "val/a/0.png").write_bytes(b"")
    assert {finding.kind for finding in audited(parts).findings} == {"unreadable"}


def test_pictures_of_one_colour_are_named_and_not_taken_for_each_other(parts):
    Image.new("RGB", (100, 100), "white").save(parts / "train/a/white.png")
    Image.new("RGB", (90, 90), "grey").save(parts / "val/a/grey.png")
    found = audited(parts)
    assert keys(found.of("constant")) == [["train/a/white.png"], ["val/a/grey.png"]]
    assert not found.of("near_leak")


def test_odd_modes_sizes_and_turns_are_notes(parts):
    folder = parts / "train/a"
    with Image.open(draw(folder / "x.png", seed=101)) as image:
        image.load()
    (folder / "x.png").unlink()
    image.convert("CMYK").save(folder / "cmyk.jpg")
    clear = draw(folder / "clear.png", seed=102)
    with Image.open(clear) as opaque:
        rgba = opaque.convert("RGBA")
    rgba.putalpha(Image.linear_gradient("L").resize(rgba.size))
    rgba.save(clear)
    Image.fromarray(np.arange(24 * 16, dtype=np.uint16).reshape(16, 24) * 150).save(folder / "deep.png")
    first, second = Image.linear_gradient("L").resize((24, 16)), Image.radial_gradient("L").resize((24, 16))
    first.save(folder / "moving.gif", save_all=True, append_images=[second])
    exif = Image.Exif()
    exif[0x0112] = 6
    draw(folder / "turned.jpg", seed=103, exif=exif)
    draw(folder / "long.png", seed=104, size=(200, 16))
    draw(folder / "tiny.png", seed=106, size=(4, 3))
    found = audited(parts)
    named = {finding.kind: keys([finding])[0] for finding in found.findings if finding.kind != "odd_size"}
    assert named == {
        "rotated": ["train/a/turned.jpg"],
        "cmyk": ["train/a/cmyk.jpg"],
        "transparent": ["train/a/clear.png"],
        "sixteen_bit": ["train/a/deep.png"],
        "animated": ["train/a/moving.gif"],
    }
    assert keys(found.of("odd_size")) == [["train/a/long.png"], ["train/a/tiny.png"]]
    assert found.of("odd_size")[1].detail == "4 x 3 pixels"
    assert {finding.severity for finding in found.findings} == {"note"}


def test_uneven_and_small_classes_and_those_missing_from_a_part_are_said(tmp_path):
    class_folders(tmp_path / "train", {"a": 27, "b": 9})
    draw(tmp_path / "val/a/0.png", seed=7000)
    found = audited(tmp_path)
    assert [finding.detail for finding in found.of("few_examples")] == [
        "train: only 9 of b",
        "validation: none of b",
    ]
    assert [finding.detail for finding in found.of("imbalance")] == ["train: 27 of a and 9 of b"]


def test_progress_counts_every_image_on_the_callers_thread(parts):
    calls = []
    audited(parts, workers=2, progress=lambda *args: calls.append((*args, threading.current_thread())))
    assert calls == [(done, 24, threading.main_thread()) for done in range(1, 25)]


def texts(train, validation=None):
    def part(pairs):
        return Examples([text for text, _ in pairs], [label for _, label in pairs], ("ham", "spam"), "text")

    return Splits(part(train), validation and part(validation))


LONG = "Claim your prize now, call 0800 1234 before midnight tonight and win"


def test_texts_that_differ_in_case_and_space_leak_and_contradict():
    splits = texts([("Win a  PRIZE", 1), ("See you at six", 0)], [("win a prize", 0), ("Good night", 0)])
    found = audit_splits(splits, near=False)
    assert [finding.kind for finding in found.findings if finding.items] == ["leak", "contradiction"]
    assert [item.input for item in found.of("leak")[0].items] == ["Win a  PRIZE", "win a prize"]


def test_texts_that_differ_in_a_letter_are_near_leaks():
    pytest.importorskip("datasketch")
    found = audit_splits(texts([(LONG, 1), ("See you at six", 0)], [(LONG + "!", 1), ("Good night", 0)]))
    assert [finding.kind for finding in found.findings if finding.items] == ["near_leak"]


def test_the_key_of_a_text_stays_when_a_part_is_held_out_and_tells_copies_apart():
    whole = texts([(f"number {n}", n % 2) for n in range(10)] + [("number 3", 1)])
    before = {item.key: item.input for item in list_items(whole)}
    after = list_items(Splits(*whole.train.split(0.3, seed=1)))
    assert len(before) == 11
    assert before == {item.key: item.input for item in after}


def test_an_audit_as_json_names_part_class_and_path_of_every_item():
    item = Item("train", "a", "data/a/x\udcff.png", "a/x\udcff.png")
    found = Audit("file", {"train": {"a": 1}}, (Finding("leak", (item,), "d", 0.5),))
    assert found.to_dict() == {
        "severe": True,
        "examples": {"train": {"a": 1}},
        "summary": {"leak": 1},
        "findings": [
            {
                "kind": "leak",
                "severity": "error",
                "detail": "d",
                "score": 0.5,
                "items": [
                    {"split": "train", "class": "a", "path": "data/a/x\ufffd.png", "key": "a/x\ufffd.png"}
                ],
            }
        ],
    }


def test_findings_come_in_the_order_of_their_kinds_and_the_worst_first():
    some = [Finding("outlier", (), "1"), Finding("leak", (), "2"), Finding("outlier", (), "3")]
    found = Audit("file", {}, ()).with_findings(some).findings
    assert [finding.detail for finding in found] == ["2", "1", "3"]
    assert [severity for severity, _ in KINDS.values()] == sorted(
        (severity for severity, _ in KINDS.values()), key=("error", "warning", "note").index
    )
