"""Prepared data between this machine and a private dataset repo, under the hash of its content.

What `prepare` made is described by its manifest.json, which holds the SHA-256 of every data file. In the repo:

    content/<hash of the manifest>/…    the files that the manifest names, and the manifest
    folders/<folder>.json               which content a folder of .autolab/cache holds, and since when

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
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from autolab.errors import LabError
from autolab.hub.commits import RemoteFile, commit, ensure_repo, head, read_remote, repo_files
from autolab.hub.connection import connect, explained, namespace, need_token, status_of
from autolab.hub.data.holding import alone

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MANIFEST = "manifest.json"
REPO = "autolab-data"
TRANSFER_SECONDS = 12 * 3600.0  # that moving data may take
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


@dataclass(frozen=True)
class Pointer:
    """What the repo says of a folder: which content it holds, and when it came (Unix seconds; 0: unknown)."""

    content: str
    sent_at: float = 0.0


@dataclass(frozen=True)
class Shared:
    """Prepared data in a dataset repo, at a commit (its full name) that no later push changes."""

    repo: str
    revision: str
    path: str
    content: str


def data_repo(api: HfApi, cache: Path, given: str | None = None) -> str:
    """The repo that was named, else `<account>/autolab-data`. Raises LabError without a token."""
    return given or f"{namespace(api, cache / 'hub')}/{REPO}"


def content_name(manifest: bytes) -> str:
    """The name of the content that a manifest describes."""
    return hashlib.sha256(manifest).hexdigest()[:32]


def is_of(folder: str, task: str) -> bool:
    """Whether a folder `<task>-<profile>-<hash>` is of this task."""
    return folder.startswith(task + "-")


def is_folder_name(name: str) -> bool:
    """Whether a name is one of prepared data, `<task>-<profile>-<12 hex digits>`."""
    return _FOLDER.fullmatch(name) is not None


def prepared_folders(cache: Path) -> list[Prepared]:
    """The folders of a lab's cache that hold complete data, by name. Raises LabError for a damaged manifest."""
    folders = sorted(cache.glob("*-*/" + MANIFEST)) if cache.is_dir() else []
    return [_prepared(path.parent) for path in folders if is_folder_name(path.parent.name)]


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


@dataclass(frozen=True)
class Row:
    """One folder, here or in the repo. `files` and `bytes` are of the one here; `in_repo` is None if nobody looked."""

    folder: str
    content: str
    files: int
    bytes: int
    here: bool
    in_repo: bool | None

    def __str__(self) -> str:
        size = f"{self.files} files, {megabytes(self.bytes)}" if self.here else "not fetched"
        places = [place for place, there in (("here", self.here), ("repo", self.in_repo)) if there]
        return f"{self.folder}  {self.content[:12]}  {size}  {'+'.join(places)}"


def overview(cache: Path, given: str | None = None) -> tuple[list[Row], str]:
    """The folders here and in the repo, and what to say of the repo.

    Without a Hub, a token or a repo the folders here are still told. Raises LabError only for a repo that was named.
    """
    there: dict[str, str] | None = None
    try:
        api = connect()
        repo = data_repo(api, cache, given)
        there, said = in_repo(api, repo), repo
    except LabError as problem:
        if given:
            raise
        said = f"no repo was looked at: {problem.what}"
    local = prepared_folders(cache)
    rows = [
        Row(item.name, item.content, len(item.files), item.size, True,
            None if there is None else there.get(item.name) == item.content)
        for item in local
    ]  # fmt: skip
    elsewhere = sorted(set(there or {}) - {item.name for item in local})
    return rows + [Row(name, (there or {})[name], 0, 0, False, True) for name in elsewhere], said


def in_repo(api: HfApi, repo: str) -> dict[str, str]:
    """The folders that a repo knows, each with the name of its content. Raises LabError for an unknown repo."""
    return {name: pointer.content for name, pointer in pointers(api, repo, head(api, repo)).items()}


def warm(api: HfApi, cache: Path, task: str, repo: str) -> tuple[list[str], list[str]]:
    """Bring the task's folders to where they are missing: (sent to the repo, fetched from it).

    Every file is hashed before it is sent and after it was fetched; a folder appears whole or not at all.
    Raises LabError if a file was changed, if a folder holds other data here than there, if the repo is public,
    if another transfer is under way.
    """
    with transferring(cache):
        remove_scratch(cache)
        here = {folder.name: folder for folder in prepared_folders(cache) if is_of(folder.name, task)}
        if not here and not _exists(api, repo):
            raise _nothing(task)
        _need_private(api, repo)
        revision = head(api, repo)
        there = pointers(api, repo, revision)
        if not here and not any(is_of(name, task) for name in there):
            raise _nothing(task)
        for folder in here.values():
            _need_same(folder, there)
        listed = repo_files(api, repo, revision, "content")
        sent = [
            folder
            for name, folder in here.items()
            if name not in there or f"content/{folder.content}/{MANIFEST}" not in listed
        ]
        for folder in sent:
            check_folder(folder)
        if sent:
            commit(api, repo, f"Prepared data: {', '.join(folder.name for folder in sent)}",
                   lambda parent: _additions(api, repo, parent, sent))  # fmt: skip
        fetched = [name for name in sorted(there) if name not in here and is_of(name, task)]
        for name in fetched:
            _fetch(api, repo, revision, name, there[name].content, cache)
    return [folder.name for folder in sent], fetched


