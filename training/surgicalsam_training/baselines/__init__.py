"""The paper's baselines: other ways of prompting SAM (Yue et al., AAAI 2024, Tables 1 and 2, Fig. 2).

One method per file, each on the loaded encoder. A predictor is a generator `predict_…(model, data, example_indices, asked,
…)` of (example index, label map), which `surgicalsam_training.scoring.protocol` scores. The embeddings of these frames must
have been computed. Every prompt uses SAM's single-mask output, except in methods that are defined with its three masks.
"""
