"""The training loop: prompts, losses, steps and tuned weights."""