def share(api: HfApi, cache: Path, folder: Path, repo: str) -> Shared:
    """Make sure that a prepared folder's data is in a private dataset repo, and say where. Sends only what is missing.

    Waits while another process of this lab moves data. All that is in the repo at that commit has been hashed
    when this returns. Large data takes long: `connect` with the time for it.
    Raises LabError for a folder without data, for a file that was changed here or there, for a public repo.
    """
    manifest = folder / MANIFEST
    described = manifest.is_file() and manifest.read_bytes().strip() != b"{}"
    prepared = _prepared(folder) if described else None
    if prepared is None or not prepared.files:
        raise LabError(
            "holds no prepared data",
            where=str(folder),
            mend="`prepare` must leave a manifest.json with files",
        )
    _need_private(api, repo)
    base = f"content/{prepared.content}"
    with transferring(cache, wait=True):
        revision = head(api, repo)
        needed = {f"{base}/{name}" for name in (MANIFEST, *prepared.files)}
        if not needed <= set(repo_files(api, repo, revision, base)):
            check_folder(prepared)

            def build(parent: str) -> dict[str, bytes | Path]:
                return _content(prepared) | _free_pointer(api, repo, parent, prepared)

            revision, _ = commit(api, repo, f"Prepared data: {prepared.name}", build)
    with tempfile.TemporaryDirectory(prefix="autolab-share-") as scratch:
        _check_content(api, repo, revision, prepared.content, Path(scratch))
    return Shared(repo, revision, base, prepared.content)


def verify(api: HfApi, cache: Path, repo: str) -> list[str]:
    """The folders whose every byte is right, here and in the repo. Raises LabError that names what is not."""
    revision = head(api, repo)
    there = pointers(api, repo, revision)
    local = prepared_folders(cache)
    for folder in local:
        check_folder(folder)
        _need_same(folder, there)
    if not local and not there:
        raise _nothing(repo)
    with tempfile.TemporaryDirectory(prefix="autolab-verify-") as scratch:
        for content in sorted({pointer.content for pointer in there.values()}):
            _check_content(api, repo, revision, content, Path(scratch))
    return sorted({folder.name for folder in local} | set(there))


