"""Broken and hostile project folders and backups; for `bad_inputs.py`."""

from __future__ import annotations

import json
import random
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import google_crc32c
from bad_files import DEEP, WAYS, WAYS_OF_TEXT, Damage, copied, zip_bomb
from bad_runs import OUT, Case, Prepare, Scene

PROJECT = "clip.surgicalsam"
FILES = (  # one of each kind that docs/architecture.md lists, as patterns
    "project.json",
    "labels/zarr.json",
    "labels/c.1.0.0",
    "painted/c.1.0.0",
    "provenance/zarr.json",
    "provenance/c.0.0",
    "predicted_iou/c.0.0",
    "presence/c.0.0",
    "contested/c.0.0",
    "predicted_by/c.0.0",
    "before_verified/c.0.0",
    "checksums/zarr.json",
    "checksums/c.0.0",
    "history/*.json",
    "history/*.undo",
    "snapshots/*/snapshot.json",
    "snapshots/*/labels/c.1.0.0",
    "snapshots/*/provenance/c.0.0",
    "notes.json",
    "work.csv",
    "files.json",
    "tracks.json",
    "instances/zarr.json",
    "instances/c.1.0.0",
    "snapshots/*/tracks.json",
    "snapshots/*/instances/c.1.0.0",
    "parts/project.json",
    "parts/files.json",
    "parts/labels/c.1.0.0",
    "parts/painted/c.1.0.0",
    "parts/provenance/c.0.0",
    "parts/checksums/c.0.0",
)
TEXTS = (".json", ".undo")
COMPUTED = ("embeddings/*/embeddings/c.0.0.0.0", "embeddings/*/valid/c.0", "embeddings/*/embeddings/zarr.json")
COMMANDS: dict[str, tuple[str, ...]] = {  # every command that reads a project, for a damaged manifest and a damaged frame
    "export": ("--out", OUT),
    "notes": (),
    "log": (),
    "statistics": (),
    "classes": (),
    "overlay": (f"{OUT}.png", "--frames", "1"),
    "backup": (f"{OUT}.zip",),
    "fill": (),
    "learn": ("--out", OUT),
    "segment": ("--all", "--frames", "1"),
    "embed": ("--frames", "1"),
}


def cases(seed: int) -> Iterator[Case]:
    for pattern in FILES:
        ways = {**WAYS, **WAYS_OF_TEXT} if pattern.endswith(TEXTS) else WAYS
        if pattern.endswith("c.0.0"):
            ways = {**WAYS, "one wrong bit": flip_row}
        for fault, damage in ways.items():
            right = _right(pattern, fault)
            prepare = _damaged("check", (), pattern, damage, seed)
            yield Case("project", f"{pattern}: {fault}", prepare, right=right, writes=bool(right))
    for pattern in COMPUTED:
        for fault, damage in WAYS.items():
            prepare = _damaged("segment", ("--all", "--frames", "0"), pattern, damage, seed)
            right = "embeddings are computed again"
            yield Case("embeddings", f"{pattern}: {fault}", prepare, right, writes=True)
    for command, options in COMMANDS.items():
        yield Case(
            "project",
            f"project.json: cut in half, {command}",
            _damaged(command, options, "project.json", WAYS["cut in half"], seed),
        )
        yield Case(
            "project",
            f"painted/c.1.0.0: removed, {command}",
            writes=command in ("fill", "segment", "embed", "learn"),
            prepare=_damaged(command, options, "painted/c.1.0.0", WAYS["removed"], seed),
            right=_READS_NO_PIXELS.get(command, ""),
        )
    for fault, change in MANIFESTS.items():
        yield Case("project", f"project.json: {fault}", _damaged("info", (), "project.json", _changed_json(change), seed))
    for fault, prepare in HOSTILE.items():
        yield Case(
            "project", fault, prepare, right=_HOSTILE_RIGHT.get(fault, ""), writes=fault.startswith("parts/project.json")
        )
    yield from _backups(seed)


_READS_NO_PIXELS = {
    command: "reads nothing of the damaged frame, and changes nothing of it"
    for command in ("notes", "log", "classes", "embed")
}


def flip_row(path: Path, random: random.Random) -> None:
    """One wrong bit in the row of frame 1; other rows, and columns without a class, may belong to nothing."""
    content = bytearray(path.read_bytes())
    row = len(content) // 1024
    content[row + random.randrange(min(row, 2))] ^= 1 << random.randrange(8)
    path.write_bytes(content)


