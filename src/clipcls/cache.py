"""Embeddings that were computed before, by content of the file and fingerprint of the model.

One SQLite file holds them, in WAL mode, so that several runs can use it at once. It may be deleted
at any time: nothing in it cannot be computed again. Whatever is wrong with it (damaged, full,
locked, not writable) is warned of once, and then the run goes on without it.

A file that has not changed is recognised by path, size and times without being read; any other is
read, and its content decides. Vectors are kept as they were computed, float32 to the last bit, so
cached and fresh rows are the same, and each has a checksum, because SQLite has none.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import stat
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from clipcls.errors import OutputError
from clipcls.options import CacheOptions

Float32 = NDArray[np.float32]

FILE = "embeddings-1.sqlite"
"""Its number is the version of the tables below."""

_TABLES = """
CREATE TABLE IF NOT EXISTS files
    (path BLOB PRIMARY KEY, size INT, mtime INT, ctime INT, content BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS images
    (key BLOB, content BLOB, vector BLOB, note TEXT, checksum BLOB, PRIMARY KEY (key, content));
CREATE TABLE IF NOT EXISTS texts
    (key BLOB, prompt TEXT, vector BLOB, tokens INT, checksum BLOB, PRIMARY KEY (key, prompt));
CREATE TABLE IF NOT EXISTS facts (key BLOB PRIMARY KEY, content TEXT) WITHOUT ROWID;
"""
_DIGEST_BYTES = 20
_BUSY_SECONDS = 10
_LARGEST_BYTES = 1 << 30
_YOUNG_NS = 2_000_000_000
"""A file as young as that may change again within one tick of its clock."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Where the embedding of an image is kept, or would be.

    Attributes:
        content: Digest of the file's bytes.
        vector: (D,) float32, None where it is not known yet.
        note: What is worth knowing about the image.
        times: Size and times of the file when it was read.
    """

    content: bytes
    vector: Float32 | None = None
    note: str = ""
    times: tuple[int, int, int] = (0, 0, 0)

    def is_of(self, path: str) -> bool:
        """Whether the file is still the one that was read."""
        with suppress(OSError, ValueError):
            return _times(os.stat(path)) == self.times
        return False


@dataclass(frozen=True, slots=True)
class Usage:
    """What a cache holds.

    Attributes:
        path: Its file.
        bytes: Size on disk.
        images: Model's name -> image embeddings.
        texts: Number of prompts.
    """

    path: Path
    bytes: int
    images: Mapping[str, int]
    texts: int


class Shelf(NamedTuple):
    """The part of a cache that holds what one model made, in one precision and decoding."""

    cache: EmbeddingCache
    key: bytes


class EmbeddingCache:
    """The cache in a folder; safe in any thread.

    Args:
        options: Where it is, and whether files are always read.
        warn: Told once, when it cannot be used.
    """

    def __init__(self, options: CacheOptions, warn: Callable[[str], None]) -> None:
        self._lock = Lock()
        self.path = options.resolved_folder / FILE
        self._verify = options.verify
        self._warn = warn
        self._told = False
        # Files that were read, to be written with their batch.
        self._read: list[tuple[object, ...]] = []
        self._database: sqlite3.Connection | None = None
        with self._guarded():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._database = _opened(self.path)
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError):
                    raise
                warn(f"the embedding cache {self.path} is damaged ({error}), so it is made anew")
                remove(self.path)
                self._database = _opened(self.path)
            # Not `__del__`: the program ends without taking its objects down, and what is in the
            # journal belongs into the file.
            weakref.finalize(self, self._database.close)

    def close(self) -> None:
        """Close the file; the cache then finds and keeps nothing."""
        with self._lock, suppress(sqlite3.Error):
            if self._database is not None:
                self._database.close()
            self._database = None

    # --- images ---

    def look_up(self, key: bytes, path: str) -> Slot | None:
        """Return the slot of an image file; None where it cannot be read, or there is no cache.

        Pipes and devices have no slot, as reading them takes their content away, and neither have
        files that are too large to be worth it.

        Args:
            key: What made the embedding: model, precision, decoding.
            path: The file.
        """
        try:
            facts = os.stat(path)
        except (OSError, ValueError):
            return None
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > _LARGEST_BYTES:
            return None
        name = os.fsencode(os.path.abspath(path))
        times = _times(facts)
        row = self._row("SELECT size, mtime, ctime, content FROM files WHERE path = ?", name)
        if row and not self._verify and row[:3] == times:
            content = row[3]
        else:
            if self._database is None:
                return None
            try:
                content = _content(path)
            except (OSError, ValueError):
                return None
            if not Slot(content, times=times).is_of(path):
                return None
            if time.time_ns() - max(times[1:]) > _YOUNG_NS:
                self._read.append((name, *times, content))
        return self._slot(key, content, times)

    def look_up_bytes(self, key: bytes, data: bytes) -> Slot:
        """Return the slot of an image whose file is at hand.

        Args:
            key: As in `look_up`.
            data: The bytes of the file.
        """
        return self._slot(key, hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest())

    def _slot(self, key: bytes, content: bytes, times: tuple[int, int, int] = (0, 0, 0)) -> Slot:
        found = self._row(
            "SELECT vector, note, checksum FROM images WHERE key = ? AND content = ?", key, content
        )
        if found and found[2] == _checksum(key, content, found[0], found[1]):
            return Slot(content, np.frombuffer(found[0], np.float32), found[1], times)
        return Slot(content, times=times)

    def keep(self, key: bytes, slots: Sequence[Slot]) -> None:
        """Keep the embeddings of a batch, and which files were read for it."""
        read, self._read = self._read, []
        self._write("INSERT OR REPLACE INTO files VALUES (?,?,?,?,?)", read)
        rows = [
            (key, slot.content, blob, slot.note, _checksum(key, slot.content, blob, slot.note))
            for slot in slots
            if slot.vector is not None
            for blob in [slot.vector.astype(np.float32).tobytes()]
        ]
        self._write("INSERT OR REPLACE INTO images VALUES (?,?,?,?,?)", rows)

    # --- texts and facts ---

    def texts(self, key: bytes, prompts: Sequence[str]) -> dict[str, tuple[Float32, int]]:
        """Return prompt -> ((D,) float32 embedding, number of tokens) of those that are known."""
        found = {}
        for prompt in prompts:
            row = self._row(
                "SELECT vector, tokens, checksum FROM texts WHERE key = ? AND prompt = ?",
                key,
                prompt,
            )
            if row and row[2] == _checksum(key, prompt.encode(), row[0], str(row[1])):
                found[prompt] = (np.frombuffer(row[0], np.float32), row[1])
        return found

    def keep_texts(
        self, key: bytes, prompts: Sequence[str], vectors: Float32, tokens: Sequence[int]
    ) -> None:
        """Keep the (N, D) embeddings of N prompts."""
        rows = []
        for prompt, vector, count in zip(prompts, vectors, tokens, strict=True):
            blob = vector.astype(np.float32).tobytes()
            checksum = _checksum(key, prompt.encode(), blob, str(count))
            rows.append((key, prompt, blob, count, checksum))
        self._write("INSERT OR REPLACE INTO texts VALUES (?,?,?,?,?)", rows)

    def facts(self, key: bytes) -> dict[str, Any] | None:
        """Return what was kept under a key, None where nothing was."""
        row = self._row("SELECT content FROM facts WHERE key = ?", key)
        with suppress(ValueError):
            content = json.loads(row[0]) if row else None
            if isinstance(content, dict):
                return content
        return None

    def keep_facts(self, key: bytes, content: Mapping[str, Any] | None) -> None:
        """Keep a small mapping under a key; None forgets it."""
        if content is None:
            self._write("DELETE FROM facts WHERE key = ?", [(key,)])
        else:
            self._write("INSERT OR REPLACE INTO facts VALUES (?,?)", [(key, json.dumps(content))])

    # --- the file ---

    def usage(self) -> Usage:
        """Return what the cache holds."""
        images: dict[str, int] = {}
        for key, count in self._rows("SELECT key, count(*) FROM images GROUP BY key"):
            facts = self.facts(key) or {}
            name = f"{facts.get('name', 'unknown model')} {facts.get('precision', '')}".strip()
            images[name] = images.get(name, 0) + count
        [(texts,)] = self._rows("SELECT count(*) FROM texts") or [(0,)]
        return Usage(self.path, disk_usage(self.path), images, texts)

    def prune(self, most_bytes: int) -> int:
        """Remove the embeddings that were kept first, until the file is no larger.

        Returns:
            How many image embeddings were removed.
        """
        removed = 0
        while (size := disk_usage(self.path)) > most_bytes and self._database is not None:
            [(count,)] = self._rows("SELECT count(*) FROM images") or [(0,)]
            if not count:
                break
            # By the share that is too much, and a little more so that few rounds are needed.
            part = min(count, int(count * (1 - most_bytes / size) * 1.05) + 1)
            oldest = "SELECT rowid FROM images ORDER BY rowid LIMIT ?"
            self._write(f"DELETE FROM images WHERE rowid IN ({oldest})", [(part,)])
            self._write("DELETE FROM files WHERE content NOT IN (SELECT content FROM images)", [()])
            with self._guarded(), self._lock:
                if self._database is not None:
                    self._database.execute("VACUUM")
                    self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            removed += part
        return removed

    def _row(self, query: str, *values: object) -> Any:
        rows = self._rows(query, *values)
        return rows[0] if rows else None

    def _rows(self, query: str, *values: object) -> list[Any]:
        with self._guarded(), self._lock:
            if self._database is not None:
                return self._database.execute(query, values).fetchall()
        return []

    def _write(self, query: str, rows: Sequence[tuple[object, ...]]) -> None:
        with self._guarded(), self._lock:
            if self._database is not None and rows:
                with self._database:
                    self._database.executemany(query, rows)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Turn whatever goes wrong into one warning and a run without the cache."""
        try:
            yield
        except (sqlite3.Error, OSError, OutputError) as error:
            self.close()
            damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(
                error, sqlite3.OperationalError
            )
            if damaged:
                with suppress(OutputError):
                    remove(self.path)
            if not self._told:
                self._told = True
                what = "is damaged and was removed" if damaged else "cannot be used"
                self._warn(
                    f"the embedding cache {self.path} {what} ({error}): going on without it"
                    " (--no-cache, or --cache-dir for another place)"
                )


def _opened(path: Path) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=_BUSY_SECONDS, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode = WAL")
        # A crash of the machine may lose the last rows, never the file.
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(_TABLES)
    except sqlite3.Error:
        database.close()
        raise
    return database


def disk_usage(path: Path) -> int:
    """Return the bytes that the cache at `path` takes, its journal included."""
    total = 0
    for suffix in ("", "-wal", "-shm"):
        with suppress(OSError):
            total += os.path.getsize(f"{path}{suffix}")
    return total


def remove(path: Path) -> None:
    """Delete the cache at `path`; runs that use it go on without it.

    Raises:
        OutputError: It cannot be deleted.
    """
    for suffix in ("", "-wal", "-shm"):
        try:
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"cannot delete {path}{suffix}: {error.strerror or error}") from error


def _times(facts: os.stat_result) -> tuple[int, int, int]:
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _content(path: str) -> bytes:
    hashed = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            hashed.update(block)
    return hashed.digest()


def _checksum(key: bytes, name: bytes, blob: bytes, text: str) -> bytes:
    parts = b"\0".join((key, name, blob, text.encode("utf-8", "surrogatepass")))
    return hashlib.blake2b(parts, digest_size=8).digest()
