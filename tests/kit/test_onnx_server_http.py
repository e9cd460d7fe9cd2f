"""The ONNX server: compressed bodies, methods, other origins, what is counted, and what it needs to run."""

import asyncio
import gzip
import json
import re
import socket
import zlib
from pathlib import Path

import pytest
from exporting import KIT
from fastapi import FastAPI
from onnx_server.metrics import MeasureRequests, Metrics
from onnx_server.settings import Settings
from onnx_server_runs import PATIENCE_S, Held, image_run, png, serving, text_run

INFER = "/v2/models/classifier/infer"
BODY = json.dumps({"text": ["good", "bad bad"]}).encode()
JSON = {"content-type": "application/json"}
LIMIT = 200_000
GETS = (
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/v2",
    "/v2/health/live",
    "/v2/health/ready",
    *(
        f"/v2/models/classifier{version}{path}"
        for version in ("", "/versions/1")
        for path in ("", "/ready", "/config", "/stats")
    ),
)
POSTS = ("/predict", INFER, "/v2/models/classifier/versions/1/infer")


@pytest.fixture(scope="module")
def moods(tmp_path_factory):
    return text_run(tmp_path_factory.mktemp("moods"))


@pytest.fixture(scope="module")
def client(moods):
    with serving(moods, max_request_mib=LIMIT / 2**20) as (client, _):
        yield client


def counted(client, route, status):
    """How often the metrics have a route with a status."""
    found = re.search(
        rf'requests_total{{route="{re.escape(route)}",status="{status}"}} ([\d.]+)',
        client.get("/metrics").text,
    )
    return float(found[1]) if found else 0.0


def refused(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    (reason,) = response.json().values()
    assert list(response.json()) == ["error"]
    return reason


def post(client, body, coding, path="/predict"):
    return client.post(path, content=body, headers={**JSON, "content-encoding": coding})


def bomb(size=10 * LIMIT):
    return gzip.compress(bytes(size), mtime=0)


# ---- Compressed bodies


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(BODY, mtime=0)),
        ("x-gzip", gzip.compress(BODY, mtime=0)),
        ("GZIP", gzip.compress(BODY, mtime=0)),
        ("gzip", gzip.compress(BODY[:9], mtime=0) + gzip.compress(BODY[9:], mtime=0)),
        ("deflate", zlib.compress(BODY)),
        ("identity", BODY),
        ("identity, gzip", gzip.compress(BODY, mtime=0)),
        ("", BODY),
    ],
)
def test_a_compressed_body_is_answered_as_the_plain_one(client, coding, body):
    plain = client.post("/predict", content=BODY, headers=JSON)
    assert post(client, body, coding).json() == plain.json()


def test_a_compressed_body_with_tensors_in_bytes_is_answered(client):
    tensor = {"name": "text", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 8}}
    head = json.dumps({"inputs": [tensor]}).encode()
    headers = {"content-encoding": "gzip", "Inference-Header-Content-Length": str(len(head))}
    response = client.post(INFER, content=gzip.compress(head + b"\4\0\0\0good", mtime=0), headers=headers)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "gzip, br", "utf-8", "*", "\xff"])
def test_another_encoding_is_refused_with_those_that_are_taken(client, coding):
    before = counted(client, "/predict", 415)
    response = post(client, BODY, coding.encode("latin-1"))
    assert "a Content-Encoding of gzip or deflate" in refused(response, 415)
    assert response.headers["accept-encoding"] == "gzip, deflate"
    assert counted(client, "/predict", 415) == before + 1


@pytest.mark.parametrize(
    ("coding", "body", "status", "message"),
    [
        ("gzip", bomb(), 413, "unpack to more"),
        ("gzip", gzip.compress(bomb(10**7), mtime=0), 400, "not UTF-8"),  # is unpacked once
        ("gzip", gzip.compress(b"", mtime=0)[:-8] * 9 + bomb(), 400, "gzip"),
        ("gzip", gzip.compress(b"", mtime=0) * 15 + bomb(), 413, "unpack to more"),
        ("gzip", gzip.compress(b"", mtime=0) * 5000, 400, "bytes behind the end"),
        ("deflate", zlib.compress(bytes(10 * LIMIT)), 413, "unpack to more"),
        ("gzip", b"", 400, "the end is missing"),
        ("gzip", BODY, 400, "incorrect header"),
        ("gzip", gzip.compress(BODY, mtime=0)[:-9], 400, "the end is missing"),
        ("gzip", gzip.compress(BODY, mtime=0)[:-8] + bytes(8), 400, "incorrect data check"),
        ("gzip", gzip.compress(BODY, mtime=0) + b"more", 400, "incorrect header"),
        ("deflate", zlib.compress(BODY) + b"more", 400, "4 bytes behind the end"),
        ("deflate", gzip.compress(BODY, mtime=0), 400, "incorrect header"),
        ("gzip", zlib.compress(BODY), 400, "incorrect header"),
    ],
)
def test_a_broken_or_swollen_body_is_refused(client, coding, body, status, message):
    before = counted(client, "/predict", status)
    assert message in refused(post(client, body, coding), status)
    assert counted(client, "/predict", status) == before + 1


