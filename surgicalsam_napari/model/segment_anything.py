"""segment-anything's network modules, without the package around them.

`import segment_anything` also imports torchvision, for a predictor that is not used here, and fails if torch and
torchvision do not match. Its `modeling` subpackage is pure torch with relative imports, so only that subpackage is
loaded, under a separate name; `segment_anything` itself is located but never executed.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from surgicalsam_napari.errors import SurgicalSAMError

MODELING_NAME = f"{__package__}._segment_anything_modeling"
REMEDY = 'Install it into this environment with: pip install "segment-anything==1.0".'


def load_modeling() -> ModuleType:
    """The subpackage `segment_anything.modeling`, loaded once per process.

    Raises
    ------
    SurgicalSAMError
        segment-anything is not installed, or its `modeling` folder is not where it should be
    """
    if MODELING_NAME in sys.modules:
        return sys.modules[MODELING_NAME]
    package = importlib.util.find_spec("segment_anything")  # locates, does not execute
    if package is None or not package.submodule_search_locations:
        raise SurgicalSAMError(f"The package segment-anything is needed but not installed. {REMEDY}")
    folder = Path(next(iter(package.submodule_search_locations))) / "modeling"
    if not (folder / "__init__.py").is_file():
        raise SurgicalSAMError(f"segment-anything should have a modeling folder; found none in {folder.parent}. {REMEDY}")
    spec = importlib.util.spec_from_file_location(
        MODELING_NAME, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None
    modeling = importlib.util.module_from_spec(spec)
    sys.modules[MODELING_NAME] = modeling  # before execution: its relative imports look the parent up
    try:
        spec.loader.exec_module(modeling)
    except BaseException:
        del sys.modules[MODELING_NAME]
        raise
    return modeling


if TYPE_CHECKING:
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, TwoWayTransformer
    from segment_anything.modeling.common import LayerNorm2d, MLPBlock
    from segment_anything.modeling.image_encoder import Attention as ImageEncoderAttention
    from segment_anything.modeling.image_encoder import Block as ImageEncoderBlock
    from segment_anything.modeling.image_encoder import get_rel_pos
    from segment_anything.modeling.mask_decoder import MLP
    from segment_anything.modeling.prompt_encoder import PositionEmbeddingRandom
    from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock
else:
    _modeling = load_modeling()
    ImageEncoderViT = _modeling.ImageEncoderViT
    ImageEncoderAttention = _modeling.image_encoder.Attention
    ImageEncoderBlock = _modeling.image_encoder.Block
    get_rel_pos = _modeling.image_encoder.get_rel_pos
    PromptEncoder = _modeling.PromptEncoder
    PositionEmbeddingRandom = _modeling.prompt_encoder.PositionEmbeddingRandom
    MaskDecoder = _modeling.MaskDecoder
    MLP = _modeling.mask_decoder.MLP
    TwoWayTransformer = _modeling.TwoWayTransformer
    TwoWayAttentionBlock = _modeling.transformer.TwoWayAttentionBlock
    Attention = _modeling.transformer.Attention
    LayerNorm2d = _modeling.common.LayerNorm2d
    MLPBlock = _modeling.common.MLPBlock

__all__ = [
    "MLP",
    "Attention",
    "ImageEncoderAttention",
    "ImageEncoderBlock",
    "ImageEncoderViT",
    "LayerNorm2d",
    "MLPBlock",
    "MaskDecoder",
    "PositionEmbeddingRandom",
    "PromptEncoder",
    "TwoWayAttentionBlock",
    "TwoWayTransformer",
    "get_rel_pos",
    "load_modeling",
]
