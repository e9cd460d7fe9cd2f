"""Measure the server under load: every answer is checked; compared is one example at a time on all cores.

python -m onnx_server.load_test RUN EXAMPLES [--kill 3] [-- SERVER OPTIONS]

EXAMPLES is a folder of images, at any depth, or a file of texts, a line each. The server is started by this
program, on this machine: what the clients need of its cores, the server lacks.
"""

import argparse
import http.client
import itertools
import json
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from .decision import measured as number
from .model import Model
from .settings import cores

_TOLERANCE = 1e-4  # of a probability, or as a share of a number: batches add up in another order
_WHOLE = ("ner", "regression")  # of these tasks a result has no ranked labels, and is compared as it is
_START_S, _GIVE_UP_S = 600, 600


class Server:
    """The server in a subprocess, on a free port.

    Example:
        >>> with Server("runs/flowers", ["--max-batch", "1"]) as server:
        ...     server.rss_mib()
        171.3
    """

    def __init__(self, run, options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._command = [
            sys.executable,
            "-m",
            __package__,
            str(Path(run).resolve()),
            "--port",
            str(self.port),
        ]
        self._command += options

    def __enter__(self):
        folder = Path(__file__).resolve().parents[1]
        self._process = subprocess.Popen(self._command, cwd=folder, stderr=subprocess.DEVNULL)
        until = time.monotonic() + _START_S
        while time.monotonic() < until and self._process.poll() is None:
            try:
                self._get("/readyz")
                return self
            except OSError:
                time.sleep(0.05)
        self.__exit__()
        sys.exit(f"The server did not start: {' '.join(self._command)}")

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait()

    def kill_and_restart(self):
        """End the server without a chance to say goodbye, and start another on the same port."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self.__enter__()

    def metric(self, name):
        """Return one number of /metrics."""
        lines = self._get("/metrics").decode().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))

    def rss_mib(self):
        """Return the resident memory."""
        return self.metric("process_resident_memory_bytes") / 2**20

    def _get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=_GIVE_UP_S) as answer:
            return answer.read()


class Load:
    """Clients that send the next of `count` requests as soon as they have an answer.

    Args:
        port: Of the server on this machine.
        requests: `[(content type, body, probability by label), ...]`, sent in turn.
        thresholds: Of a multi-label classifier the threshold by label. Defaults to `None`.
        persistent: Send again what got no answer, as when the server was killed.

    Attributes:
        latencies: Seconds, of each answer.
        wrong: Answers that differ from the reference.
        errors: Answers of another status than 200, and connections lost for good.
        lost: Connections lost and tried again.
    """

    def __init__(self, port, requests, *, task="single_label", thresholds=None, persistent=False):
        self._port, self._requests, self._persistent = port, requests, persistent
        self._task, self._thresholds = task, thresholds
        self.latencies, self.wrong, self.errors, self.lost = [], 0, 0, 0
        self._lock = threading.Lock()

    def run(self, count, clients):
        """Send so many requests; return the seconds it took."""
        turns = iter(range(count))
        threads = [threading.Thread(target=self._client, args=(turns,)) for _ in range(clients)]
        begin = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return time.perf_counter() - begin

    def _client(self, turns):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_GIVE_UP_S)
        while True:
            with self._lock:
                turn = next(turns, None)
            if turn is None:
                connection.close()
                return
            content_type, body, expected = self._requests[turn % len(self._requests)]
            begin = time.perf_counter()
            query = "" if self._task in _WHOLE else f"?top_k={len(expected)}"
            status, answer = self._ask(connection, content_type, body, query)
            seconds = time.perf_counter() - begin
            with self._lock:
                if status != 200:
                    self.errors += 1
                    continue
                self.latencies.append(seconds)
                self.wrong += not self._right(json.loads(answer), expected)

    def _right(self, answer, expected):
        (found,) = answer["results"]
        if self._task in _WHOLE:
            return _alike(found, expected)
        if self._task == "ordinal" and found[0]["label"] != _middle(expected):
            return False
        found = {each["label"]: each["probability"] for each in found}
        if found.keys() != expected.keys():
            return False
        if any(abs(found[label] - expected[label]) > _TOLERANCE for label in expected):
            return False
        if self._thresholds is None:
            return True
        (chosen,) = answer["labels"]
        chosen = [each["label"] for each in chosen]
        return set(chosen) == {label for label, least in self._thresholds.items() if found[label] >= least}

    def _ask(self, connection, content_type, body, query):
        until = time.monotonic() + _GIVE_UP_S
        while True:
            try:
                connection.request("POST", f"/predict{query}", body, {"Content-Type": content_type})
                answer = connection.getresponse()
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                if not self._persistent or time.monotonic() > until:
                    return None, b""
                with self._lock:
                    self.lost += 1
                time.sleep(0.05)


def _middle(probabilities):
    """The first label up to which the probabilities, in the order of the labels, add up to one half."""
    shares = dict(zip(probabilities, itertools.accumulate(probabilities.values()), strict=True))
    return next(label for label, share in shares.items() if share >= 0.5 * max(shares.values()))


def _alike(found, expected):
    """Whether two results in JSON are the same, but for the last digits of their numbers."""
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(_alike(found[key], expected[key]) for key in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(_alike, found, expected))
    if isinstance(expected, float):
        return abs(found - expected) <= _TOLERANCE * max(1.0, abs(expected))
    return found == expected


def measure(run, requests, options, *, count, clients, kills=0, **facts):
    """Return what one server does under load, as a dictionary of JSON values."""
    with Server(run, options) as server:
        Load(server.port, requests, **facts).run(4 * clients, clients)
        load = Load(server.port, requests, persistent=bool(kills), **facts)
        before = server.rss_mib()
        cpu = server.metric("process_cpu_seconds_total")
        killer = threading.Thread(target=_kill, args=(server, load, count, kills))
        killer.start()
        seconds = load.run(count, clients)
        killer.join()
        batches = server.metric("onnx_server_batch_size_sum") / server.metric("onnx_server_batch_size_count")
        percentiles = statistics.quantiles(load.latencies, n=100) if len(load.latencies) > 1 else [0] * 99
        return {
            "options": options,
            "requests": count,
            "clients": clients,
            "per_second": round(count / seconds, 1),
            "server_cpu_ms": None
            if kills
            else round(1000 * (server.metric("process_cpu_seconds_total") - cpu) / count, 2),
            **{f"p{rank}_ms": round(1000 * percentiles[rank - 1], 1) for rank in (50, 95, 99)},
            "errors": load.errors,
            "wrong_answers": load.wrong,
            "kills": kills,
            "lost_connections": load.lost,
            "examples_per_batch": round(batches, 2),
            "rss_mib": [round(before, 1), round(server.rss_mib(), 1)],
        }


def _kill(server, load, count, kills):
    for turn in range(1, kills + 1):
        while len(load.latencies) + load.errors < turn * count / (kills + 1):
            time.sleep(0.01)
        server.kill_and_restart()


def prepare(run, examples):
    """Return the requests of all examples, with the answers of the model run on each alone; task and thresholds."""
    model = Model(run, threads=cores())
    if model.read.kind == "text":
        bodies = [line for line in examples.read_text(encoding="utf-8").splitlines() if line.strip()]
        if model.read.texts == 2:
            bodies = [body.split("\t")[:2] for body in bodies if "\t" in body]
        requests = [("application/json", json.dumps({"text": body}).encode(), body) for body in bodies]
    else:
        files = sorted(
            path for path in examples.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")
        )
        requests = [(*_form(path.read_bytes()), path.read_bytes()) for path in files]
    if not requests:
        sys.exit(f"{examples} has no examples: pass a folder of images, or a file of texts.")
    thresholds = model.thresholds
    if thresholds is not None:
        thresholds = dict(zip(model.labels, thresholds.tolist(), strict=True))
    answered = [(kind, body, _expected(model, example)) for kind, body, example in requests]
    return answered, {"task": model.task, "thresholds": thresholds}


def _expected(model, example):
    """The result of one example: entities, a number with its interval, or the probability of each label."""
    row = model.read(example)
    if model.task == "ner":
        return model.read.found(row, [model([window])[0] for window in row])
    (answer,) = model([row])
    if model.task == "regression":
        return number(answer, model.labels, model.interval)
    return dict(zip(model.labels, map(float, answer), strict=True))


def _form(image):
    boundary = b"ktransfer-load-test"
    head = (
        b'Content-Disposition: form-data; name="image"; filename="image"\r\nContent-Type: image/jpeg\r\n\r\n'
    )
    body = b"--" + boundary + b"\r\n" + head + image + b"\r\n--" + boundary + b"--\r\n"
    return f"multipart/form-data; boundary={boundary.decode()}", body


def main():
    parser = argparse.ArgumentParser(prog="load_test", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument(
        "examples",
        type=Path,
        help="a folder of images, or a file of texts, a line each; of pairs a tab between both",
    )
    parser.add_argument("--requests", type=int, default=2000, help="of each measurement (%(default)s)")
    parser.add_argument("--clients", type=int, default=32, help="at the same time (%(default)s)")
    parser.add_argument("--rounds", type=int, default=1, help="of both, in turn (%(default)s)")
    parser.add_argument(
        "--kill", type=int, default=0, metavar="N", help="kill and restart it N times instead"
    )
    parser.add_argument("options", nargs="*", help="of the server, after --")
    arguments = parser.parse_args()
    requests, facts = prepare(arguments.run, arguments.examples)
    common = {"count": arguments.requests, "clients": arguments.clients, **facts}
    if arguments.kill:
        measured = [measure(arguments.run, requests, arguments.options, kills=arguments.kill, **common)]
        print(json.dumps(measured[0]))
    else:
        measured, one_by_one = [], ["--max-batch", "1", "--workers", "1", "--threads", str(cores())]
        for _, options in itertools.product(range(arguments.rounds), ([], one_by_one)):
            measured.append(measure(arguments.run, requests, [*arguments.options, *options], **common))
            print(json.dumps(measured[-1]), flush=True)
        batched, single = (
            statistics.median(each["per_second"] for each in measured[start::2]) for start in (0, 1)
        )
        print(f"micro-batching {batched:.1f}/s, one by one {single:.1f}/s: {batched / single:.2f}x")
    sys.exit(any(each["errors"] or each["wrong_answers"] for each in measured))


if __name__ == "__main__":
    main()
