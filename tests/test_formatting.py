"""Bytes, times and counts read the same in the window and on the command line."""

from __future__ import annotations

import pytest

from surgicalsam_napari.formatting import counted, in_bytes, in_time


@pytest.mark.parametrize(
    ("byte_count", "text"),
    [
        (12, "12 bytes"),
        (999, "999 bytes"),
        (999_999, "1.0 MB"),
        (1536, "1.5 kB"),
        (2_097_152, "2.1 MB"),
        (41_000_000, "41.0 MB"),
        (99_960_000, "100 MB"),
        (2_564_550_879, "2.6 GB"),
        (188_743_680_000, "189 GB"),
    ],
)
def test_bytes_have_a_unit_and_two_or_three_digits(byte_count, text):
    assert in_bytes(byte_count) == text


def test_times_are_given_in_seconds_minutes_or_hours():
    assert [in_time(s) for s in (0.2, 42, 75, 1500, 4020)] == ["1 s", "42 s", "1 min 15 s", "25 min", "1 h 07 min"]


def test_counts_have_their_noun_in_the_right_number():
    assert [counted(n, "frame") for n in (1, 1200)] == ["1 frame", "1,200 frames"]
