"""How a ranking looks on a terminal of 80 columns and on its page."""

from ktransfer.searching.page import rank_page
from ktransfer.searching.ranking import Candidate, Ranking
from ktransfer.utils.terminal import print_ranking

FACTS = {
    "loss_error": 0.056,
    "score": 0.768,
    "score_error": 0.03,
    "logme": -0.253,
    "features": 1280,
    "blocks": 17,
}
COST = {"latency_ms": {"onnx": 7.2, "tflite": 2.3}, "size_bytes": {"onnx": 8_900_000, "tflite": 8_900_000}}


def printed(capsys, monkeypatch, *names):
    monkeypatch.setenv("COLUMNS", "80")
    found = [
        Candidate(
            name, 0.5 + 0.1 * at, **FACTS, parameters=2_300_000, multiply_adds=73e6, h_score=3.7, **COST
        )
        for at, name in enumerate(names)
    ]
    print_ranking(Ranking(tuple(found), {}, 250, 500, "log loss", "accuracy"))
    return capsys.readouterr().out


def test_names_and_numbers_are_whole_on_80_columns(capsys, monkeypatch):
    out = printed(capsys, monkeypatch, "/presets/mobilenet_v2_100_imagenet", "/presets/lite0@0.7")
    assert "…" not in out
    for found in ("mobilenet_v2_100_imagenet", "lite0@0.7", "0.500 ± 0.056", "multiply-adds", "8.5"):
        assert found in out, found
    assert "/presets/lite0" not in out


def test_paths_with_the_same_last_name_stay_apart(capsys, monkeypatch):
    out = printed(capsys, monkeypatch, "/a/preset", "/b/preset")
    assert "/a/preset" in out
    assert "/b/preset" in out


def test_the_page_labels_its_logarithmic_axis_in_plain_numbers():
    found = tuple(
        Candidate(name, 0.5, **FACTS, parameters=1, multiply_adds=each)
        for name, each in (("a", 73e6), ("b", 54e6), ("c", 71e6))
    )
    page = rank_page(Ranking(found, {}, 250, 500, "log loss", "accuracy"), title="flowers")
    assert "mathdefault" not in page
    assert "6e+07" in page