@contextmanager
def transferring(cache: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a transfer. If another process holds it: wait for it, or raise LabError."""
    path = cache / "transfer.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise LabError(
                "a transfer is under way",
                where=str(cache),
                mend="`autolab cache status` or `scripts/cache.py status` says when it has ended",
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


def new_scratch(cache: Path, name: str) -> Path:
    """A folder beside the prepared ones, where one of them is made or removed."""
    return Path(tempfile.mkdtemp(prefix=f".{name}.", dir=cache))


def scratch_folders(cache: Path) -> list[Path]:
    """What interrupted transfers left behind; only the holder of the transfer's lock may say that."""
    found = [path for path in cache.glob(".*-*.*") if is_folder_name(path.name[1:].rpartition(".")[0])]
    return sorted(path for path in found if path.is_dir())


def remove_scratch(cache: Path) -> None:
    """Remove what interrupted transfers left behind. Hold the transfer's lock."""
    for path in scratch_folders(cache):
        shutil.rmtree(path, ignore_errors=True)


def pointers(api: HfApi, repo: str, revision: str) -> dict[str, Pointer]:
    """The folders that a revision knows. Raises LabError that names a file that is no pointer."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="autolab-cache-") as scratch:
        for path in sorted(repo_files(api, repo, revision, "folders")):
            name = PurePosixPath(path).stem
            file = read_remote(api, repo, path, revision, Path(scratch))
            try:
                said = json.loads(file.read_text(encoding="utf-8")) if file else {}
                pointer = Pointer(str(said["content"]), float(said.get("sent_at", 0)))
            except (ValueError, KeyError, TypeError, AttributeError):
                pointer = Pointer("")
            if not is_folder_name(name) or not re.fullmatch(r"[0-9a-f]{32}", pointer.content):
                raise LabError(
                    f"{path} is damaged", where=f"repo {repo}", mend="delete that file from the repo"
                )
            found[name] = pointer
    return found


def megabytes(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


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


def _exists(api: HfApi, repo: str) -> bool:
    """Whether there is such a repo; the client's own `repo_exists` takes a wrong token for a no."""
    from huggingface_hub.errors import RepositoryNotFoundError

    need_token()
    with explained(f"repo {repo}"):
        try:
            api.dataset_info(repo)
        except RepositoryNotFoundError as error:
            if status_of(error) != 404:
                raise
            return False
    return True


def _nothing(whose: str) -> LabError:
    return LabError(
        "nothing is prepared yet, here or in the repo",
        where=whose,
        mend="`autolab run` prepares the data of a task that has a `prepare` command",
    )


def _need_private(api: HfApi, repo: str) -> None:
    if not ensure_repo(api, repo, private=True):
        raise LabError("is public", where=f"repo {repo}", mend="make it private, or name another one")


def _need_same(folder: Prepared, there: Mapping[str, Pointer]) -> None:
    if folder.name in there and there[folder.name].content != folder.content:
        raise LabError(
            "holds other data here than in the repo", where=folder.name, mend="delete the wrong one"
        )


def _additions(api: HfApi, repo: str, revision: str, sent: list[Prepared]) -> dict[str, bytes | Path]:
    """What a commit on top of `revision` must hold; somebody else may have sent some of it meanwhile."""
    there = pointers(api, repo, revision)
    known = {pointer.content for pointer in there.values()}
    files: dict[str, bytes | Path] = {}
    for folder in sent:
        _need_same(folder, there)
        if folder.name not in there:
            files |= _pointer(folder)
        if folder.content not in known:
            files |= _content(folder)
    return files


def _content(folder: Prepared) -> dict[str, bytes | Path]:
    base = f"content/{folder.content}"
    files: dict[str, bytes | Path] = {f"{base}/{name}": folder.directory / name for name in folder.files}
    return files | {f"{base}/{MANIFEST}": folder.manifest}


def _pointer(folder: Prepared) -> dict[str, bytes | Path]:
    said = {"content": folder.content, "sent_at": int(time.time())}
    return {f"folders/{folder.name}.json": json.dumps(said).encode() + b"\n"}


def _free_pointer(api: HfApi, repo: str, revision: str, folder: Prepared) -> dict[str, bytes | Path]:
    """The pointer to a folder, unless the repo has one of that name: another machine's data may differ."""
    taken = f"folders/{folder.name}.json" in repo_files(api, repo, revision, "folders")
    return {} if taken or not is_folder_name(folder.name) else _pointer(folder)


def _fetch(api: HfApi, repo: str, revision: str, name: str, content: str, cache: Path) -> None:
    """Fetch a folder beside its place, hash every file, then rename it into place."""
    base = f"content/{content}"
    listed = repo_files(api, repo, revision, base)
    needed = sum(file.size for file in listed.values())
    if needed > (free := shutil.disk_usage(cache).free) // 2:
        raise LabError(
            f"needs {megabytes(needed)}, of {megabytes(free)} free", where=name, mend="free some disk"
        )
    scratch = new_scratch(cache, name)
    try:
        manifest = _manifest(api, repo, revision, content, scratch)
        for file, digest in sorted(_files(manifest, name).items()):
            if _sha256(_fetched(api, repo, revision, f"{base}/{file}", scratch)) != digest:
                raise _changed(repo, f"{base}/{file}")
        _put(scratch / base, cache / name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _put(whole: Path, target: Path) -> None:
    """Rename a fetched folder into its place; what a failed `prepare` left there goes."""
    with alone(target) as ours:
        if not ours or (target / MANIFEST).exists():
            raise LabError(
                "is being prepared here", where=target.name, mend="wait until that has ended, then try again"
            )
        if target.exists():
            shutil.rmtree(target)
        whole.rename(target)


def _check_content(api: HfApi, repo: str, revision: str, content: str, scratch: Path) -> None:
    """Raise LabError that names the first file of a content that is wrong, missing, or not of it."""
    base = f"content/{content}"
    listed = repo_files(api, repo, revision, base)
    files = _files(_manifest(api, repo, revision, content, scratch), content)
    for file, digest in sorted(files.items()):
        path = f"{base}/{file}"
        if path not in listed:
            raise _missing(repo, path)
        if _digest(api, repo, revision, path, listed[path], scratch) != digest:
            raise _changed(repo, path)
    for path in sorted(set(listed) - {f"{base}/{name}" for name in (MANIFEST, *files)}):
        raise LabError(
            f"{path} is not in the manifest", where=f"repo {repo}", mend="delete that file from the repo"
        )


def _digest(api: HfApi, repo: str, revision: str, path: str, listed: RemoteFile, scratch: Path) -> str:
    """A file's SHA-256. Large ones are listed with it; of small ones the listing only has git's name."""
    return listed.sha256 or _sha256(_fetched(api, repo, revision, path, scratch))


def _manifest(api: HfApi, repo: str, revision: str, content: str, into: Path) -> bytes:
    path = f"content/{content}/{MANIFEST}"
    manifest = _fetched(api, repo, revision, path, into).read_bytes()
    if content_name(manifest) != content:
        raise _changed(repo, path)
    return manifest


def _fetched(api: HfApi, repo: str, revision: str, path: str, into: Path) -> Path:
    found = read_remote(api, repo, path, revision, into)
    if found is None:
        raise _missing(repo, path)
    return found


def _missing(repo: str, path: str) -> LabError:
    return LabError(
        f"{path} is missing",
        where=f"repo {repo}",
        mend="delete that content and its pointer in folders/ from the repo, then warm again",
    )


def _changed(repo: str, path: str) -> LabError:
    return LabError(
        f"{path} was changed: it is not what the manifest says",
        where=f"repo {repo}",
        mend="do not use this data; delete that content from the repo, and warm again",
    )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        return hashlib.file_digest(file, "sha256").hexdigest()
