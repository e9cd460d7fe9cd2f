"""Real files damaged on purpose, and a watch over what a loader does with them."""

import contextlib
import copy
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import strategies as st

# A loader takes milliseconds. Of the processor, for a loop that goes on; of the clock, for a wait.
CPU_SECONDS, SECONDS = 60, 600

_DEEP = [[]]
for _ in range(300):
    _DEEP = [_DEEP]
STRANGE = (
    *(None, True, False, 0, -1, 1, 2**31, 10**30, -0.5, 1e308, float("inf"), float("nan")),
    *("", "x", "../../outside", "/etc/passwd", "\x1b[2J", "\ud800", "\0", "a\nb", "x" * 5_000, "hf://a/b"),
    *([], {}, [None], [[[]]], {"a": 1}, {"class_name": "Lambda"}, _DEEP),
)
# A configuration of Keras is a network to be built: how large is not bounded (SECURITY.md).
SMALL = tuple(value for value in STRANGE if not isinstance(value, float) and value not in (2**31, 10**30))


def nodes(tree, path=()):
    """Paths of everything in a tree of JSON."""
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from nodes(value, (*path, key))


@st.composite
def damaged_trees(draw, tree, strange=STRANGE):
    """`tree` with one to three nodes replaced, dropped, added to or exchanged."""
    tree = copy.deepcopy(tree)
    for _ in range(draw(st.integers(1, 3))):
        paths = list(nodes(tree))
        *way, last = draw(st.sampled_from(paths)) or (None,)
        value = copy.deepcopy(draw(st.sampled_from(strange)))
        if last is None:
            return value if draw(st.booleans()) else tree
        parent = tree
        for key in way:
            parent = parent[key]
        match draw(st.sampled_from(("replace", "drop", "add", "exchange"))):
            case "replace":
                parent[last] = value
            case "drop":
                del parent[last]
            case "add" if isinstance(parent, dict):
                parent[draw(st.sampled_from(("x", "module", "class_name", "../x", "")))] = value
            case "add":
                parent.insert(0, value)
            case "exchange":
                other = tree
                for key in draw(st.sampled_from(paths)):
                    other = other[key] if isinstance(other, dict | list) and key in _keys(other) else other
                parent[last] = copy.deepcopy(other)
    return tree


def _keys(value):
    return value.keys() if isinstance(value, dict) else range(len(value))


@st.composite
def damaged_bytes(draw, content):
    """`content` cut off, with bytes changed, put in, or one piece copied over another."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(content) - 1, 0)))
        match draw(st.sampled_from(("flip", "cut", "insert", "copy", "number"))):
            case "flip" if content:
                content[at] ^= 1 << draw(st.integers(0, 7))
            case "cut":
                del content[at : at + draw(st.sampled_from((1, 4, 64, len(content))))]
            case "insert":
                content[at:at] = draw(st.binary(max_size=16))
            case "copy":
                source = draw(st.integers(0, max(len(content) - 1, 0)))
                content[at : at + 16] = content[source : source + 16]
            case "number":
                content[at : at + 4] = draw(st.sampled_from((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff")))
    return bytes(content)


class TookTooLong(BaseException):
    """Of no kind that a loader may take for a damaged file."""


class Watch:
    """A folder to damage files in, and what may not happen around it.

    Args:
        root: An empty folder; `inside` is made in it and `outside` beside that.

    Attributes:
        cases: How many loads were watched.
    """

    def __init__(self, root):
        self.inside, self.outside = root / "inside", root / "outside"
        for folder in (self.inside, self.outside):
            folder.mkdir()
        (self.outside / "precious").write_text("untouched")
        (root / "precious").write_text("untouched")
        self._root = root
        self._before = self._around()
        self.cases, self.slowest, self._watching, self._seen = 0, 0.0, False, []
        allowed = (str(self.inside.resolve()), str(Path(tempfile.gettempdir(), "tmp").resolve()))
        packages = tuple(str(Path(path).resolve()) for path in sys.path if path)

        def hook(event, arguments):  # one cannot be taken away again
            if not self._watching:
                return
            if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system", "os.exec"):
                self._seen.append((event, arguments))
            elif event in ("open", "os.remove", "os.rename", "os.mkdir", "os.symlink", "os.link"):
                if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                    return
                # What Python compiles lies beside its modules.
                path = os.path.realpath(arguments[0]) if isinstance(arguments[0], str | bytes | Path) else ""
                path = os.fsdecode(path)
                if path and path != os.devnull and not path.startswith((*allowed, *packages)):
                    self._seen.append((event, arguments))

        sys.addaudithook(hook)

    @contextlib.contextmanager
    def load(self):
        """A block that loads: within the limits of time, and without doing anything elsewhere."""

        def end(*_):
            raise TookTooLong

        limits = {
            signal.SIGALRM: (signal.ITIMER_REAL, SECONDS),
            signal.SIGPROF: (signal.ITIMER_PROF, CPU_SECONDS),
        }
        previous = {number: signal.signal(number, end) for number in limits}
        for timer, seconds in limits.values():
            signal.setitimer(timer, seconds)
        self._seen.clear()
        self._watching, start = True, time.perf_counter()
        try:
            yield
        finally:
            for timer, _ in limits.values():
                signal.setitimer(timer, 0)
            self._watching = False
            for number, handler in previous.items():
                signal.signal(number, handler)
            self.cases += 1
            self.slowest = max(self.slowest, time.perf_counter() - start)
        assert not self._seen
        assert self._around() == self._before

    def _around(self):
        return {
            path: (path.stat().st_size, path.stat().st_mtime_ns)
            for path in (self._root / "precious", *self.outside.rglob("*"), self.outside)
        }