def _right(pattern: str, fault: str) -> str:
    if fault == "one wrong bit" and pattern.endswith("zarr.json"):
        return "a letter of a description or of a class's colour, which this program does not read there"
    if fault == "one wrong bit" and pattern == "parts/project.json":
        return "the manifest of the parts repeats the video of the project, and is written again from there"
    return ""


def _damaged(command: str, options: tuple[str, ...], pattern: str, damage: Damage, seed: int) -> Prepare:
    def prepare(scene: Scene, folder: Path) -> list[str]:
        project = _project(scene, folder)
        damage(next(iter(sorted(project.glob(pattern)))), random.Random(seed))
        return [command, str(project), *(str(folder / option) if option.startswith(OUT) else option for option in options)]

    return prepare


def _project(scene: Scene, folder: Path) -> Path:
    copied(scene.video, folder / "clip.mp4")
    return copied(scene.project, folder / PROJECT)


# project.json, still JSON ---------------------------------------------------------------------------------------------


def _changed_json(change: Callable[[dict], object]) -> Damage:
    def damage(path: Path, _random: random.Random) -> None:
        record = json.loads(path.read_text())
        change(record)
        path.write_text(json.dumps(record))

    return damage


def _setting(*keys: str, value: object) -> Callable[[dict], object]:
    def change(record: dict) -> None:
        for key in keys[:-1]:
            record = record[key]
        record[keys[-1]] = value

    return change


MANIFESTS: dict[str, Callable[[dict], object]] = {
    "one more frame": _setting("video", "frame_count", value=5),
    "one frame less": _setting("video", "frame_count", value=3),
    "10**15 frames": _setting("video", "frame_count", value=10**15),
    "frames beyond 64 bits": _setting("video", "frame_count", value=10**25),
    "another size": _setting("video", "size", value=[128, 96]),
    "a size of 10**9": _setting("video", "size", value=[10**9, 10**9]),
    "a negative size": _setting("video", "size", value=[-96, 128]),
    "a size of 0": _setting("video", "size", value=[0, 0]),
    "a class with another colour": lambda record: record["class_set"]["classes"][0].update(color="#123456"),
    "a class with another name": lambda record: record["class_set"]["classes"][2].update(name="Another name"),
    "two classes exchanged": lambda record: record["class_set"]["classes"].reverse(),
    "a class removed": lambda record: record["class_set"]["classes"].pop(),
    "10,000 classes": lambda record: record["class_set"].update(
        classes=[{"id": number, "name": f"class {number}"} for number in range(1, 10_001)]
    ),
    "a class name of 30 MB": lambda record: record["class_set"]["classes"][0].update(name="a" * 30_000_000),
    "a class name with control characters": lambda record: record["class_set"]["classes"][0].update(
        name="\x1b]0;x\x07\x1b[2J"
    ),
    "class ids that are texts": lambda record: record["class_set"]["classes"][0].update(id="1"),
    "class ids that are no numbers": lambda record: record["class_set"]["classes"][0].update(id=float("nan")),
    "no checksums": _setting("has_checksums", value=False),
    "another checkpoint": _setting("checkpoints", value=[{"name": 5, "digest": None}]),
    "a checkpoint outside of the project": _setting(
        "model_in_use", value={"digest": "x", "name": "x", "path": "/etc/passwd", "relative_path": "../../../etc/passwd"}
    ),
    "a video outside": _setting("video", "path", value="/etc/passwd"),
    "a video with another fingerprint": _setting("video", "fingerprint", value="0" * 32),
    "schema version 10**9": _setting("schema_version", value=10**9),
    "schema version -1": _setting("schema_version", value=-1),
    "a number that is not finite": _setting("video", "frame_rate", value=float("inf")),
}


# Hostile folders ------------------------------------------------------------------------------------------------------


def _with(change: Callable[[Scene, Path], object], command: str = "check", *options: str) -> Prepare:
    def prepare(scene: Scene, folder: Path) -> list[str]:
        project = _project(scene, folder)
        change(scene, project)
        return [command, str(project), *(str(folder / option) if option.startswith(OUT) else option for option in options)]

    return prepare


def _linked_out(name: str) -> Callable[[Scene, Path], object]:
    """A folder of the project is a link to that of another person's project."""

    def change(scene: Scene, project: Path) -> None:
        shutil.rmtree(project / name)
        (project / name).symlink_to(scene.canary / "patient.surgicalsam" / name)

    return change


def _linked_file(name: str) -> Callable[[Scene, Path], object]:
    def change(scene: Scene, project: Path) -> None:
        (project / name).unlink(missing_ok=True)
        (project / name).symlink_to(scene.canary / "notes.txt")

    return change


