"""The video and the model: what is opened, loaded and downloaded."""
