"""The ONNX server: values, tensors, texts and JSON that are unusual or wrong, each with its reason."""

import base64
import json
import struct

import numpy as np
import pytest
from onnx_server_runs import COLOURS, MOODS, image_run, png, serving, softmax, text_run

INFER = "/v2/models/classifier/infer"
HEADER = "Inference-Header-Content-Length"
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    with serving(image_run(tmp_path_factory.mktemp("images")), max_pending=8) as (client, _):
        yield client


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    with serving(text_run(tmp_path_factory.mktemp("texts")), max_pending=8) as (client, _):
        yield client


@pytest.fixture(scope="module")
def relative(tmp_path_factory):
    with serving(image_run(tmp_path_factory.mktemp("relative"), relative=True)) as (client, _):
        yield client


@pytest.fixture(scope="module")
def means(tmp_path_factory):
    with serving(text_run(tmp_path_factory.mktemp("means"), mean=True)) as (client, _):
        yield client


def refused(response, status=400):
    """The reason of a refusal, which is one line and strict JSON."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    answer = json.loads(response.content, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert list(answer) == ["error"]
    assert "\n" not in answer["error"]
    assert len(answer["error"]) < 1100
    return answer["error"]


def answered(response):
    assert response.status_code == 200, response.text
    return response.json()


def pixels(*values):
    return np.stack([np.full((8, 8, 3), value, "float64") for value in values])


def image(array, **changed):
    tensor = {"name": "image", "shape": list(array.shape), "datatype": "FP32", "data": array.ravel().tolist()}
    return {"inputs": [{**tensor, **changed}]}


def ids(*rows, mask=None):
    rows, mask = np.array(rows), np.ones_like(rows) if mask is None else np.array(mask)
    return {
        "inputs": [
            {"name": name, "shape": list(each.shape), "datatype": "INT32", "data": each.ravel().tolist()}
            for name, each in (("token_ids", rows), ("padding_mask", mask))
        ]
    }


def strings(*values, name="text", shape=None, **more):
    tensor = {"name": name, "shape": shape or [len(values)], "datatype": "BYTES", "data": list(values)}
    return {"inputs": [tensor], **more}


# ---- NaN, infinity, and values that are none of the kind


@pytest.mark.parametrize("value", [3e38, -3e38, 1e30, 512, -300])
def test_what_cannot_be_a_pixel_is_refused_by_its_place(images, value):
    reason = refused(images.post(INFER, json=image(pixels(0, 255, value))))
    assert reason.startswith("image[2]: Expected pixels in 0 to 255")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_a_constant_that_json_does_not_have_is_refused(images, value):
    body = json.dumps(image(pixels(7))).replace("7.0", value, 1)
    assert f"{value}, which JSON has no notation for" in refused(images.post(INFER, content=body))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_number_in_bytes_that_is_not_finite_is_refused_by_its_place(images, value):
    array = pixels(0, value).astype("<f4")
    tensor = {"name": "image", "shape": [2, 8, 8, 3], "datatype": "FP32"}
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": array.nbytes}}]}).encode()
    response = images.post(INFER, content=head + array.tobytes(), headers={HEADER: str(len(head))})
    assert refused(response).startswith("image[1]: Expected finite numbers of FP32")


@pytest.mark.parametrize("number", ["1e39", "-1e400", "1" + "0" * 40, "1" + "0" * 400, "1" + "0" * 5000])
def test_a_huge_number_is_refused(images, number):
    body = json.dumps(image(pixels(7))).replace("7.0", number, 1)
    refused(images.post(INFER, content=body))


def test_an_answer_of_nan_is_refused_with_the_example_that_gave_it(relative):
    reason = refused(relative.post(INFER, json=image(pixels(9, 9, 0))), 422)
    assert "got NaN or infinity for example 2" in reason
    assert "example 1" in refused(
        relative.post("/predict", files=[("image", png("white")), ("image", png("red"))]), 422
    )
    answered(relative.post("/predict", files={"image": png("white")}))


def test_a_mask_of_zeros_is_refused_by_its_place(texts, means):
    for client in (texts, means):
        reason = refused(client.post(INFER, json=ids([2, 3], [3, 0], mask=[[1, 1], [0, 0]])))
        assert reason.startswith("padding_mask[1]: Expected a 1 for each token")


@pytest.mark.parametrize("value", [-1, -3, 4, 99, 2**31 - 1, -(2**31)])
def test_an_id_that_no_text_gives_is_refused_by_its_place(texts, value):
    reason = refused(texts.post(INFER, json=ids([1, 2], [3, value])))
    assert reason.startswith(f"token_ids[1]: Expected values of 0 to 3, got {value}.")


@pytest.mark.parametrize("value", [-1, 2, 7])
def test_a_mask_of_others_than_0_and_1_is_refused(texts, value):
    reason = refused(texts.post(INFER, json=ids([1, 2], mask=[[1, value]])))
    assert f"padding_mask[0]: Expected values of 0 to 1, got {value}." in reason


# ---- Texts as texts


def test_texts_are_answered_as_their_ids_are(texts):
    by_ids = answered(texts.post(INFER, json=ids([2, 3, 2], [3, 0, 0], mask=[[1, 1, 1], [1, 0, 0]])))
    for request in (
        strings("good bad good", "bad"),
        strings("good bad good", "bad", shape=[2, 1]),
        strings(["good bad good"], ["bad"], shape=[2, 1]),
    ):
        assert answered(texts.post(INFER, json=request)) == by_ids


def test_texts_in_bytes_are_answered(texts):
    encoded = [text.encode() for text in ("good good", "", "schön")]
    blob = b"".join(struct.pack("<I", len(text)) + text for text in encoded)
    tensor = {
        "name": "text",
        "shape": [3],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(blob)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    answer = answered(texts.post(INFER, content=head + blob, headers={HEADER: str(len(head))}))
    expected = [softmax(0, 2), softmax(0, 0), softmax(0, 0)]
    np.testing.assert_allclose(np.reshape(answer["outputs"][0]["data"], (3, 2)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"\x05\0\0\0good", "string 0 with an end behind"),
        (b"\xff\xff\xff\xffgood", "string 0 with an end behind"),
        (b"\0\0\0\0\0\0", "string 1 with an end behind"),
        (b"\x02\0\0\0\xff\xfe", "text[0]: Expected a text in UTF-8"),
        (b"\0\0\0\0\0\0\0\0", "Expected 1 strings for 'text' of shape [1], got 2"),
        (b"", "Expected 1 strings for 'text' of shape [1], got 0"),
    ],
)
def test_broken_strings_in_bytes_are_refused(texts, blob, message):
    tensor = {
        "name": "text",
        "shape": [1],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(blob)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    assert message in refused(texts.post(INFER, content=head + blob, headers={HEADER: str(len(head))}))


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (strings("good", 7), "text[1]: Expected a text, got 7"),
        (strings("good", None), "text[1]: Expected a text, got None"),
        (strings("good", shape=[2]), "Expected 2 strings for 'text' of shape [2], got 1"),
        (strings("good", shape=[1, 2]), "as BYTES [-1] or [-1, 1], got [1, 2]"),
        (strings(shape=[0]), "sizes of 1 or more for the shape of 'text'"),
        (strings("good", shape=[True]), "sizes of 1 or more"),
        (strings("good", shape=[1.5]), "sizes of 1 or more"),
        (strings("good", name="image"), "or 'text' alone as BYTES, got ['image']"),
        ({"inputs": strings("good")["inputs"] + ids([1])["inputs"]}, "or 'text' alone as BYTES"),
        ({"inputs": [{**strings("good")["inputs"][0], "datatype": "STRING"}]}, "or 'text' alone as BYTES"),
        ({"inputs": [{**strings("good")["inputs"][0], "data": "good"}]}, "Expected a list of strings"),
    ],
)
def test_wrong_texts_are_refused(texts, request_, message):
    assert message in refused(texts.post(INFER, json=request_))


def test_the_end_of_a_long_text_is_cut_and_its_index_answered(texts):
    long = "bad " * 5 + "good good good"
    answer = answered(texts.post("/predict", json={"text": ["good", long]}))
    assert answer["cut_texts"] == [1]
    found = {each["label"]: each["probability"] for each in answer["results"][1]}
    assert found["bad"] == pytest.approx(softmax(5, 1)[0], abs=1e-6)  # six tokens
    assert answered(texts.post(INFER, json=strings("good", long)))["parameters"] == {"cut_texts": "1"}
    assert "cut_texts" not in answered(texts.post("/predict", json={"text": "good " * 6}))


def test_an_empty_text_is_answered_where_the_model_can(texts, means):
    for text in ("", " ", "\n\t"):
        (answer,) = answered(texts.post("/predict", json={"text": text}))["results"]
        assert [each["probability"] for each in answer] == pytest.approx([0.5, 0.5])
        assert "example 0" in refused(means.post("/predict", json={"text": text}), 422)


@pytest.mark.parametrize("text", ["\0", "\ud800", "🙂" * 100, "\u202e", "a" * 100_000])
def test_nasty_texts_are_answered(texts, text):
    assert answered(texts.post("/predict", content=json.dumps({"text": text}), headers=JSON))["results"]
    assert answered(texts.post(INFER, content=json.dumps(strings(text))))["outputs"]


# ---- Image files in the protocol


def test_image_files_are_answered_in_the_protocol(images):
    files = [png("red"), png("blue", (20, 30), "JPEG")]
    in_json = strings(*(base64.b64encode(file).decode() for file in files), name="image")
    first = answered(images.post(INFER, json=in_json))["outputs"][0]
    assert first["shape"] == [2, 3]
    assert first["data"][:3] == pytest.approx(softmax(255 / 128, 0, 0), abs=1e-6)
    blob = b"".join(struct.pack("<I", len(file)) + file for file in files)
    tensor = {
        "name": "image",
        "shape": [2],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(blob)},
    }
    head = json.dumps({"inputs": [tensor]}).encode()
    answer = answered(images.post(INFER, content=head + blob, headers={HEADER: str(len(head))}))
    assert answer["outputs"][0] == first


def test_an_image_file_is_the_body_of_a_request(images):
    for kind in ("image/png", "image/x-unknown", "image/*"):
        response = images.post("/predict?top_k=1", content=png("blue"), headers={"content-type": kind})
        assert answered(response)["results"][0][0]["label"] == "blue"
    assert "0 bytes of none" in refused(
        images.post("/predict", content=b"", headers={"content-type": "image/png"})
    )


def test_a_bad_image_of_several_is_named_by_its_index(images):
    files = [png("red"), b"no image", png("blue"), b"", png("red")[:50]]
    reason = refused(images.post("/predict", files=[("image", file) for file in files]))
    assert reason.startswith("image[1] (also refused: 3, 4): Expected an image file")
    encoded = [base64.b64encode(file).decode() for file in files[:3]]
    assert refused(images.post("/predict", json={"image": encoded})).startswith("image[1]: ")
    assert refused(images.post("/predict", json={"image": [*encoded[::2], "é"]})).startswith("image[2]: ")
    assert refused(images.post(INFER, json=strings(*encoded, name="image"))).startswith("image[1]: ")
    assert refused(images.post("/predict", files={"image": b"x"})).startswith("Expected an image file")


# ---- Forms


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"files": {"image": (None, "hello")}}, "Expected `image` as a file, got a text field with 'hello'"),
        ({"files": [("image", png("red")), ("image", (None, "hello"))]}, "got a text field with 'hello'"),
        ({"files": {"image": png("red")}, "data": {"top_k": "1"}}, "got 'top_k'"),
        ({"files": {"image": png("red"), "images": png("red")}}, "got 'images'"),
    ],
)
def test_a_wrong_form_is_refused_with_the_reason(images, form, message):
    assert message in refused(images.post("/predict", **form))


def test_a_curl_form_without_the_at_gets_the_right_command(images):
    body = b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\nhello\r\n--b--\r\n'
    response = images.post(
        "/predict", content=body, headers={"content-type": "multipart/form-data; boundary=b"}
    )
    assert "`-F image=@FILE`, with the @" in refused(response)


def test_a_form_without_a_chosen_file_is_refused(images):
    body = b'--b\r\nContent-Disposition: form-data; name="image"; filename=""\r\n\r\n\r\n--b--\r\n'
    headers = {"content-type": "multipart/form-data; boundary=b"}
    assert "0 bytes of none" in refused(images.post("/predict", content=body, headers=headers))


@pytest.mark.parametrize("body", [b"", b"--b--\r\n", b"--x\r\n", b"--b\r\nno header\r\n\r\n", b"--b\r\n\r\n"])
def test_a_broken_form_is_refused(images, body):
    headers = {"content-type": "multipart/form-data; boundary=b"}
    refused(images.post("/predict", content=body, headers=headers))


# ---- JSON


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "Expecting value"),
        (b"null", "not an object"),
        (b'"good"', "not an object"),
        (b'{"text": "good"', "delimiter"),
        (b'{"text": "good"} {"text": "bad"}', "Extra data"),
        (b'{"text": "good", "text": "bad"}', "the key 'text' twice"),
        (b'{"text": "\xff"}', "not UTF-8, at 10"),
        ('{"text": "good"}'.encode("utf-16"), "not UTF-8"),
        (b'{"text": NaN}', "NaN, which JSON has no notation for"),
        (b'{"text": ' + b"[" * 100_000, "too many levels"),
        (b'{"a":' * 100_000, "too many levels"),
        (b'{"text": ' + b"9" * 5000 + b"}", "Send it as JSON"),
        (b"{}", 'Add "text"'),
        (b'{"Text": "good"}', 'Add "text"'),
        (b'{"text": "good", "top_k": 1}', "Expected only 'text' in the body, got also 'top_k'"),
        (b'{"text": []}', "got []. Send at least one"),
        (b'{"text": {}}', "got {}"),
        (b'{"text": [["good"]]}', "text[0]: Expected a text, got ['good']"),
        (b'{"text": true}', "Expected a text, got True"),
        (b'{"text": null}', "Expected a text, got None"),
    ],
)
def test_json_is_read_strictly(texts, body, message):
    assert message in refused(texts.post("/predict", content=body, headers=JSON))


def test_a_byte_order_mark_is_no_error(texts):
    body = '{"text": "good"}'.encode("utf-8-sig")
    assert answered(texts.post("/predict", content=body, headers=JSON))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("top_k=0", "top_k"),
        ("top_k=x", "top_k"),
        ("top_k=", "top_k"),
        ("top_k=1.5", "top_k"),
        ("topk=1", "Expected the query parameter top_k, got 'topk'"),
        ("top_k=1&x=1", "got 'x'"),
        ("top_k=1&top_k=2", "twice"),
    ],
)
def test_a_wrong_query_is_refused(texts, query, message):
    assert message in refused(texts.post(f"/predict?{query}", json={"text": "good"}))


@pytest.mark.parametrize("top_k", [2, 3, 10**30])
def test_more_labels_than_there_are_give_all(texts, top_k):
    (answer,) = answered(texts.post(f"/predict?top_k={top_k}", json={"text": "good"}))["results"]
    assert [each["label"] for each in answer] == ["good", "bad"]


# ---- Tensors


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"data": [[1, 2], [3]]}, "ragged lists"),
        ({"data": [1, [2]]}, "Expected numbers for 'image', got [2]"),
        ({"data": [[1], 2]}, "ragged lists"),
        ({"data": ["a" * 1_000_000, *["b"] * 100_000]}, "Expected numbers for 'image', got 'aaa"),
        ({"data": []}, "Expected 192 numbers for 'image' of shape [1, 8, 8, 3], got 0"),
        ({"data": [[]] * 192}, "Correct the shape or the data"),
        ({"data": 7}, "Expected a list of numbers"),
        ({"data": "7" * 192}, "Expected a list of numbers"),
        ({"data": {}}, "Expected a list of numbers"),
        ({"data": None}, "Expected a list of numbers"),
        ({"data": [7.0] * 191 + [True]}, "Expected numbers for 'image', got True"),
        ({"data": [True] * 192}, "Expected numbers for 'image', got True"),
        ({"data": [7.0] * 191 + [None]}, "Expected numbers for 'image', got None"),
        ({"data": [7.0] * 191 + ["7"]}, "Expected numbers for 'image', got '7'"),
        ({"data": [7.0] * 191 + [{}]}, "Expected numbers for 'image', got {}"),
        ({"data": [[7.0] * 8] * 24}, "flat, or nested as [1, 8, 8, 3], got [24, 8]"),
        ({"shape": [1, 3, 8, 8]}, "as FP32 [-1, 8, 8, 3], got 'FP32' [1, 3, 8, 8]"),
        ({"shape": [8, 8, 3]}, "got 'FP32' [8, 8, 3]"),
        ({"shape": [-1, 8, 8, 3]}, "sizes of 1 or more"),
        ({"shape": []}, "sizes of 1 or more"),
        ({"shape": ["1", 8, 8, 3]}, "sizes of 1 or more"),
        ({"shape": [2**70, 8, 8, 3]}, "Expected 226673591177742970257408 numbers"),
        ({"shape": 192}, "Expected a list for shape of inputs[0], got 192"),
        ({"datatype": "fp32"}, "got 'fp32'"),
        ({"datatype": "UINT8"}, "got 'UINT8'"),
        ({"datatype": 32}, "Expected a string for datatype of inputs[0], got 32"),
        ({"name": ["image"]}, "Expected a string for name of inputs[0]"),
        ({"Data": []}, "Expected only 'name', 'shape', 'datatype', 'data', 'parameters' in inputs[0]"),
        ({"parameters": {"shared_memory_region": "a"}}, "got also 'shared_memory_region'"),
        ({"parameters": {"content_type": "str"}}, "Expected the content_type 'np'"),
        ({"parameters": []}, "Expected an object for parameters"),
    ],
)
def test_a_wrong_tensor_is_refused_with_the_reason(images, changed, message):
    assert message in refused(images.post(INFER, json=image(pixels(7), **changed)))


@pytest.mark.parametrize("size", [-1, "8", 1.5, True, None, 10**30])
def test_a_wrong_size_in_bytes_is_refused(images, size):
    tensor = {"name": "image", "shape": [1, 8, 8, 3], "datatype": "FP32"}
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": size}}]}).encode()
    refused(images.post(INFER, content=head + bytes(768), headers={HEADER: str(len(head))}))


def test_whole_numbers_may_have_a_point_as_in_json(texts):
    request = json.dumps(ids([2, 3])).replace("2,", "2.0,").replace("[1, ", "[1.0, ")
    assert answered(texts.post(INFER, content=request))["outputs"][0]["data"] == pytest.approx([0.5, 0.5])


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"id": 7}, "Expected a string for id, got 7"),
        ({"id": None}, "Expected a string for id"),
        ({"model_name": "classifier"}, "got also 'model_name'"),
        ({"parameters": {"priority": 1}}, "Expected only 'binary_data_output' in the request's parameters"),
        (
            {"parameters": {"binary_data_output": "false"}},
            "true or false for binary_data_output, got 'false'",
        ),
        ({"parameters": []}, "Expected an object for the request's parameters"),
        ({"outputs": {}}, "in a list, got {}"),
        ({"outputs": [{"name": "probabilities"}] * 2}, "once in a list"),
        ({"outputs": [{}]}, "got None"),
        ({"outputs": [{"name": "probabilities", "data": []}]}, "got also 'data'"),
        (
            {"outputs": [{"name": "probabilities", "parameters": {"binary_data": 1}}]},
            "for binary_data, got 1",
        ),
        ({"outputs": [{"name": "probabilities", "parameters": {"x": 1}}]}, "got also 'x'"),
    ],
)
def test_a_wrong_field_of_a_request_is_refused(texts, more, message):
    assert message in refused(texts.post(INFER, json=strings("good", **more)))


def test_the_id_of_a_request_is_echoed_whatever_it_holds(texts):
    for id in ("", "a" * 500, "\ud800", "\0", '"\\'):
        response = texts.post(INFER, content=json.dumps(strings("good", id=id)))
        assert answered(response)["id"] == id


@pytest.mark.parametrize("count", [8, 9])
def test_a_batch_of_more_than_the_queue_holds_is_refused(images, texts, count):
    status = 200 if count == 8 else 413
    requests = [
        (images, image(pixels(*[7] * count))),
        (texts, ids(*[[1]] * count)),
        (texts, strings(*["good"] * count)),
    ]
    for client, request in requests:
        assert client.post(INFER, json=request).status_code == status
    reason = refused(texts.post("/predict", json={"text": ["good"] * 9}), 413)
    assert "Expected at most 8 examples in a request, got 9" in reason


# ---- The classification extension


@pytest.mark.parametrize("name", ["classification", "class_count"])
@pytest.mark.parametrize("count", [1, 2, 9, 10**20, 1.0])
def test_the_most_probable_classes_are_answered(texts, name, count):
    wanted = [{"name": "probabilities", "parameters": {name: count}}]
    answer = answered(texts.post(INFER, json=strings("good", "bad", outputs=wanted)))
    classes, (output,) = min(int(count), 2), answer["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, classes])
    best, other = softmax(0, 1)[::-1]
    good = [f"{best:f}:1:good", f"{other:f}:0:bad"][:classes]
    bad = [f"{best:f}:0:bad", f"{other:f}:1:good"][:classes]
    assert output["data"] == good + bad


def test_the_most_probable_classes_are_answered_in_bytes(images):
    wanted = [{"name": "probabilities", "parameters": {"classification": 1, "binary_data": True}}]
    response = images.post(INFER, json={**image(pixels(0)), "outputs": wanted})
    size = int(response.headers[HEADER])
    (output,) = json.loads(response.content[:size])["outputs"]
    expected = f"{1 / len(COLOURS):f}:0:red".encode()
    assert response.content[size:] == struct.pack("<I", len(expected)) + expected
    assert output["parameters"]["binary_data_size"] == len(expected) + 4


@pytest.mark.parametrize("count", [0, -1, 1.5, "1", True, None, []])
def test_a_wrong_number_of_classes_is_refused(texts, count):
    wanted = [{"name": "probabilities", "parameters": {"classification": count}}]
    assert "a number of classes" in refused(texts.post(INFER, json=strings("good", outputs=wanted)))


def test_two_numbers_of_classes_are_refused(texts):
    wanted = [{"name": "probabilities", "parameters": {"classification": 1, "class_count": 2}}]
    assert "one number of classes" in refused(texts.post(INFER, json=strings("good", outputs=wanted)))


# ---- What the model is


VERSIONS = ["/v2/models/classifier", "/v2/models/classifier/versions/1"]


@pytest.mark.parametrize("base", VERSIONS)
def test_a_version_answers_as_the_model_does(texts, base):
    assert answered(texts.get(base)) == answered(texts.get(VERSIONS[0]))
    assert answered(texts.get(f"{base}/ready")) == {"name": "classifier", "ready": True}
    assert answered(texts.post(f"{base}/infer", json=strings("good")))["model_version"] == "1"
    config = answered(texts.get(f"{base}/config"))
    assert config["input"] == [
        {"name": name, "data_type": "TYPE_INT32", "dims": [-1]} for name in ("token_ids", "padding_mask")
    ]
    assert config["output"] == [{"name": "probabilities", "data_type": "TYPE_FP32", "dims": [2]}]
    assert (config["name"], config["max_batch_size"]) == ("classifier", 8)
    assert json.loads(config["parameters"]["labels"]["string_value"]) == MOODS


@pytest.mark.parametrize("path", ["", "/ready", "/infer", "/config", "/stats"])
@pytest.mark.parametrize(
    "base",
    ["other", "CLASSIFIER", "classifier/versions/2", "classifier/versions/latest", "x/versions/1", "\0"],
)
def test_another_model_or_version_is_not_found(texts, base, path):
    method = "POST" if path == "/infer" else "GET"
    url = f"/v2/models/{base}{path}".replace("\0", "%00")
    assert "Expected the " in refused(texts.request(method, url, json=strings("good")), 404)


def test_stats_count_requests_examples_and_runs_of_the_model(tmp_path):
    with serving(text_run(tmp_path)) as (client, _):
        answered(client.post(INFER, json=strings("good", "bad")))
        answered(client.post("/predict", json={"text": "good"}))
        refused(client.post(INFER, json=ids([1], mask=[[0]])))
        (stats,) = answered(client.get("/v2/models/classifier/stats"))["model_stats"]
        (same,) = answered(client.get("/v2/models/classifier/versions/1/stats"))["model_stats"]
    assert stats == same
    assert (stats["name"], stats["version"], stats["inference_count"]) == ("classifier", "1", 3)
    assert stats["inference_stats"]["success"]["count"] == 2
    assert stats["inference_stats"]["success"]["ns"] > 0
    assert sum(batch["compute_infer"]["count"] for batch in stats["batch_stats"]) == stats["execution_count"]