def _journal(record: object) -> Callable[[Scene, Path], object]:
    def change(scene: Scene, project: Path) -> None:
        text = record if isinstance(record, str) else json.dumps(record)
        (project / "pending.json").write_text(text.replace("CANARY", str(scene.canary)))
        (project / ".partial").mkdir(exist_ok=True)
        (project / ".partial" / "new").write_bytes(b"overwritten")

    return change


def _tracks(**fields: object) -> Callable[[Scene, Path], object]:
    """A table of one track, with a right checksum."""
    track = {"id": 1, "class": 2, "made_by": "linked", "spans": [[0, 1, 3]], **fields}
    return _tracks_text(f'"version": 1, "tracks": {json.dumps([track])}}}')


def _tracks_text(text: str) -> Callable[[Scene, Path], object]:
    def change(_scene: Scene, project: Path) -> None:
        rest = f'"format": "surgicalsam-tracks", {text}'.encode()
        (project / "tracks.json").write_bytes(f'{{"crc32c": {google_crc32c.value(rest)}, '.encode() + rest)

    return change


def _parts(change: Callable[[dict], object]) -> Callable[[Scene, Path], object]:
    """Another manifest of the parts."""

    def changed(_scene: Scene, project: Path) -> None:
        _changed_json(change)(project / "parts" / "project.json", random.Random(0))

    return changed


def _metadata(name: str, **fields: object) -> Callable[[Scene, Path], object]:
    def change(_scene: Scene, project: Path) -> None:
        path = project / name / "zarr.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))

    return change


def _anothers(name: str) -> Callable[[Scene, Path], object]:
    """A file of another project in its place."""

    def change(scene: Scene, project: Path) -> None:
        (project / name).write_bytes((scene.canary / "patient.surgicalsam" / name).read_bytes())

    return change


def _zstd_bomb(_scene: Scene, project: Path) -> None:
    """The chunk of a frame unpacks to 2 GiB."""
    import numcodecs

    frame = numcodecs.Zstd(level=1).encode(bytes(2**30))
    (project / "labels" / "c.1.0.0").write_bytes(frame + frame)


def _history(frames: object) -> Callable[[Scene, Path], object]:
    def change(_scene: Scene, project: Path) -> None:
        record = {"name": "Attack", "started": "2026-01-01T00:00:00+00:00", "frames": 1, "is_undone": False, "lines": 1}
        (project / "history" / "000077.json").write_text(json.dumps(record))
        (project / "history" / "000077.undo").write_text(json.dumps(frames) + "\n")

    return change


def _learned_from_outside(scene: Scene, project: Path) -> None:
    path = project / "project.json"
    record = json.loads(path.read_text())
    record["model_in_use"] = {"digest": "0", "name": "x", "path": str(scene.canary / "attack.pth")}
    path.write_text(json.dumps(record))


