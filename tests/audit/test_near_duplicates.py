import builtins

import numpy as np
import pytest

from ktransfer.audit.near_duplicates import near_images, near_texts, perceptual_hashes
from ktransfer.errors import DataError


def thumbnails(count, seed=0):
    """Smooth random pictures: 4 x 4 colours, each eight pixels wide and high."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)


def test_the_hash_is_that_of_which_low_frequencies_are_above_their_median():
    # A horizontal ramp moves in the first row of the transform only: 0, down, 0, down, ... around the median.
    ramp = np.broadcast_to(np.linspace(250, 0, 32).astype("uint8")[None, :, None], (1, 32, 32, 3))
    bits = np.unpackbits(perceptual_hashes(ramp).view("uint8"))
    # Brightness, and the odd frequencies in their order.
    assert bits[[0, 1, 3]].tolist() == [1, 1, 1]
    assert np.bitwise_count(perceptual_hashes(ramp) ^ perceptual_hashes(ramp // 2))[0] <= 4


def test_slightly_changed_pictures_are_one_group_and_others_are_not():
    pictures = thumbnails(600)
    noise = np.random.default_rng(1).integers(-6, 7, pictures[:2].shape)
    again = np.clip(pictures[:2] + noise, 0, 255).astype("uint8")
    groups = near_images(np.concatenate([pictures, again]), np.full(602, 240))
    assert groups[0] == groups[600] != groups[1]
    assert groups[1] == groups[601]
    assert len(set(groups.tolist())) == 600


def test_small_pictures_have_to_be_more_alike():
    pictures = thumbnails(1)
    noise = np.random.default_rng(1).integers(-20, 21, pictures.shape)
    both = np.concatenate([pictures, np.clip(pictures + noise, 0, 255).astype("uint8")])
    assert len(set(near_images(both, np.array([240, 240])).tolist())) == 1
    assert len(set(near_images(both, np.array([28, 28])).tolist())) == 2


def test_groups_are_joined_by_what_lies_between():
    picture = thumbnails(1)[0].astype(int)
    noise = np.random.default_rng(2).integers(-10, 11, picture.shape)
    chain = np.clip([picture, picture + noise, picture + 2 * noise], 0, 255).astype("uint8")
    assert len(set(near_images(chain, np.full(3, 240)).tolist())) == 1


def test_texts_with_four_of_five_shingles_in_common_are_one_group():
    pytest.importorskip("datasketch")
    first = "you have won a holiday for two in Spain, call now on 0800 1234 to claim it before Sunday"
    given = [
        first,
        "see you at six",
        first.replace("Sunday", "Monday").upper(),
        "See you at seven",
        "ok",
        "no",
    ]
    groups = near_texts(given)
    assert groups[0] == groups[2]
    assert len(set(groups.tolist())) == 5


def test_without_the_extra_the_error_names_it(monkeypatch):
    importing = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "datasketch":
            raise ImportError(name)
        return importing(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(DataError, match=r'pip install "ktransfer\[audit\]"'):
        near_texts(["a", "b"])
