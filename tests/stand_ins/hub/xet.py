"""The content-addressed store behind the Hub, a server of its own that hf_xet talks to.

Clients cut files into chunks, pack chunks into xorbs, and describe files in shards: which chunks of which
xorbs, one after another. The store keeps xorbs as they came, reads shards, and answers with recipes.
https://huggingface.co/docs/xet/api describes it; what is missing here, clients do without.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import hf_xet  # type: ignore[import-untyped]

from stand_ins.hub.handler import Site
from stand_ins.hub.routing import HttpError, Routes

routes = Routes()
_RECORD = 48  # bytes; a shard is a header, then records up to one of all ones
_END = b"\xff" * 32
_EMPTY = "0" * 64  # Xet's name of the empty file, which no shard mentions


@dataclass(frozen=True)
class Term:
    """A part of a file: chunks `first` up to `end` of a xorb, which are `size` bytes when unpacked."""

    xorb: str
    size: int
    first: int
    end: int


@dataclass(frozen=True)
class Recipe:
    """How a file is put together; its SHA-256 is known for files of repos."""

    terms: tuple[Term, ...]
    sha256: str = ""

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(term.size for term in self.terms)


class XetStore(Site):
    """Contents by Xet's name for them; what came by plain git-LFS is in `plain`, by SHA-256.

    `faults` and `requests` are its own, not the Hub's.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(routes.table)
        self.directory = directory
        self.plain: dict[str, bytes] = {}
        self.recipes = {_EMPTY: Recipe(())}
        self._by_sha: dict[str, str] = {}
        self.address = f"{self.base}/{uuid.uuid4().hex}"  # clients remember stores by their address
        for name in ("xorbs", "contents"):
            (directory / name).mkdir(parents=True, exist_ok=True)

    def xet_hash(self, sha256: str) -> str | None:
        """Xet's name for a content, or None for one that nobody uploaded."""
        return self._by_sha.get(sha256)

    def xet_size(self, xet: str) -> int | None:
        """How large a content is, or None for one that nobody uploaded."""
        return self.recipes[xet].size if xet in self.recipes else None

    def read(self, sha256: str) -> bytes:
        """A large file of a repo."""
        return self.plain[sha256] if sha256 in self.plain else self.path(self._by_sha[sha256]).read_bytes()

    def path(self, xet: str) -> Path:
        """A file with this content, for reading only; put together on first use."""
        path, size = self.directory / "contents" / xet, self.recipes[xet].size
        if not path.exists():
            handle, temporary = tempfile.mkstemp(dir=path.parent)
            os.close(handle)
            if size:
                with self._client.new_file_download_group(endpoint=self.address) as group:
                    group.start_download_file(hf_xet.XetFileInfo(xet, size), temporary)
            os.replace(temporary, path)
        return path

    def write(self, path: Path) -> tuple[str, int]:
        """Take a file in: Xet's name for its content, and its size."""
        with self._client.new_upload_commit(endpoint=self.address) as commit:
            upload = commit.start_upload_file(str(path), sha256=hf_xet.SKIP_SHA256)
        info = upload.result().xet_info
        return info.hash, info.file_size

    def add(self, shard: bytes) -> None:
        """Learn the files of a shard."""
        for xet, recipe in _files(shard):
            self.recipes[xet] = recipe
            if recipe.sha256:
                self._by_sha[recipe.sha256] = xet

    def xorb(self, name: str) -> Path:
        """Where a xorb is."""
        return self.directory / "xorbs" / name

    @cached_property
    def _client(self) -> Any:
        return hf_xet.XetSession()


def _files(shard: bytes) -> Iterator[tuple[str, Recipe]]:
    """(xet hash, recipe) of the files in a shard."""

    def name(at: int) -> str:  # words are little-endian
        return b"".join(shard[at + i : at + i + 8][::-1] for i in range(0, 32, 8)).hex()

    def number(at: int) -> int:
        return int.from_bytes(shard[at : at + 4], "little")

    at = _RECORD
    while shard[at : at + 32] != _END:
        xet, flags, entries = name(at), number(at + 32), number(at + 36)
        places = [at + _RECORD * entry for entry in range(1, entries + 1)]
        terms = tuple(Term(name(i), number(i + 36), number(i + 40), number(i + 44)) for i in places)
        at += _RECORD * (1 + entries * (2 if flags & 0x80000000 else 1))  # each may be followed by a check
        sha256 = ""
        if flags & 0x40000000:
            sha256 = name(at)
            at += _RECORD
        yield xet, Recipe(terms, sha256)


def _chunk_starts(xorb: bytes) -> list[int]:
    """Where each chunk of a xorb begins, and where the last one ends: heads of 8 bytes say how long they are."""
    starts = [0]
    while starts[-1] + 8 <= len(xorb) and xorb[starts[-1]] == 0:  # else the xorb's own description begins
        starts.append(starts[-1] + 8 + int.from_bytes(xorb[starts[-1] + 1 : starts[-1] + 4], "little"))
    return starts


@routes.add("POST", "/[0-9a-f]{32}/v1/xorbs/default/{sha}")
def _take_xorb(call: Any, store: XetStore, sha: str) -> None:
    temporary = store.xorb(f"{sha}.{threading.get_ident()}")
    temporary.write_bytes(call.body)
    os.replace(temporary, store.xorb(sha))
    call.json({"was_inserted": True})


@routes.add("POST", "/[0-9a-f]{32}/v1/shards")
def _take_shard(call: Any, store: XetStore) -> None:
    store.add(call.body)
    call.json({"result": 1})


@routes.add("GET", "/[0-9a-f]{32}/v1/reconstructions/{sha}")
def _recipe(call: Any, store: XetStore, sha: str) -> None:
    recipe = store.recipes.get(sha)
    if recipe is None:
        raise HttpError(404, "File not found")
    part = re.match(r"bytes=(\d+)-(\d*)", call.headers.get("Range", ""))
    first, last = (int(part[1]), int(part[2] or recipe.size)) if part else (0, recipe.size)
    if first >= recipe.size:
        raise HttpError(416, "The file ends before that")
    at = skipped = 0
    terms: list[dict[str, Any]] = []
    fetch: dict[str, list[dict[str, Any]]] = {}
    for term in recipe.terms:
        begin, at = at, at + term.size
        if at <= first or begin > last:
            continue
        if not terms:
            skipped = first - begin
        chunks = {"start": term.first, "end": term.end}
        terms.append({"hash": term.xorb, "unpacked_length": term.size, "range": chunks})
        starts = _chunk_starts(store.xorb(term.xorb).read_bytes())
        span = {"start": starts[term.first], "end": starts[term.end] - 1}
        url = f"{store.address}/xorbs/{term.xorb}"
        fetch.setdefault(term.xorb, []).append({"range": chunks, "url": url, "url_range": span})
    call.json({"offset_into_first_range": skipped, "terms": terms, "fetch_info": fetch})


@routes.add("GET", "/[0-9a-f]{32}/xorbs/{sha}")
def _give_xorb(call: Any, store: XetStore, sha: str) -> None:
    data = store.xorb(sha).read_bytes()
    call.file(len(data), lambda: data, {})
