"""Broken and hostile checkpoints, class sets, settings and preferences; for `bad_inputs.py`."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from bad_files import DEEP, HUGE, WAYS, YAML_BOMB, Damage, copied, pickle_that_writes, torch_file_that_writes
from bad_runs import OUT, Case, Prepare, Scene


def cases(seed: int) -> Iterator[Case]:
    for fault, damage in WAYS.items():
        change = _from_damage(damage, seed)
        right = _ONE_BIT if fault == "one wrong bit" else ""
        yield Case("checkpoint", fault, _checkpoint(change), right=right)
    for fault, change in SAFETENSORS.items():
        yield Case("checkpoint", fault, _checkpoint(change), right=_RIGHT.get(fault, ""))
    for fault, change in METADATA.items():
        yield Case("checkpoint", fault, _checkpoint(_metadata(change)))
    for fault, write in PTH.items():
        yield Case("checkpoint", f"model_ckp.pth: {fault}", _pth(write, "model_ckp.pth"))
    yield Case("encoder weights", "sam.pth: code in a pickle", _encoder_weights)
    for fault, text in CLASS_SETS.items():
        yield Case("class set", fault, _classes(text))
    for fault, damage in WAYS.items():
        yield Case("class set", fault, _classes(GOOD_CLASSES, damage, seed))
    for fault, text in CONFIGS.items():
        yield Case("training settings", fault, _config(text), right=_RIGHT.get(fault, ""), writes=True)
    for fault, text in PREFERENCES.items():
        yield Case("preferences", fault, _preferences(text), writes=True)
    for fault, prepare in COMMAND_LINES.items():
        yield Case("command line", fault, prepare)


_ONE_BIT = "one weight of a million differs; the file has no checksum of its own, as all .safetensors"
_RIGHT: dict[str, str] = {
    "all weights NaN": "the weights are those of the file; every frame is shown as without instruments, for a person to see",
}


# Checkpoints ----------------------------------------------------------------------------------------------------------

Change = Callable[[Scene, Path], object]


def _from_damage(damage: Damage, seed: int) -> Change:
    return lambda _scene, path: damage(path, random.Random(seed))


def _checkpoint(change: Change) -> Prepare:
    def prepare(scene: Scene, folder: Path) -> list[str]:
        video, checkpoint = copied(scene.video, folder / "clip.mp4"), copied(scene.checkpoint, folder / "model.safetensors")
        change(scene, checkpoint)
        return [
            "segment",
            str(video),
            "--all",
            "--frames",
            "0",
            "--checkpoint",
            str(checkpoint),
            "--project-folder",
            str(folder / OUT),
        ]

    return prepare


def _header(change: Callable[[dict], object]) -> Change:
    """Change the JSON header of a .safetensors file."""

    def changed(_scene: Scene, path: Path) -> None:
        content = path.read_bytes()
        (size,) = struct.unpack("<Q", content[:8])
        header = json.loads(content[8 : 8 + size])
        header = change(header) or header
        text = json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])

    return changed


def _metadata(change: Callable[[dict], object]) -> Change:
    return _header(lambda header: change(header["__metadata__"]))


def _first_tensor(**fields: object) -> Callable[[dict], object]:
    def change(header: dict) -> None:
        name = next(name for name in header if name != "__metadata__")
        header[name].update(fields)

    return change


def _all_tensors(value: float) -> Change:
    def change(_scene: Scene, path: Path) -> None:
        import safetensors
        import safetensors.torch
        import torch

        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        tensors = {
            name: torch.full_like(tensor, value) if tensor.is_floating_point() else tensor
            for name, tensor in tensors.items()
        }
        safetensors.torch.save_file(tensors, path, metadata)

    return change


def _wrong_shape(_scene: Scene, path: Path) -> None:
    import safetensors
    import safetensors.torch

    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    name = max(tensors, key=lambda name: tensors[name].ndim)
    tensors[name] = tensors[name].reshape(-1).clone()
    safetensors.torch.save_file(tensors, path, metadata)


def _no_tensors(header: dict) -> dict:
    return {"__metadata__": header["__metadata__"]}


SAFETENSORS: dict[str, Change] = {
    "a header of 2**63 bytes": lambda _scene, path: path.write_bytes(struct.pack("<Q", 2**63) + path.read_bytes()[8:]),
    "a header of 100 MB": lambda _scene, path: path.write_bytes(struct.pack("<Q", 10**8) + b"{" + b" " * 10**8),
    "a header deeply nested": lambda _scene, path: path.write_bytes(struct.pack("<Q", len(DEEP)) + DEEP),
    "a header that is no JSON": lambda _scene, path: path.write_bytes(struct.pack("<Q", 8) + b"\xff" * 8),
    "no tensors": _header(_no_tensors),
    "no metadata": _header(lambda header: header.pop("__metadata__") and None),
    "a tensor beyond the end": _header(_first_tensor(data_offsets=[0, 10**12])),
    "a tensor with a negative place": _header(_first_tensor(data_offsets=[-8, 8])),
    "a tensor of 2**62 numbers": _header(_first_tensor(shape=[2**31, 2**31])),
    "a tensor of another type": _header(_first_tensor(dtype="F64")),
    "a tensor of an unknown type": _header(_first_tensor(dtype="CODE")),
    "a tensor of another shape": _wrong_shape,
    "all weights NaN": _all_tensors(float("nan")),
    "all weights infinite": _all_tensors(float("inf")),
    "a zip": lambda scene, path: path.write_bytes((scene.folder / "clip.surgicalsam.zip").read_bytes()),
    "a pickle": lambda scene, path: path.write_bytes(pickle_that_writes(scene.executed)),
}
METADATA: dict[str, Callable[[dict], object]] = {
    "classes that are no JSON": lambda metadata: metadata.update(classes="{"),
    "classes deeply nested": lambda metadata: metadata.update(classes=DEEP.decode()),
    "classes with ids of 5000 digits": lambda metadata: metadata.update(
        classes='{"name": "x", "classes": [{"id": ' + HUGE.decode() + ', "name": "x"}]}'
    ),
    "one class too many": lambda metadata: metadata.update(
        classes=json.dumps({"name": "x", "classes": [{"id": n, "name": f"class {n}"} for n in range(1, 30)]})
    ),
    "an unknown encoder": lambda metadata: metadata.update(encoder_id="../../attack"),
    "an encoder that does not fit": lambda metadata: metadata.update(encoder_id="vit_h"),
    "a wrong digest of the encoder": lambda metadata: metadata.update(encoder_digest="0" * 16),
    "a threshold that is no number": lambda metadata: metadata.update(presence_threshold="high"),
    "a threshold that is not finite": lambda metadata: metadata.update(presence_threshold="nan"),
    "a training record deeply nested": lambda metadata: metadata.update(training_record=DEEP.decode()),
    "format version 10**9": lambda metadata: metadata.update(format_version=str(10**9)),
    "a format version that is no number": lambda metadata: metadata.update(format_version="one"),
    "another format": lambda metadata: metadata.update(format="x"),
    "prompts that are unknown": lambda metadata: metadata.update(prompts="__import__('os')"),
}


def _pth(write: Callable[[Path, Path], object], name: str) -> Prepare:
    def prepare(scene: Scene, folder: Path) -> list[str]:
        video = copied(scene.video, folder / "clip.mp4")
        write(folder / name, scene.executed)
        command = ["segment", str(video), "--all", "--frames", "0", "--classes", "endovis2018"]
        return [*command, "--checkpoint", str(folder / name), "--project-folder", str(folder / OUT)]

    return prepare


def _torch_file(value: object) -> Callable[[Path, Path], object]:
    def write(path: Path, _executed: Path) -> None:
        import torch

        torch.save(value, path)

    return write


PTH: dict[str, Callable[[Path, Path], object]] = {
    "code in a pickle": lambda path, executed: path.write_bytes(pickle_that_writes(executed)),
    "code in a file of torch": torch_file_that_writes,
    "a file of torch with a list": _torch_file([1, 2, 3]),
    "a file of torch with other names": _torch_file({"state_dict": {}}),
    "a file of torch with texts in place of tensors": _torch_file(
        {"prototypes_state_dict": {"weight": "x"}, "sam_decoder_state_dict": 5, "prototype_prompt_encoder_state_dict": None}
    ),
    "empty": lambda path, _executed: path.write_bytes(b""),
    "random bytes": lambda path, _executed: path.write_bytes(random.Random(0).randbytes(10_000)),
    "a TorchScript program": lambda path, executed: torch_file_that_writes(path, executed),
}


def _encoder_weights(scene: Scene, folder: Path) -> list[str]:
    video, sam = copied(scene.video, folder / "clip.mp4"), folder / "sam_vit_b.pth"
    torch_file_that_writes(sam, scene.executed)
    return ["train", str(video), "--encoder", "vit_b", "--encoder-weights", str(sam), "--out", str(folder / OUT)]


# Class sets, settings -------------------------------------------------------------------------------------------------

GOOD_CLASSES = "name: mine\nclasses:\n- {id: 1, name: Grasper}\n"
CLASS_SETS = {
    "a tag that runs code": "!!python/object/apply:os.system ['touch EXECUTED']",
    "a tag that makes an object": "classes: !!python/name:os.system",
    "aliases that grow to 10**9": YAML_BOMB + "classes: *i\n",
    "aliases that grow, as a class": YAML_BOMB + "classes: [*i]\n",
    "aliases that grow, as a name": YAML_BOMB + "classes: [{id: 1, name: *i}]\n",
    "a class that contains itself": "classes: &a [*a]\n",
    "deeply nested": "classes: " + "[" * 20_000,
    "deeply nested and closed": "classes: " + "[" * 3000 + "]" * 3000,
    "ids of 5000 digits": f"classes: [{{id: {HUGE.decode()}, name: x}}]",
    "an id of 10**9": "classes: [{id: 1000000000, name: x}]",
    "an id below 0": "classes: [{id: -1, name: x}]",
    "an id that is a text": "classes: [{id: one, name: x}]",
    "an id that is no number": "classes: [{id: .nan, name: x}]",
    "an id that is true": "classes: [{id: true, name: x}]",
    "a name that is a number": "classes: [{id: 1, name: 5}]",
    "a name that is empty": "classes: [{id: 1, name: ''}]",
    "a name with control characters": 'classes: [{id: 1, name: "\\e]0;x\\a"}]',
    "a colour that is none": "classes: [{id: 1, name: x, color: [1, 2]}]",
    "a date in place of a name": "classes: [{id: 1, name: 2026-01-01}]",
    "no classes": "name: x",
    "a list": "- a\n- b\n",
    "the same id twice": "classes: [{id: 1, name: x}, {id: 1, name: y}]",
    "300 classes": "classes: [" + ", ".join(f"{{id: {n}, name: c{n}}}" for n in range(1, 301)) + "]",
    "two documents": "classes: []\n---\nclasses: []\n",
    "binary data": "classes: !!binary aGVsbG8=",
    "a set": "classes: !!set {a, b}",
    "a key that is a list": "? [a, b]\n: c\n",
    "a key that is a list in an object": "{classes: {[a]: b}}",
    "a merge of a text": "classes: [{<<: x, id: 1, name: y}]",
    "a time that cannot be": "classes: [{id: 1, name: 2026-99-99}]",
}


def _classes(text: str, damage: Damage | None = None, seed: int = 0) -> Prepare:
    def prepare(scene: Scene, folder: Path) -> list[str]:
        video, classes = copied(scene.video, folder / "clip.mp4"), folder / "classes.yaml"
        classes.write_text(text.replace("EXECUTED", str(scene.executed)))
        if damage is not None:
            damage(classes, random.Random(seed))
        return [
            "segment",
            str(video),
            "--all",
            "--frames",
            "0",
            "--classes",
            str(classes),
            "--project-folder",
            str(folder / OUT),
        ]

    return prepare


CONFIGS = {
    "a tag that runs code": "!!python/object/apply:os.system ['touch EXECUTED']",
    "aliases that grow to 10**9": YAML_BOMB + "epochs: *i\n",
    "deeply nested": "epochs: " + "[" * 20_000,
    "a list": "- 1\n",
    "empty": "",
    "text that is no YAML": "a: b: c: [",
    "an unknown setting": "attack: 1\n",
    "epochs of 5000 digits": f"epochs: {HUGE.decode()}\n",
    "epochs below 0": "epochs: -1\n",
    "a learning rate that is no number": "learning_rate: .nan\n",
    "a batch of 0": "batch_size: 0\n",
    "a checkpoint that is a list": "checkpoint: [1]\n",
    "an encoder that is unknown": "encoder: attack\n",
    "random bytes": "\x00\x01\x02",
}


def _config(text: str) -> Prepare:
    def prepare(scene: Scene, folder: Path) -> list[str]:
        config = folder / "config.yaml"
        config.write_text(text.replace("EXECUTED", str(scene.executed)))
        copied(scene.video, folder / "clip.mp4")
        project = copied(scene.project, folder / "clip.surgicalsam")
        return ["train", str(config), str(project), "--out", str(folder / OUT), *(["--epochs", "0"] if not text else [])]

    return prepare


# Preferences, command line ---------------------------------------------------------------------------------------------

PREFERENCES = {
    "empty": b"",
    "random bytes": random.Random(0).randbytes(500),
    "deeply nested": DEEP,
    "numbers of 5000 digits": b'{"layout": {"panel_width": ' + HUGE + b"}}",
    "a list": b"[1, 2]",
    "wrong types": b'{"videos": 5, "folders": [], "annotator": {}}',
    "cut": b'{"videos": [{"path": "/a',
    "a number that is not finite": b'{"layout": {"panel_width": 1e999}}',
}


def _preferences(content: bytes) -> Prepare:
    def prepare(_scene: Scene, folder: Path) -> list[str]:
        (folder / "preferences.json").write_bytes(content)
        return ["preferences"]

    return prepare


def _line(*arguments: str) -> Prepare:
    def prepare(scene: Scene, folder: Path) -> list[str]:
        copied(scene.video, folder / "clip.mp4")
        project = copied(scene.project, folder / "clip.surgicalsam")
        named = {"PROJECT": str(project), "VIDEO": str(folder / "clip.mp4"), "OUT": str(folder / OUT)}
        return [named.get(argument, argument) for argument in arguments]

    return prepare


COMMAND_LINES: dict[str, Prepare] = {
    "a frame of 5000 digits": _line("segment", "VIDEO", "--all", "--frames", HUGE.decode(), "--project-folder", "OUT"),
    "a frame below the first": _line("segment", "VIDEO", "--all", "--frames", "-99", "--project-folder", "OUT"),
    "frames with a step of 0": _line("export", "PROJECT", "--frames", "0:4:0", "--out", "OUT"),
    "a path with a zero byte": _line("info", "clip\0.surgicalsam"),
    "a path of 100,000 letters": _line("info", "a" * 100_000),
    "a path with characters that are no text": _line("info", "\udcff\udcfe"),
    "an empty path": _line("check", ""),
    "a folder for a file": _line("restore", "PROJECT", "OUT"),
    "a device that is none": _line(
        "segment", "VIDEO", "--all", "--device", "cuda:999999999999999999999", "--project-folder", "OUT"
    ),
    "a cluster without encryption": _line(
        "segment", "VIDEO", "--all", "--cluster", "tcp://192.0.2.1:8786;x", "--project-folder", "OUT"
    ),
    "a colour that is none": _line("classes", "PROJECT", "--color", "Clip Applier", "red; rm -rf"),
    "an order with 100,000 names": _line("classes", "PROJECT", "--order", ",".join(["a"] * 100_000)),
}
