"""What fits where, the longest context that does, and the sentences of refusals; invented devices."""

from __future__ import annotations

import re

import pytest

from ropewalk.backend.fit import (
    Alternatives,
    Budget,
    DeviceNeed,
    Need,
    Shortage,
    largest_context,
    refusal,
    shortage,
)

GB = 10**9


def need(host: int, gpu: int = 0, *, gpu_name: str = "GPU0") -> Need:
    """So many bytes of weights and nothing else."""
    return Need((DeviceNeed("CPU", host, 0, 0), DeviceNeed(gpu_name, gpu, 0, 0)))


def linear(n_ctx: int) -> Need:
    """1 MB of weights and 1,234.5 bytes a token on the host, 2,000 a token on a GPU."""
    return Need(
        (DeviceNeed("CPU", 1_000_000, round(1234.5 * n_ctx), 0), DeviceNeed("GPU0", 0, 2000 * n_ctx, 500))
    )


def test_what_fits_is_not_short() -> None:
    assert shortage(need(4 * GB, 8 * GB), (Budget("CPU", 4 * GB), Budget("GPU0", 8 * GB))) is None


def test_a_margin_is_left_alone() -> None:
    room = (Budget("CPU", 9 * GB), Budget("GPU0", 8 * GB, margin=GB))

    assert shortage(need(0, 7 * GB), room) is None
    assert shortage(need(0, 7 * GB + 1), room) == Shortage("GPU0", 7 * GB + 1, 7 * GB + 1, 7 * GB)


def test_the_host_is_looked_at_too() -> None:
    short = shortage(need(4 * GB + 1, 1), (Budget("CPU", 4 * GB), Budget("GPU0", GB)))

    assert short is not None
    assert (short.device, short.needed) == ("CPU", 4 * GB + 1)


def test_a_gpu_with_the_hosts_memory_takes_the_hosts() -> None:
    room = (Budget("CPU", 10 * GB), Budget("GPU0", 10 * GB, shares_host=True))

    assert shortage(need(5 * GB, 5 * GB), room) is None
    assert shortage(need(5 * GB, 5 * GB + 1), room) == Shortage("CPU", 10 * GB + 1, 10 * GB + 1, 10 * GB)


@pytest.mark.parametrize(
    "room",
    [
        (Budget("CPU", 5_000_000), Budget("GPU0", GB)),
        (Budget("CPU", GB), Budget("GPU0", 5_000_000)),
    ],
)
def test_the_longest_context_is_the_longest(room: tuple[Budget, ...]) -> None:
    longest = largest_context(linear, room)

    assert longest % 256 == 0
    assert shortage(linear(longest), room) is None
    assert shortage(linear(longest + 256), room) is not None


def test_no_context_and_any_context() -> None:
    assert largest_context(linear, (Budget("CPU", 1_000_000), Budget("GPU0", GB))) == 0
    assert largest_context(lambda _: need(1), (Budget("CPU", 1),)) == 2**31 - 256


def test_a_refusal_has_its_numbers_and_the_choices() -> None:
    error = refusal(
        20_000,
        Shortage("CPU", 6 * GB, 4 * GB, 5 * GB),
        Alternatives(9_984, {"q8_0": 18_944, "q4_0": 35_072}, windowed=True),
    )

    assert str(error) == (
        "a context of 20,000 tokens needs 6.0 GB of memory (4.0 GB of it for the weights), and 5.0 GB are "
        "free: ask for a context of at most 9,984 tokens, a smaller KV type (q8_0 has room for 18,944, q4_0 "
        "has room for 35,072), or narrower windows"
    )
    assert (error.needed, error.free, error.largest_n_ctx) == (6 * GB, 5 * GB, 9_984)


def test_a_refusal_names_the_gpu_and_the_layers_that_fit() -> None:
    error = refusal(20_000, Shortage("CUDA0", 6 * GB, 4 * GB, 5 * GB), Alternatives(0, {}, gpu_layers=12))

    assert re.search(r"of memory on CUDA0 .*: fewer layers on the GPU \(--gpu-layers 12\)$", str(error))


def test_what_helps_nothing_is_not_proposed() -> None:
    error = refusal(1, Shortage("CPU", 10 * GB, 10 * GB, GB), Alternatives(0, {"q8_0": 0, "q4_0": 0}))

    assert str(error).endswith("a smaller model, or one with smaller weights, is needed")
