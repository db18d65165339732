"""Puts files into directories that belong to somebody else, so that they can be upgraded and taken out again.

A manifest says what is ours: every file with the hash of what was written, the folders that had to be made,
and the rules that were added to a settings file of the user. It is written first, as an intent, and again when
all is done, so that a run which is killed in between is completed by the next one. Whatever differs from the
recorded hash has been edited by its owner and is left alone.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from autolab.errors import LabError
from autolab.ledger.views import replacing
from autolab.pack.merging import Lists, added, merged, same_settings, without

FORMAT = 1


@dataclass(frozen=True)
class File:
    """A file of ours, whole."""

    data: bytes
    executable: bool = False


@dataclass(frozen=True)
class Rules:
    """Lists of strings that belong into a JSON file of the user's, each under its path of keys."""

    lists: Lists


Contents = Mapping[Path, File | Rules]


@dataclass(frozen=True)
class Place:
    """Where a pack goes: into the project `root`, or, `globally`, into the home `root`.

    `opencode` is OpenCode's own directory there. The scripts that every host calls and the manifest lie in its
    `autolab` folder, whatever the host, so that a skill reads the same to all of them.
    """

    root: Path
    opencode: Path
    globally: bool = False

    @property
    def engine_room(self) -> Path:
        """Scripts, the name of the interpreter, and the manifest."""
        return self.opencode / "autolab"

    @property
    def manifest(self) -> Path:
        """What is ours here."""
        return self.engine_room / "manifest.json"

    def name(self, path: Path) -> str:
        """How the manifest and messages call a path: relative to `root` if it lies there."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def path(self, name: str) -> Path:
        """The path behind a name in the manifest."""
        return self.root / name


@dataclass
class Entry:
    """What the manifest knows of a file: the hash we wrote, and others that are ours as well in mid-upgrade."""

    sha256: str
    also: list[str] = field(default_factory=list)
    written: bool = True


@dataclass
class Merge:
    """What the manifest knows of a settings file: its bytes before us, the hash after, and what was added."""

    sha256: str
    original: bytes | None
    lists: Lists


@dataclass
class Manifest:
    """What is ours in a place."""

    version: str = ""
    hosts: list[str] = field(default_factory=list)
    complete: bool = True
    folders: list[str] = field(default_factory=list)
    files: dict[str, Entry] = field(default_factory=dict)
    merges: dict[str, Merge] = field(default_factory=dict)


@dataclass
class Changes:
    """What a run did, by names: for the report."""

    written: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    offered: list[str] = field(default_factory=list)
    folders_kept: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.written or self.replaced or self.removed)


def sha256(data: bytes) -> str:
    """Hex digits."""
    return hashlib.sha256(data).hexdigest()


def read_manifest(place: Place) -> Manifest | None:
    """What is ours in `place`, None where nothing was ever installed. Raises LabError if it cannot be read."""
    path = place.manifest
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_bytes())
        if raw["format"] > FORMAT:
            raise LabError(
                "was written by a newer Autolab", where=str(path), mend="upgrade autolab, then run this again"
            )
        return Manifest(
            version=raw["version"],
            hosts=list(raw["hosts"]),
            complete=raw["complete"],
            folders=list(raw["folders"]),
            files={name: Entry(**entry) for name, entry in raw["files"].items()},
            merges={
                name: Merge(
                    sha256=entry["sha256"],
                    original=None if entry["original"] is None else base64.b64decode(entry["original"]),
                    lists={tuple(key.split("/")): rules for key, rules in entry["lists"].items()},
                )
                for name, entry in raw["merges"].items()
            },
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabError(
            f"is no manifest of ours ({type(error).__name__})",
            where=str(path),
            mend="restore it from version control; without it nobody knows which files are ours",
        ) from error


def _write_manifest(place: Place, manifest: Manifest) -> None:
    raw = {
        "format": FORMAT,
        "version": manifest.version,
        "hosts": manifest.hosts,
        "complete": manifest.complete,
        "folders": sorted(manifest.folders),
        "files": {name: vars(entry) for name, entry in sorted(manifest.files.items())},
        "merges": {
            name: {
                "sha256": merge.sha256,
                "original": None if merge.original is None else base64.b64encode(merge.original).decode(),
                "lists": {"/".join(keys): rules for keys, rules in merge.lists.items()},
            }
            for name, merge in sorted(manifest.merges.items())
        },
    }
    with replacing(place.manifest) as file:
        file.write(json.dumps(raw, indent=1) + "\n")


def bring(place: Place, contents: Contents, hosts: Iterable[str], version: str) -> Changes:
    """Make `contents` what is ours in `place`: write, upgrade and take away, and touch nothing else.

    A second call changes no byte. Empty `contents` takes everything out, the manifest last.

    Raises:
        LabError: a file of the user's is in the way, a folder leads out of the place, or settings cannot be
            merged. Nothing has been written then.
    """
    with _alone(place.root):
        old = read_manifest(place) or Manifest(folders=_left_behind(place))
        _check_paths(place, contents, old)
        _clear_temporaries(place, {*old.files, *old.merges, *map(place.name, contents)})
        plan = _Plan(place, contents, old)
        new = Manifest(version, list(hosts), True, [], plan.files, plan.merges)
        new.folders = sorted({*old.folders, *_missing_folders(place, [*plan.writes, place.manifest])})
        if contents and not plan.writes and not plan.deletes and _same(new, old):
            return plan.changes
        if contents or old.files or old.merges or old.folders:
            _check_writable(place, [*plan.writes, *plan.deletes, place.manifest])
            _carry_out(place, plan, old, new, last=not contents)
        return plan.changes


class _Plan:
    """What has to be done, found out before anything is."""

    def __init__(self, place: Place, contents: Contents, old: Manifest) -> None:
        self.place, self.old = place, old
        self.writes: dict[Path, File] = {}
        self.deletes: list[Path] = []
        self.files: dict[str, Entry] = {}
        self.merges: dict[str, Merge] = {}
        self.changes = Changes()
        self._in_the_way: list[str] = []
        for path, content in contents.items():
            if isinstance(content, File):
                self._file(path, content)
            else:
                self._rules(path, content)
        for name, entry in old.files.items():
            if name not in self.files and place.path(name) not in contents:
                self._gone(name, entry)
        for name in old.merges.keys() - self.merges.keys():
            self._restore(name)
        if self._in_the_way:
            names = ", ".join(self._in_the_way[:3])
            more = f" and {len(self._in_the_way) - 3} more" if len(self._in_the_way) > 3 else ""
            raise LabError(
                f"{names}{more}: there is a file of yours with that name",
                where=str(place.root),
                mend="rename it, or move it away while the pack is installed; nothing was changed",
            )

    def _file(self, path: Path, content: File) -> None:
        name, digest = self.place.name(path), sha256(content.data)
        entry = self.old.files.get(name)
        there = _digest(path)
        if there is None:
            self._write(name, path, content, self.changes.written)
        elif there == digest:
            # The same content, but never written by us: the user's own copy, which stays when we go.
            if entry is not None:
                self.files[name] = Entry(digest)
                if content.executable and not os.access(path, os.X_OK):
                    self._write(name, path, content, self.changes.replaced)
        elif entry is not None and there in (entry.sha256, *entry.also):
            self._write(name, path, content, self.changes.replaced)
        elif entry is not None and entry.written:
            self._edited(name, path, content, entry)
        else:
            self._in_the_way.append(name)

    def _edited(self, name: str, path: Path, content: File, entry: Entry) -> None:
        """The owner's edit stays; what is new since that edit is put beside it."""
        self.files[name] = entry
        self.changes.kept.append(name)
        if sha256(content.data) == entry.sha256:
            return
        beside = path.with_name(f"{path.name}.new")
        known = self.old.files.get(self.place.name(beside))
        there = _digest(beside)
        if there is None and known is not None and known.sha256 == sha256(content.data):
            self.files[self.place.name(beside)] = known  # offered before, and taken away by the owner
        elif (
            there is None or there == sha256(content.data) or (known and there in (known.sha256, *known.also))
        ):
            self.changes.offered.append(self.place.name(beside))
            self._file(beside, content)

    def _write(self, name: str, path: Path, content: File, done: list[str]) -> None:
        self.writes[path] = content
        self.files[name] = Entry(sha256(content.data))
        done.append(name)

    def _gone(self, name: str, entry: Entry) -> None:
        path = self.place.path(name)
        there = _digest(path)
        if there in (entry.sha256, *entry.also):
            self.deletes.append(path)
            self.changes.removed.append(name)
        elif there is not None and entry.written:
            self.changes.kept.append(name)

    def _rules(self, path: Path, content: Rules) -> None:
        name = self.place.name(path)
        if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
            raise LabError(
                "is a link or a folder, and rules have to be added to it",
                where=str(path),
                mend="put a plain file there; nothing was changed",
            )
        there = path.read_bytes() if path.exists() else None
        there_before = self._before(name, there)
        lists = added(there_before, content.lists, where=str(path))
        if not lists:
            return
        after = merged(there_before, lists, where=str(path))
        self.merges[name] = Merge(sha256(after), there_before, lists)
        if after != there:
            self.writes[path] = File(after)
            (self.changes.replaced if there is not None else self.changes.written).append(name)

    def _before(self, name: str, there: bytes | None) -> bytes | None:
        """What a settings file would be without us: its old bytes, or, edited meanwhile, without our rules."""
        merge = self.old.merges.get(name)
        if merge is None or there is None:
            return there
        if sha256(there) == merge.sha256:
            return merge.original
        before = without(there, merge.lists, where=str(self.place.path(name)))
        return merge.original if same_settings(before, merge.original) else before

    def _restore(self, name: str) -> None:
        path = self.place.path(name)
        if path.is_symlink() or not path.is_file():
            return
        there = path.read_bytes()
        before = self._before(name, there)
        if before is None:
            self.deletes.append(path)
        elif before != there:
            self.writes[path] = File(before)
        else:
            return
        self.changes.removed.append(f"{name} (our rules)")


