"""What processes of a group do together beside learning: gradients, seeds, random states, meeting and parting."""

import os
import re
import socket
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from spikewright._util.draws import common_generator
from spikewright._util.share import Share, sharing
from spikewright.errors import ConfigError, InputError, NetworkError, ProcessLost
from spikewright.train.distributed import (
    Ranks,
    average_gradients,
    check_alike,
    copy_buffers,
    join,
    random_states,
    restore_random_state,
    seed_process,
    sum_gradients,
    total,
)
from spikewright.train.processes import of_first
from tests.processes import both, start


def parameters(rank: int) -> list[nn.Parameter]:
    """A gradient in both, in the first, in the second, in none; complex; half precision."""
    kinds = [torch.float32] * 4 + [torch.complex64, torch.float16]
    made = [nn.Parameter(torch.zeros(3, dtype=kind)) for kind in kinds]
    for place, parameter in enumerate(made):
        if place in (0, 4, 5) or place == 1 + rank:
            parameter.grad = torch.full((3,), 10.0 * place + 1 + rank, dtype=parameter.dtype)
    made[4].grad = torch.full((3,), (41 + rank) * 1j).conj()
    return made


def reduced(rank: int, total: int | None) -> list[Tensor | None]:
    made = parameters(rank)
    if total is None:
        average_gradients(made, Ranks(rank, 2))
    else:
        sum_gradients(made, Share(total, rank, 2))
    return [p.grad for p in made]


@pytest.mark.parametrize(("samples", "share"), [(None, 0.5), (1, 0.5), (3, 1.0)], ids=["mean", "small batch", "sum"])
def test_gradients_are_paired_by_their_parameter(samples: int | None, share: float) -> None:
    for found in both(reduced, samples):
        assert found[3] is None
        sums = [3.0, 11.0, 22.0, None, -83.0j, 103.0]
        for grad, value in zip(found, sums):
            if value is not None:
                assert grad is not None and torch.equal(grad, torch.full_like(grad, share * value))


def gathered(rank: int) -> tuple[list[Tensor], Tensor, str, float]:
    share = Share(3, rank, 2)
    kinds = (torch.bool, torch.int64, torch.bfloat16, torch.complex64)
    parts = [share.gather(torch.arange(6).view(2, 3).to(kind)[:, share.start : share.stop], 1) for kind in kinds]
    x = torch.ones(share.size, 2, requires_grad=True)
    (share.gather(x) * torch.arange(6.0).view(3, 2)).sum().backward()
    assert x.grad is not None
    return parts, x.grad, of_first(lambda: f"of {rank}", Ranks(rank, 2)), total(torch.ones(()), Ranks(rank, 2)).item()


def test_what_is_gathered_is_in_order_and_has_a_gradient() -> None:
    for rank, (parts, grad, said, count) in enumerate(both(gathered)):
        assert all(torch.equal(part, torch.arange(6).view(2, 3).to(part.dtype)) for part in parts)
        assert grad.tolist() == [[[0, 1], [2, 3]], [[4, 5]]][rank]
        assert said == "of 0" and count == 2


def drawn(rank: int) -> tuple[list[float], list[float], list[float], list[float]]:
    ranks, device = Ranks(rank, 2), torch.device("cpu")
    seed_process(7, ranks)
    first = torch.rand(4).tolist()
    states = random_states(ranks, device)
    second = torch.rand(4).tolist()
    restore_random_state(states, ranks, device)
    again = torch.rand(4).tolist()
    seed_process(7, ranks)
    return first, second, again, torch.rand(4).tolist()


def test_processes_draw_numbers_of_their_own_again_and_again() -> None:
    found = both(drawn)
    for first, second, again, anew in found:
        assert second == again != first == anew
    assert found[0] == both(drawn)[0]
    assert found[0][0] != found[1][0]
    before = torch.random.get_rng_state()
    seed_process(7, Ranks())  # a single process draws as it did
    assert torch.equal(before, torch.random.get_rng_state())


def common(rank: int) -> tuple[int, int]:
    torch.manual_seed(rank)
    found: list[int] = []
    for share in (Share(4, rank, 2), Share(1, rank, 2)):
        with sharing(share):
            generator = common_generator(torch.device("cpu"))
            assert generator is not None
            found.append(generator.initial_seed())
    return found[0], found[1]


