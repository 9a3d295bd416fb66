"""The hidden folder in which a model grows, and from which it goes on after an interruption."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from miscible.errors import CheckpointError
from miscible.models.shard import ShardRecord, holds

JOURNAL = ".miscible-partial.json"


class PartialFolder:
    """A folder beside the destination, of one process at a time.

    Finished shards are entered into a journal. Where an earlier run under the same key was killed
    or interrupted, they are found again. After any other failure nothing is left.

    Args:
        destination: what the folder is renamed to in the end.
        key: content key of what is written; None if nothing is to be found again.
    """

    def __init__(self, destination: Path, key: str | None) -> None:
        self.destination, self.key = destination, key
        self.folder = destination.parent / f".{destination.name}.partial"
        self._records: dict[str, ShardRecord] = {}
        self._lock: int | None = None

    def __enter__(self) -> PartialFolder:
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(exist_ok=True)
            self._lock = os.open(self.folder, os.O_RDONLY)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(self._lock).st_ino != self.folder.stat().st_ino:
                    raise BlockingIOError  # the folder that is locked was removed meanwhile
                self._clean()
            except BaseException:
                os.close(self._lock)
                self._lock = None
                raise
        except (BlockingIOError, FileNotFoundError) as error:
            raise CheckpointError(
                "another process is writing this model.", where=str(self.destination)
            ) from error
        except OSError as error:
            raise CheckpointError(
                f"cannot be written: {error.strerror}.", where=str(self.destination)
            ) from error
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with _interrupts_ignored():  # a second Ctrl-C must not stop the cleaning up after the first
            interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
            if not (interrupted and self._records and self.key):
                shutil.rmtree(self.folder, ignore_errors=True)
            if self._lock is not None:
                os.close(self._lock)

    def check_space(self, needed: int) -> None:
        """Raise `CheckpointError` if the disk has no room for *needed* bytes in all."""
        held = sum(path.stat().st_size for path in self.folder.iterdir())
        free = shutil.disk_usage(self.folder).free + held
        if free < needed:
            raise CheckpointError(
                f"the disk has {free / 1e9:.1f} GB free, the model needs {needed / 1e9:.1f} GB.",
                where=str(self.destination.parent),
            )

    def finished(self, shard: str) -> ShardRecord | None:
        """Return the record of a shard that an earlier run has finished, None if it has not."""
        record = self._records.get(shard)
        if record is not None and holds(self.folder / shard, record):
            return record
        self._records.pop(shard, None)
        with suppress(FileNotFoundError):
            (self.folder / shard).unlink()
        return None

    def finish(self, shard: str, record: ShardRecord) -> None:
        """Enter a shard into the journal."""
        self._records[shard] = record
        if self.key is None:
            return
        held = {name: asdict(record) for name, record in self._records.items()}
        fresh = self.folder / f"{JOURNAL}.new"
        with fresh.open("w") as file:
            file.write(json.dumps({"key": self.key, "shards": held}))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.folder / JOURNAL)

    def appear(self) -> None:
        """Rename the folder to the destination; it is complete."""
        with suppress(FileNotFoundError):
            (self.folder / JOURNAL).unlink()
        _sync(self.folder)
        self.folder.rename(self.destination)
        _sync(self.destination.parent)

    def _clean(self) -> None:
        self._records = self._read_journal()
        for path in self.folder.iterdir():
            if path.name not in self._records and path.name != JOURNAL:
                folder = path.is_dir() and not path.is_symlink()
                shutil.rmtree(path) if folder else path.unlink()

    def _read_journal(self) -> dict[str, ShardRecord]:
        try:
            held = json.loads((self.folder / JOURNAL).read_text())
            if self.key is None or held["key"] != self.key:
                return {}
            return {
                str(name): ShardRecord(
                    str(record["digest"]),
                    {str(tensor): int(size) for tensor, size in record["pieces"].items()},
                    record["note"],
                )
                for name, record in held["shards"].items()
                if "/" not in name
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return {}


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
