"""What the paper compares SurgicalSAM with: other ways of prompting SAM (Yue et al., AAAI 2024, Tables 1 and 2, Fig. 2).

One method per file, each on whichever encoder is loaded. A predictor is a generator `predict_…(model, data,
example_indices, asked, …)` of (example index, label map), which `surgicalsam_training.scoring.protocol` scores; the
embeddings of these frames must be there. SAM's single-mask output answers every prompt,
but where a method is defined by its three.
"""
