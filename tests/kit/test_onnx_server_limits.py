"""The ONNX server: what it does with requests that are wrong, huge, slow or too many."""

import base64
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from onnx_server_runs import COLOURS, PATIENCE_S, image_run, png, serving, text_run, wait_for

MIB = 2**20


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    return image_run(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="module")
def client(colours):
    with serving(colours, max_request_mib=0.5, max_megapixels=1.0) as (client, _):
        yield client


@pytest.fixture(scope="module")
def hasty(colours):
    """A client of a server that waits half a second for a request."""
    with serving(colours, read_timeout_s=0.5) as (client, _):
        yield client


@pytest.fixture(autouse=True)
def _still_answers(client):
    """Whatever a test sends, the next client is answered."""
    yield
    answer = client.post("/predict", files={"image": png("green")}).json()
    assert answer["results"][0][0]["label"] == "green"


def error(response, status):
    assert response.status_code == status, response.text
    return response.json()["error"]


def connection(client):
    return socket.create_connection((client.base_url.host, client.base_url.port), timeout=PATIENCE_S)


def everything(opened):
    received = b""
    try:
        while part := opened.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got 0 bytes of none"),
        (b"<html></html>", "which begin with b'<html></'"),
        (png("red", (64, 64))[:60], "Expected a whole image file"),
        (png("red", (64, 64), "JPEG")[:400], "Expected a whole image file"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "Expected an image file"),
    ],
)
def test_what_is_no_image_is_refused(client, content, message):
    assert message in error(client.post("/predict", files={"image": content}), 400)


def test_a_decompression_bomb_is_refused_before_it_is_decoded(client):
    bomb = png("red", (1001, 1000))
    assert len(bomb) < 10_000
    assert "at most 1,000,000 pixels" in error(client.post("/predict", files={"image": bomb}), 413)


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        ({"json": {"image": "no base64!"}}, 400, "base64"),
        ({"json": {"image": 7}}, 400, "base64"),
        ({"json": {"image": []}}, 400, "a list of them"),
        ({"json": {"text": "good"}}, 400, '"image"'),
        ({"json": ["image"]}, 400, "not an object"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 400, "got b'{'"),
        ({"content": b"[" * 99999, "headers": {"content-type": "application/json"}}, 400, "JSON"),
        ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "multipart form"),
        ({"content": png("red"), "headers": {"content-type": "text/plain"}}, 415, "'text/plain'"),
        ({"content": b""}, 415, "multipart/form-data, image/* or application/json"),
        ({"files": {"picture": png("red")}}, 400, "got 'picture'"),
        ({"files": {"image": png("red")}, "params": {"top_k": 0}}, 400, "top_k"),
    ],
)
def test_a_request_of_another_form_is_told_what_was_expected(client, options, status, message):
    assert message in error(client.post("/predict", **options), status)


def test_images_are_no_texts(tmp_path):
    with serving(text_run(tmp_path)) as (client, _):
        assert "'multipart/form-data'" in error(client.post("/predict", files={"image": png("red")}), 415)
        assert "text[1]: Expected a text, got None" in error(
            client.post("/predict", json={"text": ["good", None]}), 400
        )


def test_a_huge_request_is_refused_by_its_declared_length(client):
    with connection(client) as opened:
        opened.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n")
        received = everything(opened)
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"at most 524,288 bytes" in received


def test_a_chunked_request_that_never_ends_is_refused_at_the_limit(client):
    def endless():
        while True:
            yield bytes(65536)

    assert "at most 524,288 bytes" in error(client.post("/predict", content=endless()), 413)


def test_a_request_that_stops_half_way_is_refused_in_time(hasty):
    with connection(hasty) as opened:
        opened.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
        received = everything(opened)  # head and body may come apart
    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"3 bytes of it" in received


@pytest.mark.parametrize("head", [b"", b"POST /predict HTTP/1.1\r\nHost: a\r\nX-Slow: "])
def test_a_client_that_never_comes_to_the_point_is_cut_off(hasty, head):
    with connection(hasty) as opened:
        opened.sendall(head)
        assert everything(opened) == b""


def test_a_head_that_never_ends_is_cut_off_by_its_size(client):
    with connection(client) as opened, pytest.raises((ConnectionResetError, BrokenPipeError)):
        opened.sendall(b"GET /healthz HTTP/1.1\r\n" + b"X-More: 1\r\n" * 1_000_000)


def test_a_connection_that_pauses_between_requests_is_kept(hasty):
    with httpx.Client(base_url=hasty.base_url, timeout=PATIENCE_S) as patient:
        for _ in range(2):
            assert patient.get("/healthz").status_code == 200
            time.sleep(0.8)  # longer than a request may take to arrive


def test_beyond_the_queue_clients_are_told_to_come_again(colours):
    with serving(colours, hold=True, max_pending=2) as (client, model), ThreadPoolExecutor(2) as clients:
        posted = [clients.submit(client.post, "/predict", files={"image": png(c)}) for c in COLOURS[:2]]
        wait_for(lambda: "onnx_server_pending 2.0" in client.get("/metrics").text)
        refused = client.post("/predict", files={"image": png("blue")})
        assert "got 2 examples that wait" in error(refused, 429)
        assert refused.headers["retry-after"] == "1"
        assert client.get("/readyz").status_code == 503
        assert client.get("/healthz").status_code == 200
        model.go.set()
        assert [each.result().json()["results"][0][0]["label"] for each in posted] == COLOURS[:2]
        assert client.get("/readyz").status_code == 200


def test_a_request_of_more_examples_than_the_queue_holds_is_refused_for_good(colours):
    image = base64.b64encode(png("red")).decode()
    with serving(colours, max_pending=2) as (client, _):
        refused = client.post("/predict", json={"image": [image] * 3})
    assert "at most 2 examples" in error(refused, 413)
    assert "retry-after" not in refused.headers


def test_an_answer_that_takes_too_long_is_given_up_and_its_place_is_free_again(colours):
    with serving(colours, hold=True, answer_timeout_s=0.2, workers=1) as (client, model):
        assert "within 0.2 s" in error(client.post("/predict", files={"image": png("red")}), 504)
        assert "onnx_server_pending 0.0" in client.get("/metrics").text
        model.go.set()
        wait_for(lambda: client.post("/predict", files={"image": png("red")}).status_code == 200)


def test_requests_in_progress_are_bounded_and_the_health_is_told_all_the_same(colours):
    with serving(colours, max_requests=1) as (client, _):
        with connection(client) as slow:
            slow.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
            refused = []

            def full():
                refused.append(client.post("/predict", files={"image": png("red")}))
                return refused[-1].status_code == 503

            wait_for(full)
            assert refused[-1].headers["retry-after"] == "1"
            assert client.get("/healthz").status_code == 200
        wait_for(lambda: client.post("/predict", files={"image": png("red")}).status_code == 200)


def test_bodies_of_all_requests_together_are_bounded(colours):
    with serving(colours, max_held_mib=0.2) as (client, _):
        with connection(client) as slow:
            head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n"
            slow.sendall(head + bytes(200_000))
            refused = None
            for _ in range(100):
                refused = client.post("/predict", files={"image": bytes(30_000)})
                if refused.status_code == 503:
                    break
            assert "bytes together" in error(refused, 503)
        # The bytes of a client that is gone are held no more.
        wait_for(lambda: client.post("/predict", files={"image": bytes(30_000)}).status_code == 400)
