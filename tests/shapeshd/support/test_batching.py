"""The search for the best batch, on costs that are known."""

import platform
import threading
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shapeshd.support.batching import (
    BatchSize,
    free_memory,
    in_threads,
    keep_freed_memory,
    says_no_memory,
)


def search(size: BatchSize, rate, steps: int = 200) -> int:
    for _ in range(steps):
        size.learn(size.value, rate(size.value))
    return size.value


@given(start=st.integers(1, 5000), limit=st.integers(1, 5000), peak=st.floats(0, 12))
def test_it_finds_the_top_of_a_hill(start: int, limit: int, peak: float) -> None:
    def rate(size: int) -> float:
        return 0.8 ** abs(torch.tensor(float(size)).log2().item() - peak)

    size = BatchSize(start, limit)
    ladder = [size.value * 2**step for step in range(-13, 14) if (size.value * 2.0**step) >= 1]
    ladder = sorted({int(rung) for rung in ladder if rung <= limit} | {size.value})
    found = search(size, rate)
    best = max(rate(rung) for rung in ladder)
    assert 1 <= found <= limit
    assert rate(found) >= best * 0.8**0.51 / 1.05  # halves of odd sizes lie between the rungs


def test_a_gain_too_small_to_matter_takes_no_memory() -> None:
    assert search(BatchSize(16, 1024), lambda size: 1 + size * 1e-6) == 1


def test_one_slow_run_is_no_verdict() -> None:
    size = BatchSize(4, 1024)
    for rate in (1, 9, 9, 1, 20, 20):
        size.learn(size.value, rate)
    assert size.value == 16


def test_a_rate_counts_for_its_own_size_only() -> None:
    size = BatchSize(4, 1024)
    for _ in range(20):
        size.learn(8, 1000)
    assert size.value == 4


def test_a_fixed_size_stays() -> None:
    assert search(BatchSize(7, 100, fixed=True), lambda size: size) == 7


def test_the_limit_holds() -> None:
    assert BatchSize(50, 10).value == 10
    assert search(BatchSize(4, 50), lambda size: size) == 32


def test_it_shrinks_for_good() -> None:
    size = BatchSize(64, 1024)
    assert size.shrink(64)
    assert size.value == 32
    assert search(size, lambda size: size) == 32
    assert not size.shrink(1)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (MemoryError(), True),
        (torch.cuda.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes"), True),
        (RuntimeError("expected a tensor"), False),
    ],
)
def test_what_a_full_memory_looks_like(error: BaseException, verdict: bool) -> None:
    assert says_no_memory(error) == verdict


def test_pytorch_itself_says_it_so() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert says_no_memory(caught.value)


def test_there_is_memory() -> None:
    assert free_memory(torch.device("cpu")) > 2**20


def test_every_item_is_worked_on_once_in_any_number_of_threads() -> None:
    for threads in (1, 2, 7):
        done: list[int] = []
        in_threads(done.append, iter(range(100)), threads)
        assert sorted(done) == list(range(100))


def test_the_first_error_ends_all_threads() -> None:
    done: list[int] = []

    def work(item: int) -> None:
        if item == 5:
            raise ValueError("item 5")
        done.append(item)
        time.sleep(0.001)

    with pytest.raises(ValueError, match="item 5"):
        in_threads(work, iter(range(10_000)), 3)
    assert len(done) < 100


def test_torch_keeps_its_threads_however_calls_overlap() -> None:
    before = torch.get_num_threads()
    inside: list[int] = []

    def work(item: int) -> None:
        inside.append(torch.get_num_threads())
        if item < 2:
            in_threads(work, [2, 3, 4], 2)

    in_threads(work, range(4), 3)
    assert set(inside) == {1}
    assert torch.get_num_threads() == before
    fresh: list[int] = []
    thread = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert fresh == [before]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that gives pages back")
def test_freed_memory_is_used_again() -> None:
    """The pages of eight tensors of 4 MB each are asked for once, and not in every pass."""
    import resource

    keep_freed_memory()

    def one_pass() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        tensors = [torch.ones(2**20) for _ in range(8)]
        del tensors
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    one_pass()
    pages = 8 * 2**22 // resource.getpagesize()
    assert min(one_pass() for _ in range(5)) < pages / 10
