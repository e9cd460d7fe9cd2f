"""Settings, from the command line or environment variables."""

import argparse
import os
import re
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path

PREFIX = "ONNX_SERVER_"


def cores():
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _option(default, help, least=1):
    return field(default=default, metadata={"help": help, "least": least})


@dataclass(frozen=True)
class Settings:
    """The server's settings; each is `--name-of-it` and `ONNX_SERVER_NAME_OF_IT`, the former wins.

    Example:
        >>> Settings.parse(["runs/flowers", "--max-batch", "4"]).max_batch
        4
    """

    run: Path = field(metadata={"help": "a run folder, or the artifacts folder in it"})
    name: str = _option("classifier", "name of the model under /v2/models")
    host: str = _option("127.0.0.1", "address to listen on; 0.0.0.0 for all")
    port: int = _option(8000, "port to listen on", 0)
    adapter: str = _option(
        "", "a run on the same backbone, as NAME=RUN; may be given several times, or with commas"
    )
    top_k: int = _option(5, "labels in an answer of /predict, where the request does not say")
    max_batch: int = _option(4, "most examples in one run of the model; 1 for one by one")
    max_wait_ms: float = _option(2.0, "longest that an example waits for others, ms", 0)
    workers: int = _option(cores(), "batches run at the same time; the default is this machine's cores")
    threads: int = _option(1, "cores for each batch")
    max_pending: int = _option(256, "most examples taken in and not answered; 429 beyond")
    max_request_mib: float = _option(10.0, "largest request, MiB; 413 beyond", 0)
    max_held_mib: float = _option(512.0, "most of all requests together, MiB; 503 beyond", 0)
    max_megapixels: float = _option(40.0, "largest image, million pixels; 413 beyond", 0)
    max_requests: int = _option(512, "most requests with a body in progress; 503 beyond")
    cors_origins: str = _option("", "origins of web pages that may call the server, with commas; * for all")
    read_timeout_s: float = _option(10.0, "longest that a request takes to arrive, seconds; 408 beyond", 0)
    answer_timeout_s: float = _option(30.0, "longest that an answer takes, seconds; 504 beyond", 0)

    @classmethod
    def parse(cls, arguments=None):
        """Return the settings of a command line; exits with a message where it cannot be understood."""
        parser = argparse.ArgumentParser(prog="onnx_server", description="Serve the ONNX artifact of a run.")
        for option in fields(cls):
            variable = PREFIX + option.name.upper()
            default = os.environ.get(variable, None if option.default is MISSING else option.default)
            settings = {"type": option.type, "default": default, "help": option.metadata["help"]}
            if option.default is MISSING:
                parser.add_argument(option.name, nargs="?" if default else None, **settings)
            else:
                settings["help"] += " (%(default)s)"
                if option.name == "adapter":
                    settings = {"action": "append", "help": option.metadata["help"]}
                parser.add_argument(f"--{option.name.replace('_', '-')}", metavar="N", **settings)
        values = vars(parser.parse_args(arguments))
        values["adapter"] = ",".join(values["adapter"] or [os.environ.get(PREFIX + "ADAPTER", "")])
        parsed = cls(**values)
        for option in fields(cls):
            least, value = option.metadata.get("least"), getattr(parsed, option.name)
            if isinstance(value, int | float) and not value >= least:
                parser.error(f"expected {option.name} of at least {least}, got {value}. Set a larger one.")
        for origin in parsed.origins:
            if origin != "*" and not re.fullmatch(r"https?://[^/?#\s]+", origin):
                parser.error(
                    f"expected * or origins such as https://example.org in cors_origins, got {origin!r}. "
                    "Write scheme, host and port alone."
                )
        given = parsed.adapter.split(",") if parsed.adapter else []
        for entry in given:
            if not re.fullmatch(r"[A-Za-z0-9_.-]+=.+", entry.strip()):
                parser.error(
                    f"expected adapters as NAME=RUN, a name of letters, digits, _, . and -, got {entry!r}. Correct it."
                )
        if len({parsed.name, *parsed.adapters}) <= len(given):
            parser.error(
                f"expected another name for each adapter, and none that is called {parsed.name}, got "
                f"{parsed.adapter!r}. Rename one."
            )
        return parsed

    @property
    def adapters(self):
        """The folders of `adapter` by name."""
        entries = (entry.strip().partition("=") for entry in self.adapter.split(",") if entry.strip())
        return {name: Path(folder) for name, _, folder in entries}

    @property
    def origins(self):
        """The list of `cors_origins`."""
        return [origin.strip() for origin in self.cors_origins.split(",") if origin.strip()]
