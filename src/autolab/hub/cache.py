"""Prepared data between this machine and a private dataset repo, under the hash of its content.

What `prepare` made is described by its manifest.json, which holds the SHA-256 of every data file. In the repo:

    content/<hash of the manifest>/…    the files that the manifest names, and the manifest
    folders/<folder>.json               which content a folder of .autolab/cache holds

Only those files travel. What a preparation made besides them belongs to its machine, as the overlay does
that hides held-out text in a sandbox, and `prepare` makes it anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from autolab.errors import LabError
from autolab.hub.commits import commit, ensure_repo, head, read_remote, repo_files

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MANIFEST = "manifest.json"
_FOLDER = re.compile(r"[A-Za-z0-9][\w.-]*-[0-9a-f]{12}")


@dataclass(frozen=True)
class Prepared:
    """One folder of prepared data. `files` maps each data file to its SHA-256, as the manifest says."""

    name: str
    directory: Path
    manifest: bytes
    files: dict[str, str]

    @property
    def content(self) -> str:
        """The name of its content: 32 hex digits of the manifest's SHA-256."""
        return content_name(self.manifest)

    @property
    def size(self) -> int:
        """Bytes of its data files; what is missing counts nothing."""
        paths = [self.directory / name for name in self.files]
        return sum(path.stat().st_size for path in paths if path.is_file())


def content_name(manifest: bytes) -> str:
    """The name of the content that a manifest describes."""
    return hashlib.sha256(manifest).hexdigest()[:32]


def prepared_folders(cache: Path) -> list[Prepared]:
    """The folders of a lab's cache that hold complete data, by name."""
    folders = sorted(cache.glob("*-*/" + MANIFEST)) if cache.is_dir() else []
    return [_prepared(path.parent) for path in folders if _FOLDER.fullmatch(path.parent.name)]


def check_folder(prepared: Prepared) -> None:
    """Raise LabError that names the first data file that is not what the manifest says."""
    for name, expected in sorted(prepared.files.items()):
        path = prepared.directory / name
        if path.is_symlink() or not path.is_file():
            raise LabError(
                f"{name} is missing", where=prepared.name, mend="delete the folder; it is made anew"
            )
        if _sha256(path) != expected:
            raise LabError(
                f"{name} was changed: it is not what the manifest says",
                where=prepared.name,
                mend="delete the folder; it is made anew",
            )


def in_repo(api: HfApi, repo: str) -> dict[str, str]:
    """The folders that a repo knows, each with the name of its content. Raises LabError for an unknown repo."""
    return _pointers(api, repo, head(api, repo))


def warm(api: HfApi, cache: Path, task: str, repo: str) -> tuple[list[str], list[str]]:
    """Bring the task's folders to where they are missing: (sent to the repo, fetched from it).

    Every file is hashed before it is sent and after it was fetched; a folder appears whole or not at all.
    Raises LabError if a file was changed, if a folder holds other data here than there, if the repo is public.
    """
    if not ensure_repo(api, repo, private=True):
        raise LabError("is public", where=f"repo {repo}", mend="make it private, or name another one")
    revision = head(api, repo)
    there = _pointers(api, repo, revision)
    here = {folder.name: folder for folder in prepared_folders(cache) if _is_of(folder.name, task)}
    for name, folder in here.items():
        if there.get(name, folder.content) != folder.content:
            raise LabError("holds other data here than in the repo", where=name, mend="delete the wrong one")
    sent = [folder for name, folder in here.items() if name not in there]
    for folder in sent:
        check_folder(folder)
    if sent:
        commit(api, repo, f"Prepared data: {', '.join(folder.name for folder in sent)}",
               lambda parent: _additions(api, repo, parent, sent))  # fmt: skip
    fetched = [name for name in sorted(there) if name not in here and _is_of(name, task)]
    for name in fetched:
        _fetch(api, repo, revision, name, there[name], cache)
    return [folder.name for folder in sent], fetched


def verify(api: HfApi, cache: Path, repo: str) -> list[str]:
    """The folders whose every byte is right, here and in the repo. Raises LabError that names what is not."""
    revision = head(api, repo)
    there = _pointers(api, repo, revision)
    local = prepared_folders(cache)
    for folder in local:
        check_folder(folder)
        if there.get(folder.name, folder.content) != folder.content:
            raise LabError(
                "holds other data here than in the repo", where=folder.name, mend="delete the wrong one"
            )
    with tempfile.TemporaryDirectory(prefix="autolab-verify-") as scratch:
        for content in sorted(set(there.values())):
            _check_content(api, repo, revision, content, Path(scratch))
    return sorted({folder.name for folder in local} | set(there))


@contextmanager
def transferring(cache: Path) -> Iterator[None]:
    """Hold the lock of a transfer. Raises LabError if another process holds it."""
    path = cache / "transfer.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(
                "a transfer is under way",
                where=str(cache),
                mend="`scripts/cache.py status` says when it has ended",
            ) from None
        yield


