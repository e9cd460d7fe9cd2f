"""The ONNX server: the Open Inference Protocol, version 2."""

import json

import numpy as np
import pytest
from onnx_server_runs import COLOURS, image_run, serving, sigmoid, softmax, text_run

INFER = "/v2/models/classifier/infer"
HEADER = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with serving(image_run(tmp_path_factory.mktemp("colours"))) as (client, _):
        yield client


@pytest.fixture(scope="module")
def text_client(tmp_path_factory):
    with serving(text_run(tmp_path_factory.mktemp("moods"))) as (client, _):
        yield client


THRESHOLDS = [0.9, 0.6, 0.4]


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A client of a run with several labels an image, whose probabilities are sigmoids."""
    with serving(image_run(tmp_path_factory.mktemp("several"), thresholds=THRESHOLDS)) as (client, _):
        yield client


def images(*colours):
    return np.stack([np.full((8, 8, 3), colour, "float32") for colour in colours])


def tensor(array, name="image", datatype="FP32", **changed):
    data = array.ravel().tolist()
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": data, **changed}


def ids(*rows, name="token_ids"):
    return tensor(np.array(rows), name, "INT32")


PURE = images((255, 0, 0), (0, 0, 128))
ANSWERS = np.array([softmax(255 / 128, 0, 0), softmax(0, 0, 1)])


def test_the_server_and_the_model_describe_themselves(client):
    assert client.get("/v2").json() == {
        "name": "onnx_server",
        "version": "1",
        "extensions": ["binary_tensor_data", "classification", "model_configuration", "statistics"],
    }
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/classifier/ready").json() == {"name": "classifier", "ready": True}
    assert client.get("/v2/models/classifier").json() == {
        "name": "classifier",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "image", "datatype": "FP32", "shape": [-1, 8, 8, 3]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, len(COLOURS)]}],
        "parameters": {
            "labels": COLOURS,
            "task": "single_label",
            "instead_of_inputs": [{"name": "image", "datatype": "BYTES", "shape": [-1]}],
        },
    }


def test_the_task_and_its_thresholds_are_described(client, several):
    described = several.get("/v2/models/classifier").json()
    assert described["outputs"] == [
        {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]},
        {"name": "chosen", "datatype": "BOOL", "shape": [-1, 3]},
    ]
    parameters = described["parameters"]
    assert (parameters["task"], parameters["thresholds"]) == ("multi_label", THRESHOLDS)
    config = several.get("/v2/models/classifier/config").json()
    assert [entry["data_type"] for entry in config["output"]] == ["TYPE_FP32", "TYPE_BOOL"]
    assert config["parameters"]["task"] == {"string_value": "multi_label"}
    assert json.loads(config["parameters"]["thresholds"]["string_value"]) == THRESHOLDS
    config = client.get("/v2/models/classifier/config").json()
    assert config["parameters"] == {
        "labels": {"string_value": json.dumps(COLOURS)},
        "task": {"string_value": "single_label"},
    }


SIGMOIDS = np.array([sigmoid(255 / 128, 0, 0), sigmoid(0, 0, 1)])
CHOSEN = SIGMOIDS >= THRESHOLDS  # blue alone, of both


def test_probabilities_are_followed_by_which_labels_are_chosen(several):
    probabilities, chosen = several.post(INFER, json={"inputs": [tensor(PURE)]}).json()["outputs"]
    assert probabilities["data"] == pytest.approx(SIGMOIDS.ravel(), abs=1e-6)
    expected = {"name": "chosen", "datatype": "BOOL", "shape": [2, 3], "data": CHOSEN.ravel().tolist()}
    assert chosen == expected


def test_each_output_is_given_as_asked_for(several):
    top = {"name": "probabilities", "parameters": {"classification": 1, "binary_data": False}}
    wanted = [{"name": "chosen", "parameters": {"binary_data": True}}, top]
    response = several.post(INFER, json={"inputs": [tensor(PURE)], "outputs": wanted})
    size = int(response.headers[HEADER])
    chosen, classes = json.loads(response.content[:size])["outputs"]
    assert chosen["parameters"] == {"binary_data_size": 6}
    np.testing.assert_array_equal(np.frombuffer(response.content[size:], "?").reshape(2, 3), CHOSEN)
    assert classes["data"] == [f"{SIGMOIDS[0, 0]:f}:0:red", f"{SIGMOIDS[1, 2]:f}:2:blue"]
    (alone,) = several.post(INFER, json={"inputs": [tensor(PURE)], "outputs": [{"name": "chosen"}]}).json()[
        "outputs"
    ]
    assert alone["data"] == CHOSEN.ravel().tolist()


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ([{"name": "chosen"}] * 2, "Expected the outputs 'probabilities', 'chosen', got 'chosen' again"),
        ([{"name": "chosen"}] * 3, "Expected the outputs 'probabilities', 'chosen' once in a list"),
        ([{"name": "labels"}], "Expected the outputs 'probabilities', 'chosen', got 'labels'"),
        ([{"name": "chosen", "parameters": {"classification": 1}}], "got also 'classification'"),
    ],
)
def test_outputs_that_cannot_be_are_refused(several, outputs, message):
    response = several.post(INFER, json={"inputs": [tensor(PURE)], "outputs": outputs})
    assert (response.status_code, response.json()["error"].count(message)) == (400, 1), response.text


def test_one_label_an_image_has_no_output_of_chosen_ones(client):
    response = client.post(INFER, json={"inputs": [tensor(PURE)], "outputs": [{"name": "chosen"}]})
    assert "Expected the output 'probabilities', got 'chosen'" in response.json()["error"]


@pytest.mark.parametrize("path", ["", "/ready", "/infer"])
def test_another_model_is_not_found(client, path):
    method = "POST" if path == "/infer" else "GET"
    response = client.request(method, f"/v2/models/other{path}", json={})
    assert (response.status_code, "got 'other'" in response.json()["error"]) == (404, True)


@pytest.mark.parametrize("nested", [False, True])
def test_tensors_in_json_are_answered_in_json(client, nested):
    request = {"id": "a1", "inputs": [tensor(PURE, **({"data": PURE.tolist()} if nested else {}))]}
    answer = client.post(INFER, json=request).json()
    (output,) = answer.pop("outputs")
    assert answer == {"model_name": "classifier", "model_version": "1", "id": "a1"}
    assert (output["name"], output["datatype"], output["shape"]) == ("probabilities", "FP32", [2, 3])
    assert output["data"] == pytest.approx(ANSWERS.ravel(), abs=1e-6)


@pytest.mark.parametrize(
    "wanted",
    [
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}]},
    ],
)
def test_tensors_in_bytes_are_answered_in_bytes(client, wanted):
    entry = tensor(PURE, parameters={"binary_data_size": PURE.nbytes})
    del entry["data"]
    head = json.dumps({"inputs": [entry], **wanted}).encode()
    response = client.post(INFER, content=head + PURE.tobytes(), headers={HEADER: str(len(head))})
    size = int(response.headers[HEADER])
    (output,) = json.loads(response.content[:size])["outputs"]
    assert output["parameters"] == {"binary_data_size": 24}
    answers = np.frombuffer(response.content[size:], "<f4").reshape(output["shape"])
    np.testing.assert_allclose(answers, ANSWERS, atol=1e-6)


def test_a_batch_larger_than_one_run_of_the_model_is_answered_whole(client):
    many = images(*[(shade, 0, 0) for shade in range(0, 250, 10)])
    (output,) = client.post(INFER, json={"inputs": [tensor(many)]}).json()["outputs"]
    expected = [softmax(shade / 128, 0, 0) for shade in range(0, 250, 10)]
    np.testing.assert_allclose(np.reshape(output["data"], (25, 3)), expected, atol=1e-6)


def test_token_ids_are_answered(text_client):
    inputs = [ids([2, 3, 2], [3, 0, 0]), ids([1, 1, 1], [1, 0, 0], name="padding_mask")]
    (output,) = text_client.post(INFER, json={"inputs": inputs[::-1]}).json()["outputs"]
    np.testing.assert_allclose(np.reshape(output["data"], (2, 2)), [softmax(1, 2), softmax(1, 0)], atol=1e-6)


def test_an_id_that_is_none_is_the_clients_error(text_client):
    inputs = [ids([99]), ids([1], name="padding_mask")]
    response = text_client.post(INFER, json={"inputs": inputs})
    assert response.status_code == 400
    assert "token_ids[0]: Expected values of 0 to 3, got 99" in response.json()["error"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([ids([1])], "Expected the inputs ['token_ids', 'padding_mask'] once each"),
        ([ids([1]), ids([1, 1], name="padding_mask")], "the same batch and length"),
        ([ids([1] * 7), ids([1] * 7, name="padding_mask")], "Expected 1 to 6 along axis 1"),
        (
            [ids([2**31]), ids([1], name="padding_mask")],
            "in -2147483648 to 2147483647 for 'token_ids', got 2147483648",
        ),
        ([ids([1.5]), ids([1], name="padding_mask")], "whole numbers for 'token_ids', got 1.5"),
    ],
)
def test_wrong_ids_are_refused(text_client, inputs, message):
    response = text_client.post(INFER, json={"inputs": inputs})
    assert (response.status_code, response.json()["error"].count(message)) == (400, 1), response.text


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({}, "Expected `inputs`"),
        ([], "not an object"),
        ({"inputs": []}, "Expected the inputs ['image'] once each"),
        ({"inputs": [tensor(PURE)] * 2}, "got ['image', 'image']"),
        ({"inputs": [tensor(PURE, name="picture")]}, "got ['picture']"),
        ({"inputs": [tensor(PURE, datatype="FP64")]}, "as FP32 [-1, 8, 8, 3], got 'FP64'"),
        ({"inputs": [tensor(PURE, shape=[2, 8, 8])]}, "got 'FP32' [2, 8, 8]"),
        ({"inputs": [tensor(PURE, shape=[0, 8, 8, 3])]}, "got [0, 8, 8, 3]"),
        ({"inputs": [tensor(PURE, shape=[-2, 8, 8, 3])]}, "got [-2, 8, 8, 3]"),
        (
            {"inputs": [tensor(PURE, shape=[3, 8, 8, 3])]},
            "Expected 576 numbers for 'image' of shape [3, 8, 8, 3], got 384",
        ),
        ({"inputs": [tensor(PURE, data=[[1], [1, 2]])]}, "ragged lists"),
        ({"inputs": [tensor(PURE, data=["1"] * 384)]}, "Expected numbers for 'image', got '1'"),
        ({"inputs": [tensor(PURE, data=[1e39] * 384)]}, "finite"),
        ({"inputs": [tensor(PURE)], "outputs": [{"name": "logits"}]}, "got 'logits'"),
        ({"inputs": [tensor(PURE)], "outputs": [None]}, "Expected an object for outputs[0]"),
        ({"inputs": [tensor(PURE)], "parameters": None}, "Expected an object for the request"),
        ({"inputs": [tensor(PURE, parameters={"binary_data_size": 8})]}, "in inputs[0], got both"),
    ],
)
def test_a_wrong_request_is_told_what_was_expected(client, request_, message):
    response = client.post(INFER, json=request_)
    assert (response.status_code, response.json()["error"].count(message)) == (400, 1), response.text


def test_not_a_number_is_refused(client):
    content = json.dumps({"inputs": [tensor(PURE, data=[float("nan")] * 384)]})
    assert "which JSON has no notation for" in client.post(INFER, content=content).json()["error"]


@pytest.mark.parametrize("header", ["x", "-5", "7", "999999"])
def test_a_wrong_length_of_the_json_is_refused(client, header):
    content = json.dumps({"inputs": [tensor(PURE)]})
    assert client.post(INFER, content=content, headers={HEADER: header}).status_code == 400