def _carry_out(place: Place, plan: _Plan, old: Manifest, new: Manifest, *, last: bool) -> None:
    """Intent, files, final; the manifest knows at every moment which files could be ours."""
    made = set(_missing_folders(place, [place.manifest]))
    place.engine_room.mkdir(parents=True, exist_ok=True)
    intent = Manifest(new.version, new.hosts, False, sorted({*new.folders, *made}), {}, {})
    intent.merges = {**old.merges, **plan.merges}
    for name in old.merges.keys() & plan.merges.keys():
        before, after = old.merges[name].lists, plan.merges[name].lists
        lists = {
            keys: [*dict.fromkeys([*before.get(keys, []), *after.get(keys, [])])]
            for keys in {**before, **after}
        }
        intent.merges[name] = replace(plan.merges[name], lists=lists)
    for name in {**old.files, **plan.files}:
        was, will = old.files.get(name), plan.files.get(name)
        if was is None:
            intent.files[name] = Entry(plan.files[name].sha256, written=False)
        else:
            also = {*was.also, *([will.sha256] if will else [])} - {was.sha256}
            intent.files[name] = Entry(was.sha256, sorted(also), was.written)
    _write_manifest(place, intent)
    for path, content in plan.writes.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, content)
    for path in plan.deletes:
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            compiled.unlink()
        _remove_empty(path.parent / "__pycache__")
        path.unlink(missing_ok=True)
    if not last:
        new.folders = [folder for folder in intent.folders if place.path(folder).is_dir()]
        new.folders = _without_empty(place, new, plan)
        _write_manifest(place, new)
        return
    room = {place.engine_room, *place.engine_room.parents}
    ours = sorted((place.path(name) for name in intent.folders), key=lambda path: -len(path.parts))
    kept = [path for path in ours if path not in room and not _remove_empty(path)]
    place.manifest.unlink(missing_ok=True)
    kept += [path for path in ours if path in room and not _remove_empty(path)]
    plan.changes.folders_kept = [place.name(path) for path in kept]