def is_transferring(cache: Path) -> bool:
    """Whether some process moves data of this lab right now."""
    if not (cache / "transfer.lock").exists():
        return False
    try:
        with transferring(cache):
            return False
    except LabError:
        return True


def _prepared(directory: Path) -> Prepared:
    manifest = (directory / MANIFEST).read_bytes()
    return Prepared(directory.name, directory, manifest, _files(manifest, directory.name))


def _files(manifest: bytes, where: str) -> dict[str, str]:
    """The data files of a manifest. Raises LabError for names that could leave their folder."""
    try:
        files = json.loads(manifest)["files"]
        checked = {str(name): str(digest) for name, digest in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise LabError(
            "its manifest is damaged", where=where, mend="delete the folder; it is made anew"
        ) from None
    for name in checked:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or name in ("", MANIFEST) or "\\" in name:
            raise LabError(f"its manifest names {name!r}", where=where, mend="do not use this data")
    return checked


def _pointers(api: HfApi, repo: str, revision: str) -> dict[str, str]:
    pointers = {}
    with tempfile.TemporaryDirectory(prefix="autolab-cache-") as scratch:
        for path in sorted(repo_files(api, repo, revision, "folders")):
            name = PurePosixPath(path).stem
            found = read_remote(api, repo, path, revision, Path(scratch))
            try:
                content = json.loads(found.read_text(encoding="utf-8"))["content"] if found else ""
            except (ValueError, KeyError, TypeError):
                content = ""
            if not _FOLDER.fullmatch(name) or not re.fullmatch(r"[0-9a-f]{32}", str(content)):
                raise LabError(
                    f"{path} is damaged", where=f"repo {repo}", mend="delete that file from the repo"
                )
            pointers[name] = str(content)
    return pointers


def _additions(api: HfApi, repo: str, revision: str, sent: list[Prepared]) -> Mapping[str, bytes | Path]:
    files: dict[str, bytes | Path] = {}
    known = set(_pointers(api, repo, revision).values())
    for folder in sent:
        files[f"folders/{folder.name}.json"] = json.dumps({"content": folder.content}).encode() + b"\n"
        if folder.content not in known:
            base = f"content/{folder.content}"
            files[f"{base}/{MANIFEST}"] = folder.manifest
            files |= {f"{base}/{name}": folder.directory / name for name in folder.files}
    return files


def _fetch(api: HfApi, repo: str, revision: str, name: str, content: str, cache: Path) -> None:
    """Fetch a folder beside its place, hash every file, then rename it into place."""
    target = cache / name
    if target.exists():
        raise LabError(
            "is there but not complete", where=str(target), mend="wait for `prepare`, or delete it"
        )
    cache.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=cache))
    try:
        base = f"content/{content}"
        manifest = _fetched(api, repo, revision, f"{base}/{MANIFEST}", scratch).read_bytes()
        if content_name(manifest) != content:
            raise _changed(repo, f"{base}/{MANIFEST}")
        files = _files(manifest, name)
        needed = sum(file.size for file in repo_files(api, repo, revision, base).values())
        if needed > (free := shutil.disk_usage(cache).free) // 2:
            raise LabError(
                f"needs {megabytes(needed)}, of {megabytes(free)} free", where=name, mend="free some disk"
            )
        for file, digest in sorted(files.items()):
            if _sha256(_fetched(api, repo, revision, f"{base}/{file}", scratch)) != digest:
                raise _changed(repo, f"{base}/{file}")
        (scratch / base).rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check_content(api: HfApi, repo: str, revision: str, content: str, scratch: Path) -> None:
    base = f"content/{content}"
    listed = repo_files(api, repo, revision, base)
    manifest = _fetched(api, repo, revision, f"{base}/{MANIFEST}", scratch).read_bytes()
    if content_name(manifest) != content:
        raise _changed(repo, f"{base}/{MANIFEST}")
    for file, digest in sorted(_files(manifest, content).items()):
        path = f"{base}/{file}"
        if path not in listed:
            raise LabError(
                f"{path} is missing", where=f"repo {repo}", mend="delete that content, and warm again"
            )
        # Large files are listed with their SHA-256; of small ones the listing only has git's name.
        if (listed[path].sha256 or _sha256(_fetched(api, repo, revision, path, scratch))) != digest:
            raise _changed(repo, path)


def _fetched(api: HfApi, repo: str, revision: str, path: str, into: Path) -> Path:
    found = read_remote(api, repo, path, revision, into)
    if found is None:
        raise LabError(f"{path} is missing", where=f"repo {repo}", mend="delete that content, and warm again")
    return found


def _changed(repo: str, path: str) -> LabError:
    return LabError(
        f"{path} was changed: it is not what the manifest says",
        where=f"repo {repo}",
        mend="do not use this data",
    )


def _is_of(folder: str, task: str) -> bool:
    """Whether a folder `<task>-<profile>-<hash>` is of this task."""
    return folder.startswith(task + "-")


def megabytes(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        return hashlib.file_digest(file, "sha256").hexdigest()
