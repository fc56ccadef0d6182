"""The prototype-based class prompt encoder (Yue et al., AAAI 2024, section 3.2).

As in the paper, the similarity is a plain dot product, and the decoder gets the sparse tokens of *all* classes: SAM's
positive point embedding marks the prompted class, its negative one marks the others. If the paper leaves a choice, this
follows the authors' code, with which their checkpoints were trained: f_S of equation 8 is linear over the *positions* of
the grid, and the positive and negative embeddings are one vector per token, (n, D) and not (D,).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from surgicalsam_napari.model.mask_decoder import tokens_of


class Prototypes(nn.Module):
    """One learnable vector per class; row k - 1 for the k-th class of the class set."""

    def __init__(self, class_count: int, embedding_dim: int = 256) -> None:
        super().__init__()
        self.class_embeddings = nn.Embedding(class_count, embedding_dim)

    def forward(self) -> Tensor:
        """(C, D)"""
        return self.class_embeddings.weight


@dataclass(frozen=True)
class ClassPrompts:
    """The prompts of the decoder for every (frame, prompted class).

    Attributes
    ----------
    sparse_prompt_embeddings : (B, K, C * n, D)
    dense_prompt_embeddings : (B, K, D, h, w)
    """

    sparse_prompt_embeddings: Tensor
    dense_prompt_embeddings: Tensor


@dataclass(frozen=True)
class FrameReading:
    """Intermediate results that the prompts of all classes share, for B frames.

    Attributes
    ----------
    similarity : (B, C, h, w), S of equation 5
    tokens : (B, C, n, D), of every class, not yet marked positive or negative
    hidden : (B, h * w, r_D), the image embedding after the first dense layer's weights, without its bias
    """

    similarity: Tensor
    tokens: Tensor
    hidden: Tensor


class ClassPromptEncoder(nn.Module):
    """Turns an image embedding and class prototypes into prompt embeddings for SAM's mask decoder.

    Parameters
    ----------
    embedding_dim : D, channels of the image embedding
    grid_size : (h, w) of the image embedding
    tokens_per_class : n
    dense_hidden_dim, sparse_hidden_dim : r_D and r_S of the paper
    """

    def __init__(
        self,
        embedding_dim: int = 256,
        grid_size: tuple[int, int] = (64, 64),
        tokens_per_class: int = 2,
        dense_hidden_dim: int = 128,
        sparse_hidden_dim: int = 128,
    ) -> None:
        super().__init__()
        self.tokens_per_class = tokens_per_class
        self.dense_fc_1 = nn.Conv2d(embedding_dim, dense_hidden_dim, 1)
        self.dense_fc_2 = nn.Conv2d(dense_hidden_dim, embedding_dim, 1)
        self.sparse_fc_1 = nn.Conv1d(grid_size[0] * grid_size[1], sparse_hidden_dim, 1)
        self.sparse_fc_2 = nn.Conv1d(sparse_hidden_dim, tokens_per_class, 1)
        # index 0 negative, 1 positive: SAM's own point embeddings, which stay frozen
        self.pn_cls_embeddings = nn.ModuleList(nn.Embedding(tokens_per_class, embedding_dim) for _ in range(2))
        self.pn_cls_embeddings.requires_grad_(False)

    def similarity(self, image_embeddings: Tensor, prototypes: Tensor) -> Tensor:
        """S^(k) = F x B^(k) (equation 5), one map per class.

        Parameters
        ----------
        image_embeddings : (B, D, h, w)
        prototypes : (C, D)

        Returns
        -------
        (B, C, h, w)
        """
        return (prototypes @ image_embeddings.flatten(2)).unflatten(2, image_embeddings.shape[-2:])

    def sparse_tokens(self, image_embeddings: Tensor, similarity: Tensor) -> Tensor:
        """Tokens of every class (equation 8), not yet marked positive or negative: (B, C, n, D).

        The class-activated embedding F * (1 + S) of equation 6 is never computed: the map over positions is linear, so
        the weights are scaled by 1 + S instead. One matrix product per frame covers all classes.
        """
        scale = 1 + similarity.flatten(2)  # (B, C, N)
        weight = self.sparse_fc_1.weight[..., 0]  # (r_S, N)
        class_count = scale.shape[1]
        scaled_weight = (scale[:, :, None] * weight).flatten(1, 2)  # (B, C * r_S, N)
        hidden = (scaled_weight @ tokens_of(image_embeddings)).unflatten(1, (class_count, -1))  # (B, C, r_S, D)
        first, second = self.sparse_fc_1.bias, self.sparse_fc_2.bias
        assert first is not None and second is not None
        hidden = torch.relu(hidden + first[:, None])
        return self.sparse_fc_2.weight[..., 0] @ hidden + second[:, None]

    def sparse_embeddings(self, reading: FrameReading, rows: Tensor) -> Tensor:
        """Sparse prompt embeddings of the prompted classes: (B, K, C * n, D)."""
        tokens = reading.tokens
        is_prompted = nn.functional.one_hot(rows, tokens.shape[1]).bool()  # (B, K, C)
        negative, positive = (cast(nn.Embedding, embedding).weight for embedding in self.pn_cls_embeddings)  # (n, D) each
        mark = torch.where(is_prompted[..., None, None], positive, negative)  # (B, K, C, n, D)
        return (tokens[:, None] + mark).flatten(2, 3)

    def dense_embeddings(self, reading: FrameReading, rows: Tensor) -> Tensor:
        """Dense prompt embeddings of the prompted classes (equation 7): (B, K, D, h, w), in channels-last order.

        A 1x1 convolution commutes with scaling each position by 1 + S, so the first one runs once per frame.
        """
        second = self.dense_fc_2
        dense = nn.functional.linear(self.dense_activations(reading, rows), second.weight.flatten(1), second.bias)
        return dense.transpose(2, 3).unflatten(3, reading.similarity.shape[-2:])

    def dense_activations(self, reading: FrameReading, rows: Tensor) -> Tensor:
        """(B, K, N, r_D): the hidden layer of the dense prompt embeddings; `dense_fc_2` turns it into these."""
        assert self.dense_fc_1.bias is not None
        frames = torch.arange(len(rows), device=rows.device)[:, None]
        scale = 1 + reading.similarity.flatten(2)[frames, rows]  # (B, K, N)
        return torch.relu(torch.addcmul(self.dense_fc_1.bias, reading.hidden[:, None], scale[..., None]))

    def read(self, image_embeddings: Tensor, prototypes: Tensor) -> FrameReading:
        """Compute what all prompts of these frames share, for `prompts_of`.

        Parameters
        ----------
        image_embeddings : (B, D, h, w)
        prototypes : (C, D)
        """
        similarity = self.similarity(image_embeddings, prototypes)
        tokens = self.sparse_tokens(image_embeddings, similarity)
        return FrameReading(similarity, tokens, tokens_of(image_embeddings) @ self.dense_fc_1.weight.flatten(1).T)

    def prompts_of(self, reading: FrameReading, rows: Tensor) -> ClassPrompts:
        """Prompt embeddings for some classes of every frame.

        Parameters
        ----------
        rows : (B, K) int64, the prototype rows (class positions, from 0) to prompt each frame with
        """
        return ClassPrompts(self.sparse_embeddings(reading, rows), self.dense_embeddings(reading, rows))

    def forward(self, image_embeddings: Tensor, prototypes: Tensor, rows: Tensor) -> ClassPrompts:
        """Prompt embeddings for every frame and every prompted class: `read`, then `prompts_of`."""
        return self.prompts_of(self.read(image_embeddings, prototypes), rows)