def test_what_weights_need_is_drawn_alike_without_a_source_of_draws_too() -> None:
    first, second = both(common)
    assert first == second and first[0] != first[1]


def compared(rank: int, factor: float) -> str:
    layer = nn.Linear(2, 2)
    nn.init.ones_(layer.weight)
    nn.init.constant_(layer.bias, 1 + factor * rank)
    try:
        check_alike(layer, Ranks(rank, 2))
    except NetworkError as error:
        return str(error)
    return ""


def test_networks_that_differ_are_told_apart() -> None:
    assert both(compared, 0.0) == ["", ""]
    assert all(re.match(r"Process \d and process \d .*'bias' is not the same", text) for text in both(compared, 0.1))


def copied(rank: int) -> list[float]:
    norm = nn.BatchNorm1d(2)
    norm.running_mean += rank + 1  # type: ignore[operator]
    norm.num_batches_tracked += 4 * rank  # type: ignore[operator]
    copy_buffers(norm, Ranks(rank, 2))
    return [value.sum().item() for value in norm.buffers()]


def test_all_go_on_with_the_statistics_that_are_written() -> None:
    assert both(copied) == [[2.0, 2.0, 0.0]] * 2


@pytest.mark.parametrize(("total", "rank", "world"), [(0, 0, 1), (4, 2, 2), (4, -1, 2), (4, 0, 0)])
def test_a_share_is_one_of_those_there_are(total: int, rank: int, world: int) -> None:
    with pytest.raises((ConfigError, InputError), match=r"Share\((total|rank|world)="):
        Share(total, rank, world)


@pytest.mark.parametrize(("samples", "world"), [(1, 1), (7, 3), (9, 4), (2, 4), (4, 4)])
def test_shares_make_up_the_batch(samples: int, world: int) -> None:
    whole = torch.arange(2 * samples)
    shares = [Share(samples, rank, world) for rank in range(world)]
    parts = [share.own(whole) for share in shares]
    if samples >= world:
        assert torch.equal(torch.cat(parts), whole)
        assert sum(share.weight for share in shares) == pytest.approx(1)
        assert max(share.size for share in shares) == shares[0].largest <= 1 + min(share.size for share in shares)
    else:
        assert all(torch.equal(part, whole) and not share.divided for part, share in zip(parts, shares))
    assert [share.rows(2 * share.size) for share in shares] == [2 * samples] * world


def port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def come(rank: int, world: int, where: str, folder: Path, timeout: float, then: str) -> None:
    """Join a group, share a batch for a while, and write down how that ended."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": where}
    try:
        join(timeout)
        share = Share(2, rank, world)
        for turn in range(1000):
            if then == "die" and rank == 1 and turn == 3:
                os.kill(os.getpid(), 9)
            with sharing(share):
                share.gather(torch.ones(1))
    except ProcessLost as error:
        (folder / f"{rank}.txt").write_text(str(error))
    os._exit(0)


def ended(folder: Path, ranks: list[int], world: int, timeout: float, then: str) -> dict[int, str]:
    where, began = port(), time.monotonic()
    processes = [start(come, rank, world, where, folder, timeout, then) for rank in ranks]
    for process in processes:
        process.join(20)
    assert time.monotonic() - began < 20
    return {rank: file.read_text() for rank in ranks if (file := folder / f"{rank}.txt").exists()}


@pytest.mark.long
def test_the_death_of_one_ends_the_other_with_a_clear_error(tmp_path: Path) -> None:
    (said,) = ended(tmp_path, [0, 1], 2, 20, "die").values()
    assert re.match("Process 0 of 2 was to .* but another process did not take part: .*start all processes again", said)


@pytest.mark.long
def test_a_process_that_never_joins_is_named(tmp_path: Path) -> None:
    said = ended(tmp_path, [0, 2], 3, 4, "wait")
    for rank in (0, 2):
        assert re.match(rf"Process {rank} of 3 waits at 127.0.0.1:\d+ for process 1 in vain: 2 of 3 have", said[rank])


@pytest.mark.long
def test_a_first_process_that_never_starts_is_named(tmp_path: Path) -> None:
    (said,) = ended(tmp_path, [1], 2, 1, "wait").values()
    assert re.match(r"Process 1 of 2 was to meet the others at 127.0.0.1:\d+ .*Process 0 has not started", said)


def test_an_environment_without_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ConfigError, match="WORLD_SIZE=2 announces several processes, but RANK is not set"):
        join()
