import numpy as np
import pytest

from ktransfer.errors import ExportError
from ktransfer.exporting.export_model import Parity
from ktransfer.exporting.parity import measure_parity
from ktransfer.image.serving import Images
from ktransfer.tasks.single_label import TASK

PIXELS = np.random.default_rng(0).uniform(0, 255, (11, 4, 4, 3)).astype("float32")
IMAGES = Images(PIXELS)


def logits(inputs):
    return inputs["image"].mean((1, 2)) / 64


def exact(inputs):
    return TASK.probabilities(logits(inputs))


def always(*row):
    return lambda inputs: np.array([row] * len(inputs["image"]))


def test_an_artifact_that_answers_as_the_model_passes():
    parity = measure_parity(exact, logits, IMAGES)
    assert (parity.max_abs_delta, parity.max_logit_delta, parity.label_agreement) == (0.0, 0.0, 1.0)
    assert parity.examples == 11
    parity.check("onnx", 1e-9)


def test_the_differences_are_those_worked_out_by_hand():
    parity = measure_parity(always(0.6, 0.4), always(0.0, 0.0), IMAGES)
    assert parity.max_abs_delta == pytest.approx(0.1)
    assert parity.mean_abs_delta == pytest.approx(0.1)
    assert parity.max_logit_delta == pytest.approx(np.log(0.5 / 0.4))
    assert parity.logit_scale == 0.0
    parity = measure_parity(always(0.9, 0.1), always(-3.0, 2.0), IMAGES)
    assert (parity.logit_scale, parity.label_agreement) == (3.0, 0.0)


def test_a_difference_past_the_tolerance_names_the_format_and_both_numbers():
    parity = measure_parity(always(0.6, 0.4), always(0.0, 0.0), IMAGES)
    with pytest.raises(
        ExportError, match=r"tflite .* probabilities within 5\.0e-02.*differ by 1\.0e-01 on 11"
    ):
        parity.check("tflite", 0.05)
    parity.check("tflite", 0.3)


def test_an_error_that_a_saturated_softmax_hides_is_found_in_the_logits():
    parity = measure_parity(
        lambda inputs: TASK.probabilities(always(0.0, 45.0)(inputs)), always(0.0, 40.0), IMAGES
    )
    assert parity.max_abs_delta < 1e-15
    assert parity.max_logit_delta == pytest.approx(5.0)
    with pytest.raises(ExportError, match="logits"):
        parity.check("onnx", 1e-4)


def test_the_limit_on_logits_grows_with_the_logits():
    parity = measure_parity(
        lambda inputs: TASK.probabilities(always(0.0, 20.001)(inputs)), always(0.0, 20.0), IMAGES
    )
    assert parity.max_logit_delta == pytest.approx(1e-3)
    parity.check("onnx", 1e-4)


def test_an_answer_that_is_not_a_number_fails():
    parity = measure_parity(always(np.nan, 0.5), always(0.0, 0.0), IMAGES)
    with pytest.raises(ExportError, match="nan"):
        parity.check("tflite", 1e9)


@pytest.mark.parametrize(
    ("count", "fixed", "expected"),
    [(11, {}, {1, 8}), (3, {}, {1, 3}), (1, {}, {1, 2}), (11, {"batch": 1}, {1}), (3, {"batch": 4}, {4})],
)
def test_an_artifact_is_run_at_the_batch_sizes_it_says(count, fixed, expected):
    seen = set()

    def artifact(inputs):
        seen.add(len(inputs["image"]))
        return exact(inputs)

    parity = measure_parity(artifact, logits, Images(PIXELS[:count]), fixed=fixed)
    assert seen == set(parity.batch_sizes) == expected


def test_a_wrong_answer_at_batch_1_only_is_seen():
    parity = measure_parity(lambda inputs: exact(inputs) + 0.1 * (len(inputs["image"]) == 1), logits, IMAGES)
    assert parity.max_abs_delta == pytest.approx(0.1)


def test_the_control_says_how_much_a_wrong_input_would_have_shown():
    parity = measure_parity(exact, logits, IMAGES)
    swapped, right = {"image": PIXELS[:8, ..., ::-1]}, {"image": PIXELS[:8]}
    expected = np.abs(exact(swapped) - exact(right)).max()
    assert parity.wrong_input_delta == parity.wrong_input_delta_of_model == pytest.approx(expected)
    assert parity.wrong_input_delta > 1e-3


def test_an_artifact_that_ignores_its_input_fails_even_on_one_image():
    one = PIXELS[:1]
    parity = measure_parity(always(*exact({"image": one})[0]), logits, Images(one))
    assert parity.max_abs_delta == pytest.approx(0)
    with pytest.raises(ExportError, match="look at its input"):
        parity.check("tflite", 1e-4)


def test_a_model_that_itself_ignores_its_input_passes():
    measure_parity(always(0.5, 0.5), always(0.0, 0.0), IMAGES).check("onnx", 1e-4)


def test_a_model_of_infinite_logits_is_no_reference():
    with pytest.raises(ExportError, match="finite logits"):
        measure_parity(exact, always(np.inf, 0.0, 0.0), IMAGES)


def test_answers_of_another_shape_fail():
    with pytest.raises(ExportError, match=r"shape \(11, 3\).*\(11, 2\)"):
        measure_parity(always(0.5, 0.5), logits, IMAGES)


def test_what_the_runtime_says_stands_in_the_error():
    def broken(inputs):
        raise RuntimeError("reshape.cc: num_input_elements")

    with pytest.raises(ExportError, match=r"batch sizes \(1, 8\).*reshape\.cc"):
        measure_parity(broken, logits, IMAGES)


def test_a_measurement_survives_json():
    parity = measure_parity(exact, logits, IMAGES)
    values = parity.to_dict()
    assert isinstance(values["batch_sizes"], list)
    assert Parity.from_dict(values) == parity


# Labels and accuracy, by which quantized artifacts are judged.


def judged(agreement, *, examples=130, accuracy=None, accuracy_of_model=None, wrong=0.5, delta=0.2):
    return Parity(
        delta, 0.01, 0.5, 3.0, agreement, examples, (1, 8), wrong, 0.5, (), accuracy, accuracy_of_model
    )


def test_the_labels_of_an_example_agree_if_they_do_at_both_batch_sizes():
    def artifact(inputs):
        right = exact(inputs)
        return (
            right[:, ::-1] if len(right) == 1 and inputs["image"][0, 0, 0, 0] == PIXELS[3, 0, 0, 0] else right
        )

    assert measure_parity(artifact, logits, IMAGES).label_agreement == pytest.approx(10 / 11)


def test_accuracy_is_the_share_of_right_labels_where_they_are_known():
    parity = measure_parity(always(0.9, 0.1), always(0.0, 1.0), IMAGES, labels=np.array([0] * 4 + [1] * 7))
    assert (parity.accuracy, parity.accuracy_of_model) == (pytest.approx(4 / 11), pytest.approx(7 / 11))
    assert measure_parity(exact, logits, IMAGES).accuracy is None


@pytest.mark.parametrize(
    ("differing", "examples", "limit", "allowed"),
    [
        (2, 130, 0.98, True),  # 2.6
        (3, 130, 0.98, False),
        (2, 100, 0.98, True),  # in binary 1.9999999999999998
        (1, 100, 0.995, True),  # one always
        (2, 100, 0.995, False),
        (1, 10, 0.98, True),
        (1, 9, 0.98, False),  # but not of few
    ],
)
def test_a_limit_on_agreement_is_counted_in_whole_examples(differing, examples, limit, allowed):
    parity = judged(1 - differing / examples, examples=examples)
    if allowed:
        parity.check_labels("onnx-int8", agreement=limit)
    else:
        with pytest.raises(ExportError, match=rf"onnx-int8 .* same label for {limit:.1%}.* of {examples}\."):
            parity.check_labels("onnx-int8", agreement=limit)


def test_a_drop_in_accuracy_past_the_limit_names_both_accuracies():
    limits = {"agreement": 0.5, "accuracy_drop": 0.01}
    judged(0.9, examples=200, accuracy=0.89, accuracy_of_model=0.9).check_labels("tflite-int8", **limits)
    parity = judged(0.9, examples=200, accuracy=0.885, accuracy_of_model=0.9)
    with pytest.raises(
        ExportError, match=r"1 points lower.*accuracy 88\.5% where the model's is 90\.0% on 200"
    ):
        parity.check_labels("tflite-int8", **limits)
    parity.check_labels("tflite-int8", agreement=0.5)
    judged(0.9).check_labels("tflite-int8", **limits)  # labels are not known


def test_a_quantized_artifact_that_ignores_its_input_or_gives_no_numbers_fails_whatever_the_limits():
    with pytest.raises(ExportError, match="look at its input"):
        judged(1.0, wrong=0.001).check_labels("onnx-int8", agreement=0)
    with pytest.raises(ExportError, match="got NaN"):
        judged(1.0, delta=float("nan")).check_labels("onnx-int8", agreement=0)


@pytest.mark.parametrize(("fixed", "rows"), [({}, [8, 8, 8, 8]), ({"batch": 1}, [8, 3, 8, 8])])
def test_the_model_is_asked_for_images_one_by_one_in_batches(fixed, rows):
    asked = []

    def model(inputs):
        asked.append(len(inputs["image"]))
        return logits(inputs)

    assert measure_parity(exact, model, IMAGES, fixed=fixed).label_agreement == 1.0
    assert asked == rows
