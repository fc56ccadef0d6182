"""SurgicalSAM: frozen image encoder, class prompt encoder, mask decoder. Torch only; no napari, no Qt."""
