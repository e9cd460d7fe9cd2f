"""Pages that `ktransfer export --format web` wrote, hosted by a plain server and opened in a browser."""

import contextlib
import functools
import http.server
import threading
import time

import pytest

from ktransfer.errors import ExportError
from ktransfer.exporting.web.packages import LITERT, LITERT_UTILS, RUNTIME, TOKENIZERS, find_package

_LONG = 600  # seconds, for an answer on a busy machine


def require_packages():
    """Skip where npm has not installed what a page loads."""
    for package in (LITERT, LITERT_UTILS, RUNTIME, TOKENIZERS):
        try:
            find_package(package)
        except ExportError:
            pytest.skip(f"{package.name} is not here: npm install --prefix export/web")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def hosted(folder):
    """The address of a folder, hosted as `python -m http.server` does."""
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def open_page(browser, address):
    """Open a page and wait until it has loaded its model; return its status line."""
    browser.set_script_timeout(_LONG)
    browser.get(address)
    return wait_for(browser, lambda line: line != "Loading the model.")


def wait_for(browser, holds):
    end = time.monotonic() + _LONG
    while not holds(line := browser.find_element("id", "status").text):
        assert time.monotonic() < end, line
        time.sleep(0.05)
    return line


def run_script(browser, body, *arguments):
    """The value of an asynchronous function of these arguments, `given`, in the page."""
    script = (
        "const given = [...arguments], done = given.pop();"
        f"(async () => {{ {body} }})().then(value => done({{value}}), error => done({{error: error.message}}));"
    )
    found = browser.execute_async_script(script, *arguments)
    assert "error" not in found, found["error"]
    return found["value"]


def answers_to_files(browser, names):
    """The probabilities of each label of image files of the host, by their addresses."""
    return run_script(
        browser,
        "const [names] = given, found = [];"
        "for (const name of names) {"
        "  const blob = await (await fetch(name)).blob();"
        "  found.push((await classifier.image(blob)).predictions.map(one => [one.label, one.probability]));"
        "} return found;",
        list(names),
    )


def answers_to_texts(browser, texts):
    """The probabilities of each label of texts."""
    return run_script(
        browser,
        "const [texts] = given, found = [];"
        "for (const text of texts)"
        "  found.push((await classifier.text(text)).predictions.map(one => [one.label, one.probability]));"
        "return found;",
        list(texts),
    )
