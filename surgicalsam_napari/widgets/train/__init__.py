"""The *Train* tab: data, settings, progress and result of a training."""
