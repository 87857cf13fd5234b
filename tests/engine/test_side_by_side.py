"""Layers worked out at the same time."""

import threading
import time

import pytest
import torch

from hf_chts.engine.side_by_side import side_by_side

CPU = torch.device("cpu")


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_results_come_by_name_in_the_order_asked_for():
    results, seconds = side_by_side(["b", "a", "c"], str.upper, CPU)
    assert list(results.items()) == [("b", "B"), ("a", "A"), ("c", "C")]
    assert list(seconds) == ["b", "a", "c"]


def test_two_are_at_work_at_once(two_threads):
    both = threading.Barrier(2, timeout=30)  # broken, and so an error, if nobody else arrives
    results, _ = side_by_side(["a", "b"], lambda name: both.wait() >= 0, CPU)
    assert results == {"a": True, "b": True}


def test_each_computes_with_one_thread_and_without_gradients(two_threads):
    def work(name):
        return torch.get_num_threads(), torch.is_grad_enabled()

    results, _ = side_by_side(["a", "b", "c"], work, CPU)
    assert set(results.values()) == {(1, False)}
    assert torch.get_num_threads() == 2
    assert torch.is_grad_enabled()
    assert threads_of_a_new_thread() == 2


def test_seconds_add_up_to_wall_time(two_threads):
    start = time.perf_counter()
    _, seconds = side_by_side(["a", "b"], lambda name: time.sleep(0.05), CPU)
    assert 0.05 <= sum(seconds.values()) <= time.perf_counter() - start
    assert min(seconds.values()) > 0


def threads_of_a_new_thread():
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return later[0]


def test_an_error_comes_out_and_leaves_the_threads_as_they_were(two_threads):
    def work(name):
        raise ValueError(f"no {name}")

    with pytest.raises(ValueError, match="no a"):
        side_by_side(["a"], work, CPU)
    assert (torch.get_num_threads(), threads_of_a_new_thread()) == (2, 2)


def test_nothing_to_do_is_done():
    assert side_by_side([], str.upper, CPU) == ({}, {})
