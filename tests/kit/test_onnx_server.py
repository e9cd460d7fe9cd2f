"""The ONNX server: what it answers, and how it starts and stops."""

import base64
import json
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import keras
import numpy as np
import pytest
from exporting import (
    CLASSES,
    KIT,
    SIZE,
    between,
    kit_answers,
    multi_label_model,
    pixels,
    small_model,
    write_manifest,
    write_text_manifest,
)
from images import draw
from onnx_server.decision import read_decision
from onnx_server.errors import StartError
from onnx_server.images import sized
from onnx_server.model import Model
from onnx_server.settings import Settings
from onnx_server_runs import (
    COLOURS,
    PATIENCE_S,
    image_run,
    png,
    serving,
    sigmoid,
    softmax,
    text_run,
    wait_for,
)
from PIL import Image
from text_zoo import write_preset

from ktransfer.core.task import get_task
from ktransfer.exporting.export_model import export_model
from ktransfer.image.decoding import Resize, load_image
from ktransfer.image.preprocessing import Preprocessing
from ktransfer.text.backbones import load_text_preprocessing
from ktransfer.text.classifier import build_text_classifier
from ktransfer.text.tokenizer_json import write_tokenizer

RED = softmax(255 / 128, 0, 0)

# Isolated, and with the libraries that the model was made with nowhere to be found.
_ALONE = """
import runpy, sys
sys.modules.update(dict.fromkeys(("keras", "keras_hub", "ktransfer", "tensorflow")))
sys.path.insert(0, sys.argv.pop(1))
runpy.run_module("onnx_server", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    return image_run(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def moods(tmp_path_factory):
    return text_run(tmp_path_factory.mktemp("moods"))


@pytest.fixture(scope="module")
def client(colours):
    with serving(colours) as (client, _):
        yield client


@pytest.fixture(scope="module")
def text_client(moods):
    with serving(moods) as (client, _):
        yield client


def results(response):
    assert response.status_code == 200, response.text
    return response.json()["results"]


def probability(answer, label):
    return next(each["probability"] for each in answer if each["label"] == label)


def test_an_uploaded_image_gets_its_labels_most_probable_first(client):
    (answer,) = results(client.post("/predict?top_k=2", files={"image": png("red")}))
    assert [each["label"] for each in answer] == ["red", "green"]
    assert [each["probability"] for each in answer] == pytest.approx(RED[:2], abs=1e-6)


def test_images_in_base64_are_answered_in_their_order(client):
    images = [base64.b64encode(png(colour)).decode() for colour in ("blue", "red")]
    answers = results(client.post("/predict", json={"image": images}))
    assert [answer[0]["label"] for answer in answers] == ["blue", "red"]
    assert results(client.post("/predict", json={"image": images[0]})) == answers[:1]


def test_several_labels_are_listed_by_themselves_all_of_them(tmp_path):
    black, red = sigmoid(0)[()], sigmoid(255 / 128)[()]  # 0.5 and 0.88, of a colour
    with serving(image_run(tmp_path, thresholds=[0.9, 0.6, 0.4])) as (client, _):
        given = client.post("/predict?top_k=1", files=[("image", png("red")), ("image", png("lime"))])
    chosen = {"label": "blue", "probability": pytest.approx(black)}
    assert results(given)[0] == [{**chosen, "chosen": True}]  # red, more probable, is below its threshold
    green = {"label": "green", "probability": pytest.approx(red)}
    assert results(given)[1] == [{**green, "chosen": True}, {**chosen, "chosen": True}]
    assert given.json()["labels"] == [[chosen], [green, chosen]]


def test_no_label_is_an_empty_list_next_to_the_nearest(tmp_path):
    with serving(text_run(tmp_path, thresholds=[0.95, 0.8])) as (client, _):
        given = client.post("/predict?top_k=1", json={"text": ["good", "bad bad good good"]}).json()
    assert given["labels"] == [[], [{"label": "good", "probability": pytest.approx(sigmoid(2)[()])}]]
    [[nearest], [chosen]] = given["results"]
    assert nearest == {"label": "good", "probability": pytest.approx(sigmoid(1)[()]), "chosen": False}
    assert (chosen["label"], chosen["chosen"]) == ("good", True)


def test_the_openapi_document_has_labels_where_there_are_several(tmp_path, client):
    def schema(client):
        answers = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["responses"]["200"]
        return answers["content"]["application/json"]["schema"]

    with serving(image_run(tmp_path, thresholds=[0.5, 0.5, 0.5])) as (several, _):
        assert schema(several)["required"] == ["results", "labels"]
        assert "no label" in schema(several)["properties"]["labels"]["description"]
    assert schema(client)["required"] == ["results"]
    assert "labels" not in schema(client)["properties"]


@pytest.mark.parametrize("make_run", [image_run, text_run])
def test_a_run_of_format_1_answers_as_one_of_format_2(make_run, tmp_path):
    before, now = (Model(make_run(tmp_path / str(format), format=format)) for format in (1, 2))
    assert (before.task, before.thresholds, before.read.kind) == (now.task, now.thresholds, now.read.kind)
    assert (now.task, now.thresholds) == ("single_label", None)
    example = png("red") if now.read.kind == "image" else "good bad good"
    np.testing.assert_array_equal(before([before.read(example)]), now([now.read(example)]))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (
            {"task": '"ranking"'},
            "Expected a task of single_label, multi_label, ner, regression or ordinal, got 'ranking'",
        ),
        ({"task": '"multi_label"', "thresholds": "[0.5]"}, "Expected 3 thresholds, one a label, got 1"),
    ],
)
def test_a_task_that_does_not_fit_is_not_served(metadata, message):
    with pytest.raises(StartError, match=message):
        read_decision(metadata, COLOURS)


def test_a_modality_that_there_is_not_is_not_served(tmp_path):
    path = image_run(tmp_path) / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "modality": "sound"}))
    with pytest.raises(StartError, match="Expected a modality of image or text, got 'sound'"):
        Model(tmp_path)


def test_texts_are_padded_to_the_longest_and_answer_as_alone(text_client):
    texts = ["good", "bad bad good bad", "\ud800 good good"]
    together = results(
        text_client.post(
            "/predict", content=json.dumps({"text": texts}), headers={"content-type": "application/json"}
        )
    )
    expected = [softmax(0, 1)[1], softmax(3, 1)[1], softmax(0, 2)[1]]
    assert [probability(answer, "good") for answer in together] == pytest.approx(expected, abs=1e-6)


def test_a_batch_of_texts_is_padded_with_the_id_for_it_and_masked(moods):
    model = Model(moods)
    batch = model.read.collate([model.read("good"), model.read("bad fox good")])
    assert batch["token_ids"].tolist() == [[2, 0, 0], [3, 1, 2]]
    assert batch["padding_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert {values.dtype.name for values in batch.values()} == {"int32"}


@pytest.mark.parametrize("mode", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("antialias", [True, False])
def test_images_are_sized_as_the_kits_runner_does(mode, antialias, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(KIT / "onnx"))
    import predict

    facts = {"height": 20, "width": 28, "mode": mode, "interpolation": "bilinear", "antialias": antialias}
    path = Path(draw(tmp_path / "image.png", size=(61, 45)))
    transparent = Image.open(path).convert("RGBA")
    transparent.putalpha(90)
    transparent.save(tmp_path / "transparent.png")
    grey = Image.fromarray(np.arange(2500, dtype=np.uint16).reshape(50, 50) * 26)
    grey.save(tmp_path / "grey.png")
    on_its_side = Image.Exif()
    on_its_side[0x0112] = 6
    Image.open(path).save(tmp_path / "turned.jpg", exif=on_its_side)
    for file in (path, *(tmp_path / name for name in ("transparent.png", "grey.png", "turned.jpg"))):
        np.testing.assert_array_equal(sized(Image.open(file), **facts), predict.read_image(file, **facts))


def test_each_client_gets_its_own_answer(client):
    shades = [(shade, 255 - shade, 0) for shade in range(0, 256, 4)]
    with ThreadPoolExecutor(16) as clients:
        posted = list(clients.map(lambda shade: client.post("/predict", files={"image": png(shade)}), shades))
    found = [probability(results(response)[0], "red") for response in posted]
    expected = [softmax(red / 128, green / 128, 0)[0] for red, green, _ in shades]
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("batch", "largest"), [("dynamic", 4), (1, 1)])
def test_waiting_examples_are_run_together_where_the_artifact_can(batch, largest, tmp_path):
    run = image_run(tmp_path, batch=batch)
    with serving(run, hold=True, workers=1) as (client, model), ThreadPoolExecutor(9) as clients:
        posted = [
            clients.submit(client.post, "/predict", files={"image": png(colour)}) for colour in COLOURS * 3
        ]
        wait_for(lambda: "onnx_server_pending 9.0" in client.get("/metrics").text)
        model.go.set()
        answers = [results(each.result())[0][0]["label"] for each in posted]
    assert answers == COLOURS * 3
    assert max(model.sizes) == largest


def test_it_is_healthy_and_ready_and_counts_by_route(client):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}
    assert client.get("/no/such/path").json()["error"].startswith("Not Found: ")
    assert client.get("/predict").json()["error"].startswith("Method Not Allowed: expected POST ")
    lines = client.get("/metrics").text.splitlines()
    assert 'onnx_server_requests_total{route="/healthz",status="200"} 1.0' in lines
    assert 'onnx_server_requests_total{route="unmatched",status="404"} 1.0' in lines
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)


def test_settings_come_from_the_command_line_then_the_environment(monkeypatch):
    monkeypatch.setenv("ONNX_SERVER_MAX_BATCH", "16")
    monkeypatch.setenv("ONNX_SERVER_RUN", "runs/a")
    monkeypatch.setenv("ONNX_SERVER_PORT", "9000")
    settings = Settings.parse(["--port", "9001"])
    assert (settings.run, settings.max_batch, settings.port) == (Path("runs/a"), 16, 9001)


def test_a_setting_that_cannot_be_is_refused(capsys):
    with pytest.raises(SystemExit):
        Settings.parse(["runs/a", "--max-batch", "0"])
    assert "expected max_batch of at least 1, got 0." in capsys.readouterr().err


@pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json"])
def test_a_changed_artifact_is_not_served(file, tmp_path):
    path = text_run(tmp_path) / "artifacts" / file
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(StartError, match=f"{file} to have the SHA-256"):
        Model(tmp_path)


def test_what_is_no_run_and_what_has_no_onnx_artifact_is_said(tmp_path):
    with pytest.raises(StartError, match=r"without manifest\.json"):
        Model(tmp_path)
    (tmp_path / "manifest.json").write_text('{"artifacts": [{"format": "tflite"}]}')
    with pytest.raises(StartError, match=r"which has tflite\. Run `ktransfer export .* --format onnx`"):
        Model(tmp_path)


def start(run, port, *options):
    patience = [f"--{name}-timeout-s={PATIENCE_S}" for name in ("read", "answer")]
    command = [sys.executable, "-I", "-c", _ALONE, KIT, run, "--port", str(port), *patience, *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: process.poll() is not None or reachable(port))
    return process


def reachable(port):
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_without_ktransfer_keras_and_tensorflow_it_answers_until_sigterm_and_then_what_it_has(colours, port):
    process = start(colours / "artifacts", port, "--workers", "1")
    large = [png(colour, (5000, 5000)) for colour in COLOURS]  # a second or so to decode, one after the other
    with ThreadPoolExecutor(3) as clients, httpx.Client(timeout=PATIENCE_S) as client:
        url = f"http://127.0.0.1:{port}"
        posted = [clients.submit(client.post, f"{url}/predict", files={"image": image}) for image in large]
        wait_for(lambda: "onnx_server_pending 3.0" in client.get(f"{url}/metrics").text)
        process.send_signal(signal.SIGTERM)
        wait_for(lambda: not reachable(port))
        assert [results(each.result())[0][0]["label"] for each in posted] == COLOURS
    assert process.wait(PATIENCE_S) in (0, -signal.SIGTERM)
    assert not reachable(port)


def test_killed_and_started_again_it_answers_as_before(colours, port):
    for _ in range(2):
        process = start(colours, port)
        posted = httpx.post(
            f"http://127.0.0.1:{port}/predict", files={"image": png("blue")}, timeout=PATIENCE_S
        )
        assert results(posted)[0][0]["label"] == "blue"
        process.kill()
        process.wait()


def test_a_start_that_fails_says_why_in_one_line(tmp_path, port):
    process = start(tmp_path, port)
    assert process.wait() == 2
    assert process.stderr.read().count("\n") == 1


def test_a_real_artifact_answers_as_the_kits_runner(tmp_path):
    artifact = export_model(
        small_model(), tmp_path / "artifacts", "onnx", class_names=CLASSES, examples=pixels(4)
    )
    write_manifest(tmp_path, artifact)
    path = draw(tmp_path / "image.png", size=(48, 40))
    with serving(tmp_path) as (client, _):
        (answer,) = results(client.post("/predict", files={"image": Path(path).read_bytes()}))
    (expected,) = kit_answers("onnx", tmp_path, path)
    assert answer[0]["label"] == expected["label"]
    assert answer[0]["probability"] == pytest.approx(expected["probability"], abs=1e-5)


def test_a_real_artifact_of_several_labels_decides_as_the_model(tmp_path):
    model, task = multi_label_model(), get_task("multi_label")
    files = [Path(draw(tmp_path / f"{seed}.png", seed=seed, size=(48, 30 + seed))) for seed in range(6)]
    images = np.float32([load_image(path, Resize(SIZE, SIZE)) for path in files])
    probabilities = task.probabilities(model.predict(images, verbose=0))
    decision = {"thresholds": between(probabilities)}
    options = {"class_names": CLASSES, "examples": list(map(str, files)), "task": "multi_label"}
    options |= {"preprocessing": Preprocessing(Resize(SIZE, SIZE), 1.0, 0.0), "decision": decision}
    artifact = export_model(model, tmp_path / "artifacts", "onnx", **options)
    write_manifest(tmp_path, artifact, task="multi_label")
    with serving(tmp_path) as (client, _):
        found = client.post("/predict", files=[("image", path.read_bytes()) for path in files]).json()
        values = [base64.b64encode(path.read_bytes()).decode() for path in files]
        inputs = [{"name": "image", "datatype": "BYTES", "shape": [len(files)], "data": values}]
        outputs = client.post("/v2/models/classifier/infer", json={"inputs": inputs}).json()["outputs"]
    decided = task.decide(probabilities, decision)
    for labels, result, row in zip(found["labels"], found["results"], probabilities, strict=True):
        expected = task.answers(row, CLASSES, decision, top_k=5)
        for key in ("label", "chosen"):
            assert [each[key] for each in result] == [each[key] for each in expected]
        assert [each["label"] for each in labels] == [each["label"] for each in expected if each["chosen"]]
    assert [len(labels) for labels in found["labels"]] == decided.sum(axis=1).tolist()
    assert outputs[1]["data"] == decided.astype(bool).ravel().tolist()


@pytest.mark.spread(1)
@pytest.mark.parametrize("family", ["Bert", "FNet"])  # padded to the longest of a batch; to one length
def test_a_real_artifact_of_texts_answers_as_the_model(family, tmp_path):
    backbone, preset = write_preset(family, tmp_path)
    preprocessing = load_text_preprocessing(preset, backbone, sequence_length=16)
    model = build_text_classifier(backbone, len(CLASSES), preprocessing)
    texts = ["the quick brown fox", "you", "", "the fox! " * 20]
    options = {"class_names": CLASSES, "examples": texts, "preprocessing": preprocessing}
    artifact = export_model(model, tmp_path / "artifacts", "onnx", **options)
    facts = write_tokenizer(preprocessing, tmp_path / "artifacts")
    write_text_manifest(tmp_path, artifact, preprocessing, facts)
    with serving(tmp_path) as (client, _):
        answers = results(client.post("/predict", json={"text": texts}))
        check_values_that_no_text_gives(client, Model(tmp_path).inputs)
    found = [[probability(answer, label) for label in CLASSES] for answer in answers]
    expected = keras.ops.softmax(model.predict_on_batch(preprocessing(texts)))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def check_values_that_no_text_gives(client, inputs):
    def infer(**changed):
        tensors = []
        for entry in inputs:
            values = changed.get(entry["name"], [int(entry["name"] == "padding_mask")] * 16)
            tensor = {"name": entry["name"], "datatype": "INT32", "shape": [1, 16], "data": values}
            tensors.append(tensor)
        return client.post("/v2/models/classifier/infer", json={"inputs": tensors})

    assert infer().status_code == 200
    for name in (entry["name"] for entry in inputs):
        wrong = {"token_ids": (-1, 10**6), "segment_ids": (-1, 10**6), "padding_mask": (-1, 2)}[name]
        for values in (*([value] * 16 for value in wrong), *([[0] * 16] if name == "padding_mask" else [])):
            response = infer(**{name: values})
            assert (response.status_code, "Expected " in response.json()["error"]) == (400, True), name


def test_a_lone_example_waits_for_no_others(colours):
    with serving(colours, max_wait_ms=10 * PATIENCE_S * 1000) as (client, _):
        results(client.post("/predict", files={"image": png("red")}))


def test_the_load_test_finds_a_wrong_answer(colours):
    from onnx_server.load_test import Load, _form

    with serving(colours) as (client, _):
        kind, body = _form(png("red"))
        right = dict(zip(COLOURS, map(float, RED), strict=True))
        load = Load(client.base_url.port, [(kind, body, right), (kind, body, {**right, "red": 0.5})])
        load.run(10, 2)
    assert (len(load.latencies), load.errors, load.wrong) == (10, 0, 5)


def test_the_load_test_finds_wrong_labels(tmp_path):
    from onnx_server.load_test import Load, _form, prepare

    run, images = image_run(tmp_path / "run", thresholds=[0.6, 0.6, 0.4]), tmp_path / "images"
    images.mkdir()
    (images / "red.png").write_bytes(png("red"))
    requests, facts = prepare(run, images)
    thresholds = {"red": 0.6, "green": 0.6, "blue": 0.4}
    assert facts == {"task": "multi_label", "thresholds": thresholds}
    assert requests[0][:2] == _form(png("red"))
    with serving(run) as (client, _):
        for changed, wrong in (({}, 0), ({"green": 0.4}, 4)):
            load = Load(client.base_url.port, requests, thresholds=thresholds | changed)
            load.run(4, 2)
            assert (len(load.latencies), load.errors, load.wrong) == (4, 0, wrong)
