"""Threads that stand for the processes of a group, and meet where those exchange."""

import re
import threading

import torch
import torch.distributed as dist

from xent.torch import _linear_shards, _vocabulary


class Hub:
    """What is between threads that stand for processes."""

    def __init__(self, size):
        self.lines, self.barrier = [None] * size, threading.Barrier(size)
        self.exchanges, self.sums = 0, 0

    def add(self, rank, mine):
        """In place."""
        self.lines[rank] = mine
        self.barrier.wait(30)
        assert len({line.shape for line in self.lines}) == 1, "this would end a process under gloo"
        total = torch.stack(self.lines).sum(0)
        self.sums += rank == 0
        self.barrier.wait(30)
        mine.copy_(total)

    def gather(self, rank, mine):
        self.lines[rank] = mine.clone()
        self.barrier.wait(30)
        assert len({len(line) for line in self.lines}) == 1, "this would end a process under gloo"
        everyone = torch.stack(self.lines)
        self.exchanges += rank == 0
        self.barrier.wait(30)
        return everyone


class Member(dist.ProcessGroup):
    def __init__(self, hub, rank, size):
        super().__init__(rank, size)
        self.hub = hub


class Processes:
    """Threads that stand for processes, with one group that they keep."""

    def __init__(self, size):
        self.hub = Hub(size)
        self.groups = [Member(self.hub, rank, size) for rank in range(size)]

    def run(self, function):
        """What each returns or raises."""
        results = [None] * len(self.groups)

        def one(rank):
            try:
                results[rank] = function(rank, self.groups[rank])
            except Exception as error:
                results[rank] = error

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(len(results))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return results


def assert_raised_on_all(call, fault, kind, message):
    """``call`` returns what each of two ranks does; ``fault`` are arguments of which rank 1's are wrong."""
    for before in (False, True):  # where nothing is agreed on yet, and where lengths are
        if before:
            assert isinstance(call()[0], tuple)
        errors = call(**fault)
        assert all(isinstance(error, Exception) for error in errors), errors
        assert isinstance(errors[1], kind) and re.search(message, str(errors[1])), errors
        if str(errors[0]) != str(errors[1]):
            assert "the call of rank 1 of the process group raised" in str(errors[0])
    assert isinstance(call()[0], tuple)


def meet_in_threads(monkeypatch):
    def added_up(tensor, group):
        group.hub.add(group.rank(), tensor)
        return lambda: None

    monkeypatch.setattr(
        _vocabulary, "all_gathered", lambda mine, group: group.hub.gather(group.rank(), mine)
    )
    monkeypatch.setattr(_linear_shards, "added_up", added_up)
