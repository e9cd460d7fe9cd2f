"""`ktransfer predict --out`: answers to any number of examples, in a Parquet file, resumed after a kill."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock

from ktransfer.commands.batch_engines import AUTO, Encoded, Engine, answers, engine_named, fastest
from ktransfer.commands.batch_sources import Columns, Row, Source, blocks, find_sources
from ktransfer.commands.splits import Say, progress_bar
from ktransfer.data.examples import printable
from ktransfer.errors import DataError, RunError
from ktransfer.exporting.artifact import fingerprint
from ktransfer.runs.run import Run
from ktransfer.security.safe_io import read_json
from ktransfer.utils.extras import need_modules
from ktransfer.utils.files import replacing, write_json
from ktransfer.utils.progress import Progress
from ktransfer.utils.terminal import print_line

if TYPE_CHECKING:
    import pyarrow as pa


_PLAN, _LOCK = "plan.json", "lock"
_SUFFIX = ".parquet"


@dataclass(frozen=True)
class BatchResult:
    """The result of `predict_batch`.

    Args:
        path: The file of answers.
        rows: How many it has: one for each example.
        unanswered: Of these, how many have no answer but an error.
        resumed: How many were answered before a kill.
        engine: What answered: a format, or `"keras"`.

    Example:
        >>> BatchResult(Path("answers.parquet"), 1000, 0, 0, "onnx").rows
        1000
    """

    path: Path
    rows: int
    unanswered: int
    resumed: int
    engine: str


def predict_batch(
    run: Run,
    inputs: Sequence[str],
    out: str | os.PathLike[str],
    *,
    top_k: int = 3,
    columns: Columns = Columns(),  # noqa: B008  frozen
    artifact: str = AUTO,
    overwrite: bool = False,
    verbose: int | str = 0,
    say: Say = print_line,
) -> BatchResult:
    """Predict examples of shards, tables and folders into a Parquet file.

    Memory does not grow with their number. Each block of some thousand examples is answered once, written under a
    temporary name and renamed; after a kill the same call answers what is left. The file gets its name when it is
    whole. Its columns are `source`, `row` and `key` of an example, `predictions`, which are those of `Run.predict`,
    and `error` where an example cannot be read.

    Args:
        run: What `Run.load` gave.
        inputs: Shards (`.parquet`, `.tfrecord`, `.tar`), tables, files of one example, and folders, patterns and URLs
            of these.
        out: The file to write, `.parquet`. Until it is whole there is a folder `.NAME.parts` next to it.
        top_k: How many labels for each. Defaults to 3.
        columns: Where the examples stand. Defaults to customary names.
        artifact: `"auto"` takes what answers the first examples fastest, the Keras model or a verified artifact in
            float32; or `"keras"` or a format. Defaults to `"auto"`.
        overwrite: Whether to replace `out`. Defaults to `False`.
        verbose: 0 shows no progress. Defaults to 0.
        say: Callable that receives a line on what is done. Defaults to `print_line`, which prints it.

    Returns:
        `BatchResult`.

    Raises:
        DataError: There is nothing to predict, a shard is truncated, or `out` cannot be written.
        RunError: The answers of another call, or of another process, are at the same place.
        ExportError: The artifact that is asked for cannot answer.

    Example:

        predict_batch(Run.load("runs/reviews"), ["new/*.parquet"], "answers.parquet").rows
    """
    need_modules(["pyarrow"], "Parquet files")
    out = check_out(out, overwrite=overwrite)
    sources, notes = find_sources(inputs, run.modality, columns)
    for note in notes:
        say(note)
    for source in sources:
        source.check()
    parts = out.with_name(f".{out.name}.parts")
    parts.mkdir(exist_ok=True)
    lock = filelock.FileLock(parts / _LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise RunError(
            f"Expected no other process to write {printable(str(out))}, got one that does. Wait for it, or pass "
            "another --out."
        ) from error
    with lock:
        work = _Work(run, sources, parts, top_k, say)
        engine = work.begin(columns, artifact)
        done = work.answer(engine, verbose)
        rows, unanswered = work.join(out)
    shutil.rmtree(parts, ignore_errors=True)
    return BatchResult(out, rows, unanswered, done, engine.name)


def check_out(out: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """The file to write.

    Raises:
        DataError: It is no `.parquet`, its folder is not there, or it exists.

    Example:
        >>> check_out("answers.csv")
        Traceback (most recent call last):
        ktransfer.errors.DataError: Expected a file named .parquet as --out, got answers.csv. Rename it.
    """
    path = Path(out).expanduser()
    if path.suffix.lower() != _SUFFIX:
        raise DataError(f"Expected a file named .parquet as --out, got {printable(str(out))}. Rename it.")
    if not path.absolute().parent.is_dir():
        raise DataError(
            f"Expected a folder that exists for --out, got {printable(str(path.parent))}. Make it first."
        )
    if path.is_dir() or (path.exists() and not overwrite):
        raise DataError(
            f"Expected a new file as --out, got {printable(str(path))}, which exists. Pass --overwrite, or another."
        )
    return path


class _Work:
    """The answers of one call, a file for each block, in a folder."""

    def __init__(self, run: Run, sources: Sequence[Source], parts: Path, top_k: int, say: Say) -> None:
        self._run, self._sources, self._parts = run, sources, parts
        self._top_k, self._say = top_k, say

    def begin(self, columns: Columns, artifact: str) -> Engine:
        """Write what is done, or compare it with what was begun; return what answers."""
        facts = {
            "run": fingerprint(self._run.path / "model.keras")[0],
            "top_k": self._top_k,
            "columns": [list(columns.asked), list(columns.trained), columns.pairs, columns.encoding],
            "artifact": artifact,
            "sources": [[source.name, source.version] for source in self._sources],
        }
        plan = self._parts / _PLAN
        if plan.is_file():
            return self._resumed(facts, plan)
        engine = engine_named(self._run, artifact) if artifact != AUTO else self._fastest()
        write_json(plan, _digest(facts) | {"engine": engine.name})
        return engine

    def _resumed(self, facts: Mapping[str, Any], plan: Path) -> Engine:
        try:
            before = read_json(plan)
            name = before.pop("engine")
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise RunError(
                f"Expected answers to resume in {printable(str(self._parts))}, got {error}. Remove that folder."
            ) from error
        now = _digest(facts)
        if differing := [key for key in now if before.get(key) != now[key]]:
            raise RunError(
                f"Expected to resume the answers in {printable(str(self._parts))}, got another {differing[0]} than "
                "they were begun with. Remove that folder, or pass another --out."
            )
        return engine_named(self._run, name)  # answers of another would differ in the last digits

    def _fastest(self) -> Engine:
        first = next(iter(blocks(self._sources[0].rows(0))), [])
        contents = [row.content for row in first if row.error is None]
        return fastest(self._run, contents, self._say)

    def answer(self, engine: Engine, verbose: int | str) -> int:
        """Answer what is not answered yet; return how many were."""
        whole = {index: self._rows_of(index) for index in range(len(self._sources))}
        done = sum(rows for rows, _ in whole.values())
        if done:
            ended = sum(is_whole for _, is_whole in whole.values())
            self._say(
                f"resume     {done:,} answered, {ended} of {len(self._sources)} sources whole; {engine.name}"
            )
        lines = Progress(self._say, "predicting")
        with (
            ThreadPoolExecutor(engine.workers) as pool,
            ThreadPoolExecutor(1) as reader,
            progress_bar(verbose) as bar,
        ):
            shown = bar.add_task("sources", total=len(self._sources), completed=0)
            answered = done
            for index, source in enumerate(self._sources):
                rows, is_whole = whole[index]
                if not is_whole:
                    read = ((block, _encoded(engine, block)) for block in blocks(source.rows(rows)))
                    for block, encoded in _ahead(reader, read):
                        self._write(index, block, self._predicted(engine, block, encoded, pool))
                        answered += len(block)
                        bar.update(shown, description=f"{answered:,} {self._run.noun}")
                        if bar.disable:
                            lines(self._run.noun, answered)
                        rows += len(block)
                    write_json(self._whole(index), {"rows": rows})
                bar.update(shown, completed=index + 1)
        return done

    def _predicted(
        self, engine: Engine, block: Sequence[Row], encoded: Encoded, pool: ThreadPoolExecutor
    ) -> list[tuple[Any, Any]]:
        """For each row `(predictions, error)`."""
        found = iter(answers(engine, encoded, pool))
        task, labels, decision = self._run.task, self._run.labels, self._run.decision
        made: list[tuple[Any, Any]] = []
        for row in block:
            answer = None if row.error is not None else next(found)
            if isinstance(answer, DataError) or answer is None:
                made.append((None, row.error or str(answer)))
            else:
                made.append((task.answers(answer, labels, decision, top_k=self._top_k), None))
        return made

    def _write(self, index: int, block: Sequence[Row], predicted: Sequence[tuple[Any, Any]]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.table(
            {
                "source": [row.source for row in block],
                "row": [row.row for row in block],
                "key": [row.key for row in block],
                "predictions": [answer for answer, _ in predicted],
                "error": [error for _, error in predicted],
            },
            schema=self._schema(),
        )
        begin, end = block[0].number, block[-1].number + 1
        path = self._parts / f"{index:06d}-{begin:012d}-{end:012d}{_SUFFIX}"
        with replacing(path) as partial:
            pq.write_table(table, partial)

    def _schema(self) -> pa.Schema:
        import pyarrow as pa

        kinds = {
            **{"text": pa.string(), "float": pa.float64(), "floats": pa.list_(pa.float64())},
            **{"int": pa.int64(), "bool": pa.bool_()},
        }
        fields = pa.struct([(name, kinds[kind]) for name, kind in self._run.task.answer_fields.items()])
        return pa.schema(
            [
                ("source", pa.string()),
                ("row", pa.int64()),
                ("key", pa.string()),
                ("predictions", pa.list_(fields)),
                ("error", pa.string()),
            ]
        )

    def _whole(self, index: int) -> Path:
        return self._parts / f"{index:06d}.whole.json"

    def _rows_of(self, index: int) -> tuple[int, bool]:
        """The number of rows of a source that are answered, and whether these are all."""
        rows = max((int(path.stem.split("-")[2]) for path in self._parts_of(index)), default=0)
        return rows, self._whole(index).is_file()

    def _parts_of(self, index: int) -> list[Path]:
        return sorted(self._parts.glob(f"{index:06d}-*-*{_SUFFIX}"))

    def join(self, out: Path) -> tuple[int, int]:
        """Write the answers of all sources into one file; return how many, and how many have an error."""
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        rows = unanswered = 0
        with replacing(out) as partial, pq.ParquetWriter(partial, self._schema()) as writer:
            for index in range(len(self._sources)):
                for path in self._parts_of(index):
                    table = pq.read_table(path, partitioning=None)
                    writer.write_table(table)
                    rows += len(table)
                    unanswered += pc.sum(pc.is_valid(table["error"])).as_py() or 0
        return rows, unanswered


def _digest(facts: Mapping[str, Any]) -> dict[str, str]:
    """Facts as short texts that can be compared."""
    return {
        name: hashlib.sha256(json.dumps(value).encode()).hexdigest()
        if isinstance(value, list)
        else str(value)
        for name, value in facts.items()
    }


def _encoded(engine: Engine, block: Sequence[Row]) -> Encoded:
    return engine.encode([row.content for row in block if row.error is None])


def _ahead(
    reader: ThreadPoolExecutor, found: Iterator[tuple[list[Row], Encoded]]
) -> Iterator[tuple[list[Row], Encoded]]:
    """The blocks of a source, of which the next is read and encoded while one is answered."""
    ahead: Future[tuple[list[Row], Encoded] | None] = reader.submit(next, found, None)
    while (block := ahead.result()) is not None:
        ahead = reader.submit(next, found, None)
        yield block
