import keras
import numpy as np
import pytest
from text_zoo import FAMILIES, write_preset

from ktransfer.data.examples import Examples
from ktransfer.errors import BackboneError
from ktransfer.features.extract import extract_features
from ktransfer.models.predict import predict_in_batches
from ktransfer.recipes.recipe import Recipe, Stage
from ktransfer.text.backbones import load_text_backbone, load_text_preprocessing
from ktransfer.text.classifier import build_text_classifier
from ktransfer.text.dataset import text_dataset
from ktransfer.text.preprocessing import TextPreprocessing
from ktransfer.text.sequence_length import choose_sequence_length
from ktransfer.text.sources import load_text_splits
from ktransfer.training.fine_tune import fine_tune
from ktransfer.training.linear_probe import head_score, solve_head

TEXTS = ["the quick brown fox", "you", "the fox! you the fox! you"]


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    """`(name, backbone, preprocessing, classifier)` of each family."""
    backbone, preset = write_preset(request.param, tmp_path_factory.mktemp(request.param))
    preprocessing = load_text_preprocessing(preset, backbone, sequence_length=16)
    return request.param, backbone, preprocessing, build_text_classifier(backbone, 3, preprocessing)


def pooled_and_tokens(backbone, preprocessing, model):
    ids = preprocessing(TEXTS)
    tokens = backbone(ids, training=False)
    tokens = tokens["sequence_output"] if isinstance(tokens, dict) else tokens
    pooled = keras.Model(model.input, model.get_layer("pooled").output)
    return ids, *(keras.ops.convert_to_numpy(value) for value in (pooled(ids, training=False), tokens))


def test_each_family_is_pooled_as_it_was_trained(family):
    name, backbone, preprocessing, model = family
    ids, pooled, tokens = pooled_and_tokens(backbone, preprocessing, model)
    if name == "GPT2":
        lengths = ids["padding_mask"].sum(axis=1)
        expected = tokens[np.arange(len(TEXTS)), lengths - 1]
    elif "padding_mask" in ids:
        mask = ids["padding_mask"][:, :, None]
        expected = (tokens * mask).sum(axis=1) / mask.sum(axis=1)
    else:
        expected = tokens[:, 0]
    np.testing.assert_allclose(pooled, expected, atol=1e-5)


@pytest.mark.spread(4)
def test_the_answer_to_a_text_does_not_depend_on_its_batch(family):
    _, _, preprocessing, model = family
    together = model.predict_on_batch(preprocessing(TEXTS))
    alone = np.concatenate([model.predict_on_batch(preprocessing([text])) for text in TEXTS])
    np.testing.assert_allclose(alone, together, atol=1e-4)


@pytest.mark.spread(4)
def test_what_is_saved_loads_in_safe_mode_and_answers_alike(family, tmp_path):
    _, _, preprocessing, model = family
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", safe_mode=True, compile=False)
    ids = preprocessing(TEXTS)
    np.testing.assert_allclose(again.predict_on_batch(ids), model.predict_on_batch(ids), atol=1e-5)


def test_a_text_classifier_learns_head_first_and_then_from_the_top(tmp_path):
    backbone, preset = write_preset("Bert", tmp_path)
    preprocessing = load_text_preprocessing(preset, backbone, sequence_length=16)
    model = build_text_classifier(backbone, 2, preprocessing)
    texts = [f"the {word} brown fox" for word in ("quick", "you")] * 12
    examples = Examples(tuple(texts), np.arange(24) % 2, ("a", "b"), kind="text")
    options = {"preprocessing": preprocessing, "batch_size": 5}
    features, labels = extract_features(model, text_dataset(examples, **options))
    assert features.shape == (24, 8)
    solve_head(model, features, labels)
    assert head_score(model, features, labels) == 1
    history = fine_tune(
        model,
        text_dataset(examples, training=True, **options),
        text_dataset(examples, **options),
        Recipe(stages=(Stage(depth=1, epochs=2, learning_rate=1e-4, warmup=1),)),
        verbose=0,
    ).history
    assert history["val_accuracy"][-1] == 1
    answers = predict_in_batches(model, (ids for ids, _ in text_dataset(examples, **options)))
    np.testing.assert_array_equal(np.concatenate(list(answers)).argmax(axis=1), examples.labels)


def test_a_backbone_without_a_vector_for_each_token_is_refused(tmp_path):
    backbone, preset = write_preset("Bert", tmp_path)
    preprocessing = load_text_preprocessing(preset, backbone, sequence_length=16)
    flat = keras.Model(backbone.input, backbone.output["pooled_output"])
    with pytest.raises(BackboneError, match="a vector for each token"):
        build_text_classifier(flat, 2, preprocessing)


def test_a_saved_preprocessing_fits_the_loaded_backbone(tmp_path):
    _, preset = write_preset("Roberta", tmp_path)
    backbone = load_text_backbone(preset)
    load_text_preprocessing(preset, backbone, sequence_length=16).save(tmp_path / "tokenizer")
    preprocessing = TextPreprocessing.load(tmp_path / "tokenizer")
    assert build_text_classifier(backbone, 2, preprocessing).predict_on_batch(preprocessing(["x"])).shape == (
        1,
        2,
    )


@pytest.mark.slow
def test_a_solved_head_on_real_minilm_tells_spam(minilm, sms_spam):
    splits, _ = load_text_splits(sms_spam)
    backbone = load_text_backbone(str(minilm))
    preprocessing = load_text_preprocessing(str(minilm), backbone)
    train, held = splits.train.subset(range(0, 4000, 5)), splits.validation.subset(range(0, 1000, 4))
    length = choose_sequence_length(preprocessing, train.inputs).sequence_length
    preprocessing = preprocessing.with_sequence_length(length)
    model = build_text_classifier(backbone, len(train.class_names), preprocessing)
    options = {"preprocessing": preprocessing, "batch_size": 32}
    solve_head(model, *extract_features(model, text_dataset(train, **options)))
    assert head_score(model, *extract_features(model, text_dataset(held, **options))) > 0.95
