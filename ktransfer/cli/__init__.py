"""The command line: each command calls one function of the API and prints its result."""

import _thread
import contextlib
import functools
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from ktransfer import __version__
from ktransfer.cli import (
    audit,
    backbones,
    benchmark,
    cache,
    demo,
    distill,
    evaluate,
    export,
    lr_find,
    package,
    predict,
    pretrain,
    prune,
    rank,
    report,
    search,
    shrink,
    train,
    verify,
)
from ktransfer.errors import KTransferError, bounded
from ktransfer.security.safe_io import visible
from ktransfer.utils.extras import missing_extra
from ktransfer.utils.terminal import accept_any_text, print_line, use_utf8_mode

app = typer.Typer(
    name="ktransfer",
    help="Transfer learning for Keras: from a folder of images or a table of texts to a trained model, and from "
    "there to SavedModel, TFLite and ONNX files that are verified to answer as it does.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
# In the order in which they are listed.
for verb in (
    *(
        audit.audit,
        rank.rank,
        lr_find.lr_find,
        pretrain.pretrain,
        train.train,
        search.search,
        distill.distill,
        prune.prune,
        shrink.shrink,
        evaluate.evaluate,
        predict.predict,
        report.report,
        export.export,
        verify.verify,
        benchmark.benchmark,
        package.package,
    ),
    *(backbones.backbones, cache.cache, demo.demo),
):
    app.command()(verb)


def main() -> None:
    """The `ktransfer` command: errors that a user can fix are one line, and the exit status is 2."""
    use_utf8_mode()
    accept_any_text()
    try:
        with _no_interrupt_lost():
            app()
    except KTransferError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        found = missing_extra(error, "this command")
        if found is None:
            raise
        _fail(str(found))
    except OSError as error:
        _fail(f"{error.strerror or error}: {error.filename}" if error.filename else str(error))


@contextlib.contextmanager
def _no_interrupt_lost() -> Iterator[None]:
    """Interrupt once more where a Ctrl-C meets a finalizer, such as TensorFlow's, which would swallow it."""
    before, interrupt = sys.unraisablehook, _thread.interrupt_main
    if hasattr(signal, "pthread_kill"):  # wakes the main thread up, too; Windows has none
        interrupt = functools.partial(signal.pthread_kill, threading.main_thread().ident or 0, signal.SIGINT)

    def unraisable(given: Any) -> None:
        if given.exc_type is KeyboardInterrupt:
            threading.Timer(0.1, interrupt).start()
        else:
            before(given)

    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        sys.unraisablehook = before


def _fail(text: str) -> None:
    print_line(f"ktransfer: {visible(bounded(' '.join(text.split())))}", stderr=True)
    sys.exit(2)


def _version(wanted: bool) -> None:
    if wanted:
        print_line(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass
