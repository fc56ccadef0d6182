"""A project on disk: labels, provenance and embeddings of one video, in zarr."""

from surgicalsam_napari.store.disk.action import Action
from surgicalsam_napari.store.disk.files import free_bytes
from surgicalsam_napari.store.embeddings import EmbeddingStore
from surgicalsam_napari.store.history import HistoryEntry
from surgicalsam_napari.store.instances import Tracks
from surgicalsam_napari.store.labels.label_store import LabelStore, Provenance
from surgicalsam_napari.store.labels.viewer_labels import ViewerLabels
from surgicalsam_napari.store.project import Project
from surgicalsam_napari.store.snapshots import Snapshot
from surgicalsam_napari.store.tracks import Span, Track, TrackTable

__all__ = [
    "Action",
    "EmbeddingStore",
    "HistoryEntry",
    "LabelStore",
    "Project",
    "Provenance",
    "Snapshot",
    "Span",
    "Track",
    "TrackTable",
    "Tracks",
    "ViewerLabels",
    "free_bytes",
]
