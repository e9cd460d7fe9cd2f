"""Real photographs with faults planted in a copy of them."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ktransfer.audit.audit_splits import audit_splits
from ktransfer.commands.audit import audit
from ktransfer.image.sources import read_data


@pytest.fixture(scope="module")
def planted(tmp_path_factory, flowers):
    """`(folder, {fault: keys})`: the flowers, of which some are spoilt, each in one way only."""
    root = tmp_path_factory.mktemp("planted") / "flowers"
    for part in ("train", "val"):
        shutil.copytree(flowers / part, root / part)
    random = np.random.default_rng(0)
    train = random.permutation(sorted(root.glob("train/*/*.jpg"))).tolist()
    take = iter(train)
    faults = {"leak": set(), "near_leak": set(), "suspect_label": set(), "unreadable": set()}

    def key(path):
        return path.relative_to(root).as_posix()

    for number, path in zip(range(30), take, strict=False):
        copy = root / "val" / path.parent.name / f"copy{number}.jpg"
        shutil.copyfile(path, copy)
        faults["leak"].add(frozenset([key(path), key(copy)]))
    for number, path in zip(range(5), take, strict=False):
        copy = root / "val" / path.parent.name / f"again{number}.jpg"
        with Image.open(path) as image:
            size = [side // (1 + number % 2) for side in image.size]
            image.convert("RGB").resize(size).save(copy, quality=40 + 10 * number)
        faults["near_leak"].add(frozenset([key(path), key(copy)]))
    classes = sorted(folder.name for folder in root.glob("train/*"))
    for path, turn in zip(take, random.integers(1, len(classes), 20).tolist(), strict=False):
        other = classes[(classes.index(path.parent.name) + turn) % len(classes)]
        moved = root / "train" / other / f"moved-{path.name}"
        path.rename(moved)
        faults["suspect_label"].add(key(moved))
    for number, path in zip(range(10), take, strict=False):
        content = path.read_bytes()
        path.write_bytes((b"", content[: len(content) // 2], b"<html>404</html>")[number % 3])
        faults["unreadable"].add(key(path))
    return root, faults


def _digests(root):
    return {path: hashlib.sha256(path.read_bytes()).digest() for path in root.rglob("*") if path.is_file()}


def _keys(finding):
    return frozenset(item.key for item in finding.items)


def test_untouched_photographs_have_no_duplicates(flowers):
    found = audit_splits(read_data(flowers), root=flowers)
    assert not found.of("leak", "near_leak", "duplicate", "near_duplicate", "contradiction", "unreadable")


def test_planted_copies_reencodings_and_broken_files_are_all_found_and_nothing_else(planted):
    root, faults = planted
    found = audit_splits(read_data(root), root=root)
    assert {_keys(finding) for finding in found.of("leak")} == faults["leak"]
    assert {_keys(finding) for finding in found.of("near_leak")} == faults["near_leak"]
    assert {finding.items[0].key for finding in found.of("unreadable")} == faults["unreadable"]
    assert not found.of("duplicate", "near_duplicate", "contradiction")


@pytest.mark.slow
def test_most_wrong_labels_are_among_the_first_suspects_and_no_file_changes(planted, resnet_preset, tmp_path):
    root, faults = planted
    before = _digests(root)
    found = audit(root, backbone=str(resnet_preset), image_size=160, out=tmp_path / "audit", fix=True)
    suspects = [finding.items[0].key for finding in found.of("suspect_label")]
    hits = [len(faults["suspect_label"].intersection(suspects[:most])) for most in (20, 40, len(suspects))]
    print(f"{hits} of 20 wrong labels among the first 20, 40, {len(suspects)} suspects")  # noqa: T201
    assert hits[1] >= 14
    assert _digests(root) == before
    assert Path(tmp_path, "audit", "audit.html").stat().st_size > 100_000
