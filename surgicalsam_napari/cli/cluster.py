"""`embed` and `segment` with --cluster: the same results, computed by the workers of a Dask cluster."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from surgicalsam_napari.cli.terminal import one_line, print_notice, progress, result_text
from surgicalsam_napari.cli.videos import VOTING
from surgicalsam_napari.errors import SurgicalSAMError
from surgicalsam_napari.formatting import counted

if TYPE_CHECKING:
    from surgicalsam_napari.cli.videos import Selected, VideoTask
    from surgicalsam_napari.cluster.scheduling import RangeReport, VideoReport, VideoWork
    from surgicalsam_napari.cluster.worker import ModelRecipe
    from surgicalsam_napari.instruments import ClassSet
    from surgicalsam_napari.model.surgical_sam import SurgicalSAM
    from surgicalsam_napari.remote.encoder import IfLost
    from surgicalsam_napari.session import Session


@dataclass(frozen=True)
class ModelOptions:
    """The options that choose the model.

    Attributes
    ----------
    certificates, if_lost : for a `device` that is the address of a worker
    """

    checkpoint: Path | None
    encoder_weights: Path | None
    device: str
    classes: ClassSet | None
    fast: bool = False
    certificates: Path | None = None
    if_lost: IfLost = "wait"

    def load_here(self) -> SurgicalSAM:
        """The model on this machine's CPU, if possible without the image encoder; it predicts nothing here."""
        from surgicalsam_napari.model.checkpoint import load_checkpoint
        from surgicalsam_napari.model.zoo import bundled_checkpoint

        path = bundled_checkpoint() if self.checkpoint is None else self.checkpoint.expanduser()
        model = load_checkpoint(
            path,
            encoder_weights=self.encoder_weights,
            device="cpu",
            classes=self.classes,
            load_image_encoder=path.suffix != ".safetensors",  # a .pth does not name its encoder
        )
        model.is_fast = self.fast  # as on the workers: it is part of the record of what they predict
        return model


def run_on_cluster(
    address: str,
    videos: Sequence[Path],
    task: VideoTask,
    session: Session,
    project_folder: Path | None,
    options: ModelOptions,
    as_json: bool,
) -> list[dict[str, str]]:
    """Work on several videos at a time, with a progress bar for each; returns the failures, with video and error.

    Parameters
    ----------
    session : with the model of `options.load_here`
    """
    from surgicalsam_napari.cluster.connection import connected
    from surgicalsam_napari.cluster.scheduling import VideoReport, VoteReport, work_on_cluster

    model = session.model
    assert model is not None
    open_videos = _OpenVideos(task, session, project_folder)
    results: list[dict[str, Any]] = []
    failures: list[dict[str, str]] = []
    workers: dict[str, dict[str, Any]] = {}
    with connected(address) as cluster:
        workers_text = counted(len(cluster.workers()), "worker")
        print(f"{model.name} ({model.encoder_id}) on {workers_text} of {cluster.address}", file=sys.stderr)
        recipe = _recipe(options, model, cluster.threads)
        reports = work_on_cluster(cluster, dict.fromkeys(videos), open_videos.prepare, recipe)
        with closing(reports), progress() as advance:
            for report in reports:
                if isinstance(report, VoteReport):
                    advance(f"{VOTING} {report.video.name}", report.done, report.total)
                    continue
                if not isinstance(report, VideoReport):
                    advance(f"{task.verb} {report.video.name}", report.done, report.total)
                    _note_worker(workers, report)
                    continue
                try:
                    results.append({"video": str(report.video), **open_videos.record(report)})
                except SurgicalSAMError as error:
                    failures.append({"video": str(report.video), "error": one_line(str(error))})
    results.sort(key=lambda result: videos.index(Path(result["video"])))  # videos finish in any order
    failures.sort(key=lambda failure: videos.index(Path(failure["video"])))
    if as_json:
        run_record = {"cluster": address, "workers": list(workers.values()), "checkpoint": model.name}
        print(json.dumps({**run_record, "videos": results, "failures": failures}))
    else:
        for result in results:
            print(result_text(result))
    return failures


class _OpenVideos:
    """The selected frames of each open video, until its result is reported."""

    def __init__(self, task: VideoTask, session: Session, project_folder: Path | None) -> None:
        self._task = task
        self._session = session
        self._project_folder = project_folder
        self._selected: dict[Path, Selected] = {}

    def prepare(self, path: Path) -> VideoWork:
        from surgicalsam_napari.cluster.scheduling import VideoWork
        from surgicalsam_napari.inference.embed import check_disk_space
        from surgicalsam_napari.model.digest import checkpoint_record

        model = self._session.model
        assert model is not None
        project = self._session.prepare(path, project_folder=self._project_folder)
        print_notice(project)
        try:
            selected = self._selected[path] = self._task.select(path, project)
            missing = project.embeddings(model.encoder_digest, model.embedding_shape).missing(selected.to_do)
            check_disk_space(project, model, len(missing))
            checkpoint = project.record_checkpoint(checkpoint_record(model)) if selected.class_ids else 0
        except BaseException:
            project.close()
            raise
        vote = None if self._task.vote is None else partial(self._task.vote, project, selected)
        return VideoWork(project, selected.to_do, selected.class_ids, checkpoint, vote)

    def record(self, report: VideoReport) -> dict[str, Any]:
        """The result of a video; raises its error if it failed."""
        if report.failure is not None or report.work is None:
            raise report.failure or AssertionError("a video that did not fail has its project open")
        return self._task.record(report.video, report.work.project, self._selected.pop(report.video), report.seconds)


def _recipe(options: ModelOptions, model: SurgicalSAM, threads: int | None) -> ModelRecipe:
    from surgicalsam_napari.cluster.worker import ModelRecipe
    from surgicalsam_napari.model.digest import checkpoint_record

    def absolute(path: Path | None) -> Path | None:
        return None if path is None else path.expanduser().absolute()

    digest = checkpoint_record(model)["digest"]
    files = absolute(options.checkpoint), absolute(options.encoder_weights)
    return ModelRecipe(*files, options.device, options.classes, digest, threads, options.fast)


def _note_worker(workers: dict[str, dict[str, Any]], report: RangeReport) -> None:
    known = workers.setdefault(report.worker, {"worker": report.worker, "frames": 0})
    known["frames"] += len(report.frame_indices)
    known["device"], known["model_loads"] = report.device, report.model_loads