HOSTILE: dict[str, Prepare] = {
    "labels/ is a link to another project": _with(_linked_out("labels")),
    "painted/ is a link to another project": _with(_linked_out("painted")),
    "checksums/ is a link to another project": _with(_linked_out("checksums")),
    "history/ is a link to another project": _with(_linked_out("history")),
    "notes.json is a link to a file of the person": _with(_linked_file("notes.json")),
    "work.csv is a link to a file of the person, segment": _with(_linked_file("work.csv"), "check"),
    "project.json is a link to a file of the person": _with(_linked_file("project.json"), "info"),
    "pending.json replaces a file outside": _with(
        _journal({"frame": 1, "rows": {}, "files": [["CANARY/notes.txt", "new"]]})
    ),
    "pending.json removes a file outside": _with(_journal({"frame": 1, "rows": {}, "files": [["CANARY/notes.txt", None]]})),
    "pending.json removes a file outside, with ..": _with(
        _journal({"frame": 1, "rows": {}, "files": [["labels/../../../canary/notes.txt", None]]})
    ),
    "pending.json moves a file from outside": _with(
        _journal({"frame": 1, "rows": {}, "files": [["labels/c.1.0.0", "CANARY/notes.txt"]]})
    ),
    "pending.json removes project.json": _with(_journal({"frame": 1, "rows": {}, "files": [["project.json", None]]})),
    "pending.json of frame 10**12": _with(_journal({"frame": 10**12, "rows": {"provenance": "01"}, "files": []})),
    "pending.json of an unknown table": _with(_journal({"frame": 1, "rows": {"unknown": "01"}, "files": []})),
    "pending.json with a row that is too long": _with(
        _journal({"frame": 1, "rows": {"provenance": "01" * 5000}, "files": []})
    ),
    "pending.json with rows of another type": _with(_journal({"frame": "1", "rows": [1], "files": {}})),
    "pending.json deeply nested": _with(_journal(DEEP.decode())),
    "pending.json is a list": _with(_journal([1, 2, 3])),
    "pending.json with huge numbers": _with(_journal('{"frame": ' + "9" * 5000 + "}")),
    **{f"{name}/ is a link to another project": _with(_linked_out(name)) for name in ("instances", "parts")},
    "tracks.json is a link to a file of the person": _with(_linked_file("tracks.json")),
    "files.json is a link to a file of the person": _with(_linked_file("files.json")),
    **{
        f"{name} of another project": _with(_anothers(name))
        for name in ("tracks.json", "files.json", "instances/c.1.0.0", "parts/project.json", "parts/labels/c.2.0.0")
    },
    "tracks.json with a track of 10**30": _with(_tracks(id=10**30)),
    "tracks.json with a track of 4000 digits": _with(_tracks(id=int("9" * 4000))),
    "tracks.json with an endless track": _with(_tracks(id=float("inf"))),
    "tracks.json with 10**9 frames": _with(_tracks(spans=[[0, 10**9, 1]])),
    "tracks.json with frames of 10**30": _with(_tracks(spans=[[0, 10**30, 1]])),
    "tracks.json with an endless number": _with(_tracks(spans=[[0, 1, float("inf")]])),
    "tracks.json with a number of 10**9": _with(_tracks(spans=[[0, 1, 10**9]])),
    "tracks.json with spans that are texts": _with(_tracks(spans="abc")),
    "tracks.json with a class of 10**9": _with(_tracks(**{"class": 10**9}), "info"),
    "tracks.json made by 30 MB": _with(_tracks(made_by="a" * 30_000_000)),
    "tracks.json deeply nested": _with(_tracks_text('"tracks": ' + DEEP.decode())),
    "tracks.json of another version": _with(_tracks_text('"version": "x", "tracks": []}')),
    "tracks.json of version 10**9": _with(_tracks_text('"version": 1000000000, "tracks": []}')),
    "tracks.json without a version": _with(_tracks_text('"tracks": []}')),
    "files.json deeply nested": _with(lambda _scene, project: (project / "files.json").write_bytes(DEEP)),
    "files.json is a list": _with(lambda _scene, project: (project / "files.json").write_text("[1, 2]")),
    "files.json with huge numbers": _with(
        lambda _scene, project: (project / "files.json").write_text('{"whole": ' + "9" * 5000 + "}")
    ),
    "files.json of other types": _with(
        lambda _scene, project: (project / "files.json").write_text('{"whole": [1], "work": "x", "actions": {"a": 1}}')
    ),
    "instances of 10**12 frames": _with(_metadata("instances", shape=[10**12, 96, 128])),
    "instances of another type": _with(_metadata("instances", data_type="float64")),
    "parts/project.json of 10**15 frames": _with(_parts(_setting("video", "frame_count", value=10**15))),
    "parts/project.json without that it is of parts": _with(_parts(_setting("is_parts", value=False))),
    "parts/project.json with other parts": _with(_parts(lambda record: record["class_set"]["classes"].reverse())),
    "parts in parts": _with(lambda _scene, project: shutil.copytree(project / "parts", project / "parts" / "parts")),
    "labels of 10**12 frames": _with(_metadata("labels", shape=[10**12, 96, 128])),
    "labels of 2**40 pixels": _with(_metadata("labels", shape=[4, 2**20, 2**20])),
    "labels with an unknown codec": _with(_metadata("labels", codecs=[{"name": "os.system", "configuration": {}}])),
    "labels of another type": _with(_metadata("labels", data_type="float64")),
    "labels with a chunk of 0": _with(
        _metadata("labels", chunk_grid={"name": "regular", "configuration": {"chunk_shape": [0, 0, 0]}})
    ),
    "provenance of 10**9 columns": _with(_metadata("provenance", shape=[4, 10**9])),
    "checksums of no columns": _with(_metadata("checksums", shape=[4, 0])),
    "a chunk that unpacks to 2 GiB": _with(_zstd_bomb),
    "labels/c.1.0.0 of another project": _with(_anothers("labels/c.1.0.0")),
    "provenance/c.0.0 of another project": _with(_anothers("provenance/c.0.0")),
    "checksums/c.0.0 of another project": _with(_anothers("checksums/c.0.0")),
    "project.json of another project": _with(_anothers("project.json")),
    "notes.json of another project": _with(_anothers("notes.json")),
    "a record of the history that is a list": _with(_history([1, 2])),
    "a record of the history with a frame of 10**30": _with(_history({"frame": 10**30, "rows": {}, "chunks": {}})),
    "a record of the history that names files outside": _with(
        _history({"frame": 1, "rows": {}, "chunks": {"../../notes.txt": "AAAA"}, "after": "x"})
    ),
}


