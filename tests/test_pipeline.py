"""Stages that work at the same time keep their order, and raise an error when its item is due."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from surgicalsam_napari.inference.pipeline import computed_ahead, written, written_behind


def numbers(count: int, broken: int | None = None, made: list[int] | None = None) -> Iterator[int]:
    for number in range(count):
        if number == broken:
            raise ValueError(f"{number} cannot be made")
        if made is not None:
            made.append(number)
        yield number


def test_only_yielded_items_are_written():
    made: list[int] = []
    written: list[int] = []
    results = written_behind(numbers(10, made=made), written.append)
    seen = [next(results)[0] for _ in range(4)]
    results.close()
    assert seen == written == [0, 1, 2, 3]
    assert made == [0, 1, 2, 3, 4]


def test_the_first_item_comes_before_the_second_is_made():
    made: list[int] = []
    results = written_behind(numbers(3, made=made), lambda number: -number)
    assert next(results) == (0, 0)
    assert made == [0]
    assert list(results) == [(1, -1), (2, -2)]


def test_the_next_item_is_made_while_one_is_written():
    third_is_made = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        yield 1
        third_is_made.set()
        yield 2

    def write(item: int) -> None:
        assert item != 1 or third_is_made.wait(30), "nothing was made while the second one was written"

    assert [item for item, _ in written_behind(items(), write)] == [0, 1, 2]


@pytest.mark.parametrize(("device_type", "made_before_the_third_is_written"), [("cpu", 3), ("cuda", 4)])
def test_a_cpu_writes_each_item_before_it_makes_the_next(device_type, made_before_the_third_is_written):
    made: list[int] = []
    done: list[int] = []
    results = written(numbers(6, made=made), done.append, device_type)
    assert [next(results)[0] for _ in range(3)] == done == [0, 1, 2]
    assert len(made) == made_before_the_third_is_written
    results.close()
    assert done == [0, 1, 2]


def test_an_item_that_cannot_be_made_raises_after_the_earlier_items():
    written: list[int] = []
    seen = []
    with pytest.raises(ValueError, match="3 cannot be made"):
        seen.extend(item for item, _ in written_behind(numbers(6, broken=3), written.append))
    assert seen == written == [0, 1, 2]


def test_an_item_that_cannot_be_written_raises_when_it_is_due():
    def write(item: int) -> None:
        if item == 2:
            raise OSError("the disk is full")

    seen = []
    with pytest.raises(OSError, match="full"):
        seen.extend(item for item, _ in written_behind(numbers(6), write))
    assert seen == [0, 1]


@pytest.mark.parametrize("at_once", [1, 2])
def test_jobs_computed_ahead_keep_their_order_and_fail_when_due(at_once):
    def compute(job: int) -> int:
        if job == 4:
            raise ValueError("4 cannot be computed")
        return job * job

    assert list(computed_ahead(numbers(4), compute, at_once)) == [(0, 0), (1, 1), (2, 4), (3, 9)]
    for jobs, reason in ((numbers(9), "4 cannot be computed"), (numbers(9, broken=3), "3 cannot be made")):
        seen = []
        with pytest.raises(ValueError, match=reason):
            seen.extend(job for job, _ in computed_ahead(jobs, compute, at_once))
        assert seen == list(range(int(reason[0])))


def test_two_jobs_are_computed_at_the_same_time():
    both = threading.Barrier(2, timeout=30)

    def compute(job: int) -> int:
        if job:
            both.wait()
        return job

    assert [job for job, _ in computed_ahead(numbers(5), compute, 2)] == [0, 1, 2, 3, 4]


def test_nothing_is_computed_ahead_during_the_first_job_or_with_one_at_a_time():
    computed: list[int] = []
    for at_once in (1, 2):
        results = computed_ahead(numbers(5), computed.append, at_once)
        next(results)
        assert computed == [0]
        results.close()
        computed.clear()


def test_work_that_begins_to_wait_after_the_end_is_given_up_too():
    waiting: set[threading.Event] = set()
    closing = threading.Event()

    def compute(number: int) -> int:
        if number == 0:
            return number
        closing.wait()
        given_up = threading.Event()
        waiting.add(given_up)  # only now, after the first `give_up`
        assert given_up.wait(60)
        return number

    def give_up() -> None:
        for event in list(waiting):
            event.set()
        closing.set()

    def fail() -> Iterator[int]:
        yield 0
        yield 1
        yield 2
        raise KeyboardInterrupt

    interrupted = computed_ahead(fail(), compute, 3, give_up)
    with pytest.raises(KeyboardInterrupt):
        list(interrupted)
    assert len(waiting) == 2
    assert all(event.is_set() for event in waiting)
