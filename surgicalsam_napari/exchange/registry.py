"""All dataset formats, and `open_dataset`, which detects the format of a path."""

from __future__ import annotations

from pathlib import Path

from surgicalsam_napari.errors import ExchangeError
from surgicalsam_napari.exchange.dataset import Dataset
from surgicalsam_napari.exchange.format import Format, ReadOptions
from surgicalsam_napari.exchange.formats import (
    cholecinstanceseg,
    cholecseg8k,
    coco,
    cvat_images,
    cvat_video,
    davis,
    endoscapes,
    endovis,
    endovis2017,
    endovis2018,
    id_masks,
    indexed_png,
    label_studio,
    labelme,
    m2caiseg,
    mots,
    ome_zarr,
    robust_mis,
    sar_rarp50,
    tiff,
    voc,
    yolo,
    youtube_vis,
)
from surgicalsam_napari.exchange.unrecognized import what_it_looks_like
from surgicalsam_napari.instruments import ClassSet

# in the order in which the window and the command line offer them
FORMATS: dict[str, Format] = {
    module.FORMAT.name: module.FORMAT
    for module in (
        endovis,
        indexed_png,
        coco,
        yolo,
        cvat_images,
        cvat_video,
        youtube_vis,
        mots,
        labelme,
        label_studio,
        voc,
        davis,
        tiff,
        ome_zarr,
        endovis2017,
        endovis2018,
        cholecseg8k,
        cholecinstanceseg,
        endoscapes,
        m2caiseg,
        robust_mis,
        sar_rarp50,
        id_masks,
    )
}
EXPORT_FORMATS: dict[str, Format] = {name: format for name, format in FORMATS.items() if format.writer is not None}
_READING_ORDER = sorted(FORMATS.values(), key=lambda format: format.precedence)


def recognized_format(path: Path) -> Format | None:
    """The format that recognizes this folder or file; None if no format does."""
    return next((format for format in _READING_ORDER if format.recognizes(path)), None)


def _title_of(path: Path) -> str | None:
    try:
        format = recognized_format(path)
    except (OSError, ExchangeError):
        return None
    return None if format is None else format.title


def open_dataset(path: Path | str, *, classes: ClassSet | None = None, frame_pattern: str | None = None) -> Dataset:
    """Open a dataset of any format.

    Parameters
    ----------
    path : its folder, or the JSON file of a COCO dataset
    classes : for a dataset that has class numbers but no class names; otherwise ignored
    frame_pattern : how to read the names of its frames, if that is not clear (`frame_names`)

    Raises
    ------
    ExchangeError
        the format is unknown, there is no frame, a file name does not fit, or `classes` is needed
    """
    path = Path(path).expanduser().absolute()
    if not path.exists():
        raise ExchangeError(f"{path} does not exist. Give the path of a dataset's folder, or of its JSON file.")
    try:
        format = recognized_format(path)
        dataset = None if format is None else format.read_dataset(path, ReadOptions(classes, frame_pattern))
    except OSError as error:
        raise ExchangeError(f"{path} cannot be read ({error.strerror}). Check its permissions and the disk.") from error
    if dataset is None:
        looks = "; ".join(f"{format.title}: {format.looks_like}" for format in _READING_ORDER)
        raise ExchangeError(
            f"{path} is not a dataset of a known format. {what_it_looks_like(path, _title_of)} The formats look like this: "
            f"{looks}."
        )
    if not dataset.frames:
        raise ExchangeError(f"{dataset.path} contains no labelled frame. Choose the folder of the whole dataset.")
    return dataset