def _without_empty(place: Place, new: Manifest, plan: _Plan) -> list[str]:
    """Folders of ours that an upgrade has emptied go; the others are still ours."""
    emptied = {parent for path in plan.deletes for parent in path.parents}
    left = []
    for name in sorted(new.folders, key=lambda name: -name.count("/")):
        if not (place.path(name) in emptied and _remove_empty(place.path(name))):
            left.append(name)
    return sorted(left)


def _remove_empty(path: Path) -> bool:
    """Whether the folder is gone now."""
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _same(new: Manifest, old: Manifest) -> bool:
    return (new.version, new.hosts, new.complete, new.folders, new.files, new.merges) == (
        old.version, old.hosts, old.complete, sorted(old.folders), old.files, old.merges,
    )  # fmt: skip


def _digest(path: Path) -> str | None:
    """The hash of a regular file; None where nothing is; a link or a folder never looks like ours."""
    try:
        kind = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    return sha256(path.read_bytes()) if stat.S_ISREG(kind) else "not a regular file"


def _temporary(path: Path) -> Path:
    """Always the same name, so that what a killed run left is found by the next; OpenCode reads no such file."""
    return path.with_name(f".{path.name}.autolab-part")


def _write(path: Path, content: File) -> None:
    temporary = _temporary(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(temporary, flags, 0o777 if content.executable else 0o666), "wb") as file:
        if path.exists():
            mode = stat.S_IMODE(path.stat().st_mode)
            os.fchmod(file.fileno(), mode | (mode & 0o444) >> 2 if content.executable else mode)
        file.write(content.data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _clear_temporaries(place: Place, names: Iterable[str]) -> None:
    for name in names:
        _temporary(place.path(name)).unlink(missing_ok=True)
    if place.engine_room.is_dir():
        for stray in place.engine_room.glob(f".{place.manifest.name}.*"):
            stray.unlink()


def _missing_folders(place: Place, paths: Iterable[Path]) -> list[str]:
    """Folders that have to be made for these files."""
    missing = {parent for path in paths for parent in path.parents if not parent.exists()}
    return sorted(map(place.name, missing))


def _left_behind(place: Place) -> list[str]:
    """The empty folders of a run that was killed before its first manifest, or after its last."""
    room = place.engine_room
    if not room.is_dir() or room.is_symlink():
        return []
    if any(not path.name.startswith(f".{place.manifest.name}.") for path in room.iterdir()):
        return []
    ours = [room]
    while [*ours[-1].parent.iterdir()] == [ours[-1]] and ours[-1].parent not in (
        place.root,
        place.opencode.parent,
    ):
        ours.append(ours[-1].parent)
    return [place.name(path) for path in ours]


def _check_paths(place: Place, contents: Contents, old: Manifest) -> None:
    """No folder on the way may be a link that leads out of the place, and no file may stand where one must be."""
    names = {*old.files, *old.merges, *map(place.name, contents), place.name(place.manifest)}
    for parent in sorted({parent for name in names for parent in place.path(name).parents}):
        top = _top(place, parent)
        if top is None or not os.path.lexists(parent):
            continue
        if not parent.resolve().is_relative_to(top.resolve()):
            raise LabError(
                f"is a link that leads out of {top}",
                where=str(parent),
                mend="replace it by a folder, or install where it leads to",
            )
        if not parent.is_dir():
            raise LabError(
                "is a file, and a folder has to be there", where=str(parent), mend="rename or remove it"
            )


def _top(place: Place, path: Path) -> Path | None:
    """The folder that `path` must not leave. A user's own configuration folders may be links as a whole."""
    if not place.globally:
        return place.root if path != place.root and path.is_relative_to(place.root) else None
    if path.is_relative_to(place.opencode):
        return place.opencode
    below = path.relative_to(place.root).parts if path.is_relative_to(place.root) else ()
    if not below or place.opencode.is_relative_to(path):
        return None
    return place.root / below[0]


def _check_writable(place: Place, paths: Iterable[Path]) -> None:
    for folder in sorted({next(parent for parent in path.parents if parent.exists()) for path in paths}):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise LabError("cannot be written to", where=str(folder), mend="chmod u+w it, or ask its owner")


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One run at a time; the lock is on the directory itself and leaves nothing behind."""
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