def test_unpacked_bodies_count_against_the_limit_of_all_together(moods):
    with serving(moods, max_held_mib=0.1) as (client, _):
        assert "bytes together" in refused(post(client, bomb(10**6), "gzip"), 503)
        assert (
            post(client, gzip.compress(BODY, mtime=0), "gzip").status_code == 200
        )  # nothing is held any more


# ---- Methods


@pytest.mark.parametrize("path", GETS)
def test_head_answers_as_get_without_the_body(client, path):
    answer, head = client.get(path), client.head(path)
    assert (answer.status_code, head.status_code, head.content) == (200, 200, b"")
    assert head.headers["content-type"] == answer.headers["content-type"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [(method, path, "GET, HEAD") for path in GETS for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS")]
    + [(method, path, "POST") for path in POSTS for method in ("GET", "HEAD", "PUT", "OPTIONS", "TRACE")],
)
def test_another_method_is_refused_with_those_that_are_taken(client, method, path, allowed):
    response = client.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)
    if method != "HEAD":
        assert f"expected {allowed} for '{path}', got '{method}'" in refused(response, 405)


def test_refusals_are_counted_under_their_route_and_status(client):
    infer = "/v2/models/{model_name}/infer"
    for method, path, route, status, options in (
        ("POST", INFER, infer, 400, {"content": b"{"}),
        ("POST", INFER, infer, 413, {"content": bytes(LIMIT + 1)}),
        ("POST", INFER, infer, 415, {"content": b"", "headers": {"content-encoding": "br"}}),
        ("GET", INFER, infer, 405, {}),
        ("POST", "/v2/models/other/infer", infer, 404, {}),
        ("POST", "/predict", "/predict", 415, {}),
        ("GET", "/nowhere", "unmatched", 404, {}),
        ("GET", "/v2/models/other/versions/7", "/v2/models/{model_name}/versions/{model_version}", 404, {}),
    ):
        before = counted(client, route, status)
        refused(client.request(method, path, **options), status)
        assert counted(client, route, status) == before + 1, (method, path)


def test_an_answer_is_counted_before_its_last_byte_leaves():
    metrics, seen = Metrics(pending=lambda: 0), []

    async def answers(scope, receive, send):
        await send({"type": "http.response.start", "status": 413})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await send({"type": "http.response.body", "body": b"b"})

    async def send(message):
        seen.append(b'route="unmatched",status="413"} 1.0' in metrics.text())

    measured = MeasureRequests(answers, metrics=metrics)
    scope = {"type": "http", "app": FastAPI(), "path": "/", "method": "GET", "headers": []}
    asyncio.run(measured(scope, None, send))
    assert seen == [False, False, True]
    assert b'route="unmatched",status="413"} 1.0' in metrics.text()


def test_an_answer_of_nan_is_counted_under_its_route_and_status(tmp_path):
    with serving(image_run(tmp_path, relative=True)) as (client, _):
        refused(client.post("/predict", files={"image": png("red")}), 422)
        assert counted(client, "/predict", 422) == 1
        assert counted(client, "/predict", 500) == counted(client, "/predict", "none") == 0


def test_a_bug_is_answered_in_json_and_counted(moods, monkeypatch):
    def broken(self, rows):
        raise ZeroDivisionError("nobody thought of it")

    monkeypatch.setattr(Held, "__call__", broken)
    with serving(moods, hold=True) as (client, _):
        assert "its log says why" in refused(client.post("/predict", json={"text": "good"}), 500)
        assert counted(client, "/predict", 500) == 1
        assert client.get("/healthz").status_code == 200


# ---- HTTP itself


def exchanged(client, sent):
    with socket.create_connection(
        (client.base_url.host, client.base_url.port), timeout=PATIENCE_S
    ) as connection:
        connection.sendall(sent)
        received = b""
        while part := connection.recv(65536):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    return head.decode(), body


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost : a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_what_is_no_http_is_answered_in_json_and_counted(client, sent):
    before = counted(client, "unparsed", 400)
    head, body = exchanged(client, sent)
    assert head.startswith("HTTP/1.1 400 ")
    assert json.loads(body)["error"].startswith("Expected a request in HTTP/1.1")
    assert counted(client, "unparsed", 400) == before + 1