_FROM_THE_PROJECT = "the manifest of the parts repeats what the project says, and is written again from there"
_HOSTILE_RIGHT = {
    "instances of 10**12 frames": "as for labels; these frames are not read",
    "parts/project.json of another project": "both projects have the same parts",
    "parts/project.json of 10**15 frames": _FROM_THE_PROJECT,
    "parts/project.json with other parts": _FROM_THE_PROJECT,
    "parts in parts": "parts have no parts: nothing reads the folder",
    "labels of 10**12 frames": "an array may be longer after a kill while the video grew; these frames are not read",
}


# Backups --------------------------------------------------------------------------------------------------------------


def _backup(change: Callable[[Scene, Path], object]) -> Prepare:
    def prepare(scene: Scene, folder: Path) -> list[str]:
        backup = copied(scene.folder / "clip.surgicalsam.zip", folder / "backup.zip")
        change(scene, backup)
        return ["restore", str(backup), str(folder / "restored.surgicalsam")]

    return prepare


def _rewritten(files: dict[str, bytes], *, is_listed: bool = True, links: bool = False) -> Callable[[Scene, Path], object]:
    """More files in the backup, with or without being in its list."""

    def change(scene: Scene, backup: Path) -> None:
        with zipfile.ZipFile(backup) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        record = json.loads(content.pop("backup.json"))
        for name, data in files.items():
            name = name.replace("CANARY", str(scene.canary))
            content[name] = data
            if is_listed:
                record["files"][name] = [len(data), google_crc32c.value(data)]
        with zipfile.ZipFile(backup, "w") as archive:
            for name, data in content.items():
                entry = zipfile.ZipInfo(name)
                if links and name in files:
                    entry.external_attr = 0o120777 << 16
                archive.writestr(entry, data)
            archive.writestr("backup.json", json.dumps(record))

    return change


def _bomb(_scene: Scene, backup: Path) -> None:
    with zipfile.ZipFile(backup) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    record = json.loads(content.pop("backup.json"))
    record["files"]["labels/bomb"] = [2**31, 0]
    zip_bomb(backup, {**content, "backup.json": json.dumps(record).encode()})


def _list(text: bytes) -> Callable[[Scene, Path], object]:
    def change(_scene: Scene, backup: Path) -> None:
        with zipfile.ZipFile(backup, "w") as archive:
            archive.writestr("backup.json", text)

    return change


BACKUPS: dict[str, Callable[[Scene, Path], object]] = {
    "a file that leads out of the folder": _rewritten({"../../outside.txt": b"attack"}),
    "a file with an absolute path": _rewritten({"CANARY/notes.txt": b"attack"}),
    "a file with a path of Windows": _rewritten({"C:\\Users\\x.txt": b"attack"}),
    "a file that is not in its list": _rewritten({"labels/c.9.0.0": b"attack"}, is_listed=False),
    "a link to a file outside": _rewritten({"labels/c.9.0.0": b"/etc/passwd"}, links=True),
    "a file that unpacks to 2 GiB": _bomb,
    "a list that is no JSON": _list(b"\xff\xfe"),
    "a list deeply nested": _list(DEEP),
    "a list with huge numbers": _list(
        b'{"version": 1, "format": "surgicalsam-backup", "files": {"project.json": [' + b"9" * 4000 + b", 1]}}"
    ),
    "a list with negative numbers": _list(
        b'{"version": 1, "format": "surgicalsam-backup", "files": {"project.json": [-5, -1]}}'
    ),
    "a list of another program": _list(b'{"version": 1, "format": "other", "files": {}}'),
    "no list": lambda _scene, backup: zipfile.ZipFile(backup, "w").close(),
}


def _backups(seed: int) -> Iterator[Case]:
    for fault, damage in WAYS.items():
        yield Case("backup", fault, _backup(lambda _scene, path, damage=damage: damage(path, random.Random(seed))))
    for fault, change in BACKUPS.items():
        right = "the file is stored, not made as a link" if fault == "a link to a file outside" else ""
        yield Case("backup", fault, _backup(change), right=right, writes=bool(right))
