"""Several runs on one backbone: each request is answered by the adapter that it names."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx_server.adapters import AdapterModel, Backbone, load
from onnx_server.errors import StartError
from onnx_server.settings import Settings
from onnx_server_runs import MOODS, adapter_run, serving, softmax

MOOD = [[5, 0], [0, 0], [0, 1], [1, 0]]  # as `text_run`
TOPIC = [[0, 0, 0], [3, 0, 0], [0, 2, 0], [0, 0, 1]]
TOPICS = ["other", "praise", "blame"]
TEXT = "good good bad"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    adapter_run(folder / "moods", MOOD, MOODS)
    adapter_run(folder / "topics", TOPIC, TOPICS)
    (folder / "topics" / "artifacts" / "onnx_adapters" / "backbone.onnx").unlink()  # that of the other serves
    return folder


@pytest.fixture(scope="module")
def client(runs):
    with serving(runs / "moods", adapter=f"topics={runs / 'topics'}") as (client, _):
        yield client


def answered(response):
    assert response.status_code == 200, response.text
    return {each["label"]: each["probability"] for each in response.json()["results"][0]}


def test_a_request_chooses_its_adapter(client):
    moods = dict(zip(MOODS, softmax(1, 2), strict=True))
    topics = dict(zip(TOPICS, softmax(0, 4, 1), strict=True))
    for adapter, expected in ((None, moods), ("classifier", moods), ("topics", topics)):
        query = {} if adapter is None else {"adapter": adapter}
        assert answered(client.post("/predict", params=query, json={"text": TEXT})) == pytest.approx(expected)
    refused = client.post("/predict?adapter=other", json={"text": TEXT})
    assert refused.status_code == 400
    assert "an adapter of classifier, topics, got 'other'" in refused.json()["error"]
    (parameter,) = [
        each
        for each in client.get("/openapi.json").json()["paths"]["/predict"]["post"]["parameters"]
        if each["name"] == "adapter"
    ]
    assert parameter["schema"]["enum"] == ["classifier", "topics"]


def test_batches_of_several_adapters_get_their_own_answers(client):
    expected = {"classifier": softmax(1, 2), "topics": softmax(0, 4, 1)}
    names = ["classifier", "topics"] * 20

    def asked(name):
        found = answered(client.post("/predict", params={"adapter": name}, json={"text": TEXT}))
        return [found[label] for label in (MOODS if name == "classifier" else TOPICS)]

    with ThreadPoolExecutor(8) as pool:
        for name, found in zip(names, pool.map(asked, names), strict=True):
            np.testing.assert_allclose(found, expected[name], atol=1e-6)


def test_an_adapter_is_a_model_of_the_protocol(client):
    described = client.get("/v2/models/topics").json()
    assert described["name"] == "topics"
    assert described["parameters"]["labels"] == TOPICS
    before = client.get("/v2/models/topics/stats").json()["model_stats"][0]["inference_count"]
    given = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [TEXT]}]}
    answer = client.post("/v2/models/topics/infer", json=given).json()
    assert answer["model_name"] == "topics"
    assert answer["outputs"][0]["data"] == pytest.approx(softmax(0, 4, 1).tolist())
    stats = client.get("/v2/models/topics/stats").json()["model_stats"][0]
    assert (stats["name"], stats["inference_count"]) == ("topics", before + 1)
    assert client.get("/v2/models/classifier").json()["parameters"]["labels"] == MOODS
    assert client.get("/v2/models/other").status_code == 404


def test_a_server_of_one_run_knows_no_adapters(runs):
    from onnx_server_runs import text_run

    with serving(text_run(runs / "alone")) as (client, _):
        assert client.post("/predict?adapter=classifier", json={"text": TEXT}).status_code == 400


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("backbone", r"adapters of the backbone \w{12}, which is served, got those in .*of \w{12}"),
        ("task", "runs of one task, single_label of 1 texts, got multi_label"),
        ("damaged", "to have the SHA-256"),
        ("plain", "an artifact of the format onnx-adapters, got .*which has onnx. Run `ktransfer export"),
        ("none", "manifest.json"),
    ],
)
def test_what_does_not_fit_the_backbone_is_not_served(runs, tmp_path, change, message):
    from onnx_server_runs import text_run

    other = tmp_path / "other"
    if change == "backbone":
        adapter_run(other, TOPIC, TOPICS, backbone=2.0)
    elif change == "task":
        adapter_run(other, TOPIC, TOPICS, thresholds=[0.5] * 3)
        place = other / "artifacts" / "onnx_adapters"
        # On the same backbone, as its own graph would not be.
        shutil.copy(runs / "moods" / "artifacts" / "onnx_adapters" / "backbone.onnx", place)
        renew(other)
    elif change == "damaged":
        adapter_run(other, TOPIC, TOPICS)
        path = other / "artifacts" / "onnx_adapters" / "adapter.onnx_adapter"
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif change == "plain":
        text_run(other)
    with pytest.raises(StartError, match=message):
        load(Settings.parse([str(runs / "moods"), "--adapter", f"x={other}"]))


def renew(run):
    """Let a run's facts say what is in its folder."""
    from ktransfer.exporting.artifact import fingerprint

    place = run / "artifacts" / "onnx_adapters"
    facts = json.loads((place / "adapter.json").read_text(encoding="utf-8"))
    facts["backbone_sha256"] = fingerprint(place / "backbone.onnx")[0]
    (place / "adapter.json").write_text(json.dumps(facts), encoding="utf-8")
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    manifest["artifacts"][0]["sha256"] = fingerprint(place)[0]
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")


def test_the_backbone_is_in_memory_once(runs):
    backbone = Backbone(runs / "moods")
    models = [AdapterModel(runs / name, backbone) for name in ("moods", "topics")]
    assert models[0]._session is models[1]._session
    row = models[0].read("good")
    np.testing.assert_allclose(models[0]([row])[0], softmax(0, 1), atol=1e-6)
    np.testing.assert_allclose(models[1]([row])[0], softmax(0, 2, 0), atol=1e-6)
    np.testing.assert_allclose(models[0]([row])[0], softmax(0, 1), atol=1e-6)


@pytest.mark.parametrize(
    "given", [["--adapter", "x"], ["--adapter", "a b=c"], ["--adapter", "x=a", "--adapter", "x=b"],
              ["--adapter", "classifier=a"]],
)  # fmt: skip
def test_adapters_without_a_name_of_their_own_are_refused(given, capsys):
    with pytest.raises(SystemExit):
        Settings.parse(["run", *given])
    assert "Correct it" in (found := capsys.readouterr().err) or "Rename one" in found


def test_adapters_come_from_the_command_line_or_the_environment(monkeypatch):
    monkeypatch.setitem(os.environ, "ONNX_SERVER_ADAPTER", "a=runs/a, b=runs/b")
    assert {name: str(path) for name, path in Settings.parse(["run"]).adapters.items()} == {
        "a": "runs/a",
        "b": "runs/b",
    }
    assert list(Settings.parse(["run", "--adapter", "c=x", "--adapter", "d=y"]).adapters) == ["c", "d"]
