"""The settings of a training in groups, with a plain name for each; the paper's term is in the tooltip."""

from __future__ import annotations

from surgicalsam_training.config import TrainingConfig

EXPERTS = "For experts"
GROUPS: dict[str, dict[str, str]] = {  # title of the group -> name of the setting -> plain title; "" keeps the paper's term
    "What to learn from": {"trust": "Take as true", "classes": "Only classes", "ignored_classes": "Without classes"},
    "What to test on": {
        "validation": "Test on videos",
        "validation_share": "Share for the test",
        "validate_every": "Test every … rounds",
        "patience": "Stop after … tests",
    },
    "What to keep of the start": {
        "encoder": "Image encoder",
        "kept_of_start": "Share of the start",
        "rehearsed_frames": "Synthetic frames",
    },
    "Variety": {"augmented_versions": "Varied copies", "augmentation": "Make copies"},
    EXPERTS: {},  # all others, under the paper's terms
}


def groups(names: list[str]) -> dict[str, list[str]]:
    """The names of the settings by the title of their group, in the order of the form."""
    grouped = {title: [name for name in settings if name in names] for title, settings in GROUPS.items()}
    placed = {name for settings in grouped.values() for name in settings}
    grouped[EXPERTS] = [name for name in names if name not in placed]
    return grouped


def plain_title(name: str) -> str:
    """The title of a setting in the window."""
    plain = next((settings[name] for settings in GROUPS.values() if name in settings), "")
    return plain or TrainingConfig.model_fields[name].title or name


def tooltip(name: str) -> str:
    """What a setting does, with the paper's term if the title is another one."""
    info = TrainingConfig.model_fields[name]
    text = info.description or ""
    return text if plain_title(name) == info.title else f"{info.title}: {text}"
