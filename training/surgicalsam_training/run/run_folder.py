"""A run's folder: its configuration, record, metrics and checkpoints."""

from __future__ import annotations

import csv
import errno
import json
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from surgicalsam_napari.errors import SurgicalSAMError, TrainingError
from surgicalsam_napari.files import replacing, write_file
from surgicalsam_napari.model.checkpoint import BEST_OF_A_RUN
from surgicalsam_napari.store.disk.files import STAGING, translate, writing
from surgicalsam_napari.store.disk.write_lock import WriteLock
from surgicalsam_napari.untrusted import read_json
from surgicalsam_training.config import TrainingConfig, read_config
from surgicalsam_training.reports import EpochReport, ResultReport, Scores, from_line, to_line

NOT_COMPARED = {"epochs", "minutes", "patience", "device", "micro_batch_size"}  # may change when a run is resumed


class RunFolder:
    """One training, running, stopped or finished.

    ::

        run/
          config.yaml        every setting
          record.json        fingerprints of the data, split, versions, seed
          metrics.csv        losses and validation of every epoch
          curves.png         metrics.csv as a picture
          best.safetensors   the checkpoint with the best validation Challenge IoU
          last.pt            state to resume from after a stop: weights, optimiser, epoch
          result.json        after it is finished
          examples/          validation frames: corrected, before, after
          log.txt            printed output

    Made by `create` or `open`.
    """

    def __init__(self, path: Path, config: TrainingConfig) -> None:
        self.path, self.config = path, config

    @classmethod
    def create(cls, path: Path | str, config: TrainingConfig) -> RunFolder:
        """Make a run, or resume the stopped run in this folder if it has the same settings.

        A run that ended before its first epoch, for example because of wrong data, starts again, with any settings.

        Raises
        ------
        TrainingError
            the folder has an active or a finished run, or one with other settings; it has other files, or is not writable
        DiskSpaceError
            the disk is full
        """
        path = Path(path).expanduser().absolute()
        config = config.model_copy(update={name: _absolute(getattr(config, name)) for name in _PATHS})
        run = cls(path, config)
        try:
            if run._exists:
                run._check_can_resume()
            elif path.exists() and not (path.is_dir() and _is_practically_empty(path)):
                raise TrainingError(f"A run needs a new or empty folder, but {path} is not. Choose another one (--out).")
            path.mkdir(parents=True, exist_ok=True)
            if not run._has_begun:
                for name in ("record.json", BEST_OF_A_RUN):
                    (path / name).unlink(missing_ok=True)
        except OSError as error:
            raise _not_writable(path, error) from error
        run._write_text("config.yaml", config.to_yaml())
        return run

    @classmethod
    def open(cls, path: Path | str) -> RunFolder:
        """An existing run; a TrainingError if there is none."""
        path = Path(path).expanduser().absolute()
        if not (path / "config.yaml").is_file():
            raise TrainingError(f"{path} holds no run: it has no config.yaml. Choose the folder that was given to --out.")
        try:
            return cls(path, read_config(path / "config.yaml"))
        except TrainingError as error:
            raise TrainingError(f"{path} holds a run that cannot be read. {error}") from error

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def best_checkpoint(self) -> Path:
        return self.path / BEST_OF_A_RUN

    @property
    def last_state(self) -> Path:
        return self.path / "last.pt"

    @property
    def metrics_csv(self) -> Path:
        return self.path / "metrics.csv"

    @property
    def curves(self) -> Path:
        return self.path / "curves.png"

    @property
    def examples(self) -> Path:
        return self.path / "examples"

    @property
    def record(self) -> dict[str, Any]:
        """The content of record.json; empty before the run has begun."""
        return self._read_json("record.json")

    def write_record(self, **entries: Any) -> None:
        """Add to record.json."""
        self._write_text("record.json", json.dumps({**self.record, **entries}, indent=2, ensure_ascii=False) + "\n")

    def result(self) -> ResultReport | None:
        """How the run ended; None if it is not finished."""
        try:
            report = from_line((self.path / "result.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return report if isinstance(report, ResultReport) else None

    def write_result(self, result: ResultReport) -> None:
        self._write_text("result.json", to_line(result) + "\n")

    @property
    def discarded(self) -> bool:
        """Whether the user discarded its checkpoint; the file is still kept."""
        return (self.path / "discarded").exists()

    @discarded.setter
    def discarded(self, discarded: bool) -> None:
        if discarded:
            with writing("The run", self.path):
                (self.path / "discarded").touch()
        else:
            (self.path / "discarded").unlink(missing_ok=True)

    # ---- one process at a time, and the request to stop

    @property
    def is_running(self) -> bool:
        """Whether a process is training here."""
        lock = WriteLock(self.path)
        try:
            return not lock.try_to_hold()
        except OSError:  # a folder that cannot be written
            return False
        finally:
            lock.close()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out; a TrainingError if another process trains here."""
        lock = WriteLock(self.path)
        with writing("The run", self.path):
            is_held = lock.try_to_hold()
        if not is_held:
            raise TrainingError(f"A run is active in {self.path}. Wait for it, stop it, or choose another folder (--out).")
        try:
            (self.path / "stop").unlink(missing_ok=True)
            yield
        finally:
            lock.close()

    def request_stop(self) -> None:
        """Ask the process that trains here to end after the current step; the best checkpoint so far is kept."""
        with writing("The request to stop", self.path):
            (self.path / "stop").touch()

    @property
    def is_stop_requested(self) -> bool:
        return (self.path / "stop").exists()

    # ---- metrics

    def append_metrics(self, report: EpochReport, scores: Scores | None, seconds: float, threshold: float) -> None:
        """Append a line to metrics.csv; all lines have the columns of the first."""
        row: dict[str, Any] = {"epoch": report.done, "seconds": round(seconds, 2)}
        row |= {name: f"{value:.6f}" for name, value in report.losses.items()}
        for name in ("challenge_iou", "iou", "mean_class_iou", "absent_false_positive_rate", "missed_rate"):
            value = None if scores is None else getattr(scores, name)
            row[name] = "" if value is None else value
        row["presence_threshold"] = threshold
        with writing("The metrics", self.path), self.metrics_csv.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(row))
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)

    def metrics(self) -> list[dict[str, float | None]]:
        """The lines of metrics.csv; None for a missing value."""
        try:
            with self.metrics_csv.open(newline="", encoding="utf-8") as file:
                return [{key: float(value) if value else None for key, value in row.items()} for row in csv.DictReader(file)]
        except FileNotFoundError:
            return []

    def forget_metrics_after(self, epoch: int) -> None:
        """Remove the lines of epochs that will run again."""
        with suppress(FileNotFoundError):
            lines = self.metrics_csv.read_text(encoding="utf-8").splitlines(keepends=True)
            kept = [line for line in lines[1:] if line.endswith("\n") and int(line.split(",")[0]) <= epoch]
            self._write_text("metrics.csv", "".join([*lines[:1], *kept]))

    # ---- resuming

    def save_state(self, state: dict[str, Any]) -> None:
        """Replace last.pt completely or not at all; a DiskSpaceError if the disk is full."""
        with writing("The state of the run", self.path), replacing(self.last_state) as partial:
            try:
                torch.save(state, partial)
            except RuntimeError as error:  # this is how torch reports a full disk
                raise OSError(errno.ENOSPC, str(error)) from error

    def load_state(self) -> dict[str, Any] | None:
        """The state that `save_state` wrote; None if there is none, a TrainingError if it is damaged."""
        if not self.last_state.exists():
            return None
        try:
            return torch.load(self.last_state, weights_only=True, map_location="cpu")
        except Exception as error:
            raise TrainingError(
                f"{self.last_state} is damaged ({type(error).__name__}). Remove it to start this run from the beginning."
            ) from error

    def check_data(self, fingerprints: dict[str, str]) -> None:
        """A TrainingError if the labels have changed since the run began."""
        before = self.record.get("data", fingerprints)
        changed = sorted(name for name in before.keys() | fingerprints.keys() if before.get(name) != fingerprints.get(name))
        if changed:
            raise TrainingError(
                f"{self.path.name} cannot be resumed: the labels of {', '.join(changed)} have changed since it began. "
                "Start a new run in another folder (--out)."
            )

    def check_encoder(self, encoder_id: str, encoder_digest: str) -> None:
        """A TrainingError if the run began on another image encoder, which an earlier version may have had."""
        before = self.record.get("start", {})
        if before and before["encoder_digest"] != encoder_digest:
            raise TrainingError(
                f"{self.path.name} cannot be resumed: it began on the image encoder {before['encoder_id']} "
                f"({before['encoder_digest']}), and would go on with {encoder_id} ({encoder_digest}). "
                "Start a new run in another folder (--out)."
            )

    @property
    def _exists(self) -> bool:
        """Whether this folder contains a run; a config.yaml alone may be a file of the user."""
        names = (STAGING, "record.json", "metrics.csv", "last.pt", "result.json")
        return (self.path / "config.yaml").exists() and any((self.path / name).exists() for name in names)

    @property
    def _has_begun(self) -> bool:
        """Whether there is a finished epoch that can be resumed or could be lost."""
        return self.last_state.exists() or self.metrics_csv.exists() or self.result() is not None

    def _check_can_resume(self) -> None:
        if self.is_running:
            raise TrainingError(f"A run is active in {self.path}. Wait for it, stop it, or choose another folder (--out).")
        if self.result() is not None:
            raise TrainingError(f"{self.path} holds a finished run. Choose another folder (--out).")
        if not self._has_begun:
            return
        stored, given = RunFolder.open(self.path).config.model_dump(mode="json"), self.config.model_dump(mode="json")
        changed = [name for name in stored if name not in NOT_COMPARED and stored[name] != given[name]]
        if changed:
            name = changed[0]
            raise TrainingError(
                f"{self.path} holds a run with other settings ({name}: {stored[name]!r} in the run, {given[name]!r} now). "
                "Use the settings of the run, or choose another folder (--out)."
            )

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            return read_json(self.path / name)
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise TrainingError(f"{self.path / name} is damaged. Start a new run in another folder (--out).") from error

    def _write_text(self, name: str, text: str) -> None:
        with writing(f"{name} of the run", self.path):
            write_file(self.path / name, text.encode("utf-8"), staging=self.path / STAGING, durable=True)


def _not_writable(path: Path, error: OSError) -> SurgicalSAMError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return translate(error, "The run", path)
    return TrainingError(f"The run's folder {path} cannot be created ({error.strerror}). Choose another one (--out).")


_PATHS = ("data", "checkpoint", "encoder_weights", "prototypes_file")


def _absolute(value: Path | Sequence[Path] | None) -> Any:
    if value is None:
        return None
    return value.expanduser().absolute() if isinstance(value, Path) else tuple(p.expanduser().absolute() for p in value)


def environment() -> dict[str, str]:
    """Versions that a result depends on, and the time of the start."""
    packages = ("surgicalsam-napari", "torch", "numpy", "zarr")
    return {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{package: version(package) for package in packages},
    }


def _is_practically_empty(folder: Path) -> bool:
    """Whether the folder has at most the staging files of a run that was killed before it began."""
    return all(entry.name == STAGING for entry in folder.iterdir())
