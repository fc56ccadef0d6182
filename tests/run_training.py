"""`python -m surgicalsam_training`, in a process that knows the tests' tiny encoder."""

import runpy

import tiny_encoder  # noqa: F401

if __name__ == "__main__":
    runpy.run_module("surgicalsam_training", run_name="__main__")