def test_a_body_in_chunks_is_answered(client):
    def chunks():
        for at in range(len(BODY)):
            yield BODY[at : at + 1]

    assert client.post("/predict", content=chunks(), headers=JSON).status_code == 200


# ---- Other origins


PREFLIGHT = {"origin": "https://a.example", "access-control-request-method": "POST"}


def test_without_the_option_there_are_no_headers_for_other_origins(client):
    response = client.get("/healthz", headers={"origin": "https://a.example"})
    assert not [name for name in response.headers if name.startswith("access-control")]
    refused(client.options("/predict", headers=PREFLIGHT), 405)


@pytest.mark.parametrize("origins", ["https://a.example", "https://b.example, https://a.example", "*"])
def test_other_origins_are_allowed_by_an_option(moods, origins):
    with serving(moods, cors_origins=origins, max_request_mib=0.001) as (client, _):
        allowed = client.options(INFER, headers={**PREFLIGHT, "access-control-request-headers": "x-a"})
        assert allowed.status_code == 200
        expected = "*" if origins == "*" else "https://a.example"
        for response in (
            allowed,
            client.post("/predict", json={"text": "good"}, headers=PREFLIGHT),
            client.post("/predict", content=bytes(9999), headers=PREFLIGHT),  # 413
            client.get("/nowhere", headers=PREFLIGHT),
        ):
            assert response.headers["access-control-allow-origin"] == expected
        assert counted(client, "/v2/models/{model_name}/infer", 200) == 1


@pytest.mark.parametrize(
    "headers",
    [{"origin": "https://c.example"}, {"origin": "null"}, {"access-control-request-method": "DELETE"}],
)
def test_a_preflight_request_that_is_not_allowed_is_refused_in_json(moods, headers):
    with serving(moods, cors_origins="https://a.example") as (client, _):
        reason = refused(client.options("/predict", headers={**PREFLIGHT, **headers}), 400)
        assert "Expected an origin of the option --cors-origins" in reason


@pytest.mark.parametrize(
    "origins", ["a.example", "https://a.example/", "https://a.example/x", "ftp://a", "null"]
)
def test_what_is_no_origin_is_refused_at_the_start(capsys, origins):
    with pytest.raises(SystemExit):
        Settings.parse(["run", "--cors-origins", f"https://b.example,{origins}"])
    assert f"got '{origins}'" in capsys.readouterr().err


# ---- The documents


def test_the_document_lists_every_route_with_its_errors(client):
    document = client.get("/openapi.json").json()
    paths = {
        path.replace("classifier", "{model_name}").replace("/1", "/{model_version}") for path in GETS + POSTS
    }
    assert set(document["paths"]) == paths - {"/openapi.json"}
    ids = []
    for path, operations in document["paths"].items():
        assert set(operations) in ({"get", "head"}, {"post"}), path
        for operation in operations.values():
            ids.append(operation["operationId"])
            errors = {status: each for status, each in operation["responses"].items() if status != "200"}
            wanted = {"400", "404", "422", "500", "503"}
            assert wanted <= set(errors)
            for error in errors.values():
                assert list(error["content"]) == ["application/json"]
                assert error["content"]["application/json"]["schema"]["required"] == ["error"]
        if "post" in operations:
            assert {"408", "413", "415", "429", "504"} <= set(operations["post"]["responses"])
    assert len(set(ids)) == len(ids)


def test_the_image_and_what_is_installed_in_it_are_pinned():
    folder = KIT / "onnx_server"
    assert re.search(
        r"^FROM python:\d+\.\d+\.\d+-slim-\w+$",
        (folder / "Dockerfile").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    assert "--require-hashes" in (folder / "Dockerfile").read_text(encoding="utf-8")
    pins = _pins(folder / "requirements.txt")
    wanted = re.findall(
        r"^([a-z-]+)>=", (folder / "requirements.in").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert wanted
    assert set(wanted) <= {name for name, _ in pins}
    locked = _pins(Path(__file__).parents[2] / "requirements.lock")
    tested = {name for name, _ in locked}
    assert {pin for pin in pins if pin[0] in tested} <= locked


def _pins(path):
    """`{(name, version)}` of a file in which every requirement is exact and has a hash."""
    entries = re.split(
        r"\n(?=\S)", re.sub(r"^\s*#.*\n", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE).strip()
    )
    found = set()
    for entry in entries:
        name, version = re.match(r"([\w.-]+)==([\w.!+-]+)", entry).groups()
        assert "--hash=sha256:" in entry, entry
        found.add((name, version))
    return found
