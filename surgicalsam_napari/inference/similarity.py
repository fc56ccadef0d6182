"""The similarity of each place in a frame to a class, as the model computes it (Yue et al., AAAI 2024, figure 9)."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np
import torch

from surgicalsam_napari.inference.embed import embedded_batches, failures_reported
from surgicalsam_napari.inference.frame_selection import checked_frames
from surgicalsam_napari.instruments import matching_class_ids
from surgicalsam_napari.model.geometry import FrameGeometry

if TYPE_CHECKING:
    from surgicalsam_napari.model.surgical_sam import SurgicalSAM
    from surgicalsam_napari.store import Project


def similarity_map(project: Project, model: SurgicalSAM, class_id: int, frame_index: int) -> np.ndarray:
    """S^(k) = F x B^(k) (equation 5) in pixels of the frame; the frame's embedding is computed and stored if missing.

    This is the plain dot product with which the class prompt encoder weights the embedding: F * (1 + S). It is unbounded,
    its scale differs between checkpoints and classes, and it may be negative; `contrast_limits` gives a range to show.

    Parameters
    ----------
    class_id : of the project's class set; matched to the checkpoint's classes by name

    Returns
    -------
    (H, W) float32

    Raises
    ------
    ClassSetError, VideoError
        a class or a frame that the project does not have
    CheckpointError
        a class that the checkpoint was not trained on, or a new frame and no image encoder
    DiskSpaceError, DeviceError, ProjectError, WorkFailed
    """
    (model_id,) = matching_class_ids(project.classes, model.classes, [class_id], model.name)
    frame_indices = checked_frames([frame_index], project.video.info.frame_count)
    with closing(embedded_batches(project, model, frame_indices)) as batches:
        _frames, embeddings = next(batches)
    with failures_reported():
        return frame_similarity(model, embeddings[0], model_id, project.video.info.size)


@torch.inference_mode()
def frame_similarity(
    model: SurgicalSAM, embedding: np.ndarray, model_class_id: int, original_size: tuple[int, int]
) -> np.ndarray:
    """As `similarity_map`, for an embedding (D, h, w): (H, W) float32.

    Parameters
    ----------
    model_class_id : an id of the model's classes
    original_size : (H, W) of the frame
    """
    embeddings = torch.from_numpy(embedding[: model.decoder_dim])[None].to(model.device, torch.float32)
    prototypes = model.prototypes()[model.prototype_rows([model_class_id])]
    similarity = model.class_prompt_encoder.similarity(embeddings, prototypes)[0, 0]
    return FrameGeometry(original_size, model.input_size).to_frame(similarity).cpu().numpy()


def contrast_limits(similarity: np.ndarray) -> tuple[float, float]:
    """A range to show, low below high: from the map's median (most of a frame is not of the class) nearly to its maximum.

    Parameters
    ----------
    similarity : (H, W)
    """
    low, high = np.percentile(similarity, (50, 99.5)).tolist()
    return (low, high) if high > low else (low, low + 1.0)
