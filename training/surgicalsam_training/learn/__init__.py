"""Learning from a few corrected frames, in seconds: the pixel head of a new checkpoint."""

from surgicalsam_training.learn.learning import Learned, LearnReport, learn, learn_from, learning_steps, new_run

__all__ = ["LearnReport", "Learned", "learn", "learn_from", "learning_steps", "new_run"]
