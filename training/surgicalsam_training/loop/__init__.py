"""The training loop: prompts, losses, steps, and what is tuned."""
