"""Turns at modules: a thread that replaces forwards, or sets modes and buffers, has the modules to itself meanwhile.

Threads queue in order of arrival.  A turn covers all modules of a network at once, so threads whose networks share no
module never wait for each other, and no thread waits while it holds a part.
"""

import os
import threading
from collections.abc import Callable
from multiprocessing.util import register_after_fork
from typing import Protocol, TypeVar

from torch import nn

from spikewright.errors import NetworkError

T = TypeVar("T")


class _Here(threading.local):
    """Holds a different `thread` in every thread; a compiler can trace it, unlike `threading.get_ident`."""

    def __init__(self) -> None:
        self.thread = object()


HERE = _Here()


class Patch(Protocol):
    """A change of modules that is undone at the end of a turn."""

    @property
    def module(self) -> nn.Module | None:
        """The module whose forward it replaces, or `None`."""
        ...

    def end(self) -> None:
        """Undo it; may be called again."""
        ...


class Turn:
    """A thread's turn at the modules of a network.

    Args:
        root: The network's module.
        modules: Identities of all its modules.

    Attributes:
        patches: Changes of modules, undone when the turn ends.
    """

    def __init__(self, root: nn.Module, modules: frozenset[int]) -> None:
        self.root, self.modules, self.thread = root, modules, HERE.thread
        self.patches: list[Patch] = []
        self.running = self.nested = False
        self._gate: threading.Lock | None = None

    def begin(self) -> None:
        """Wait until no other thread has a turn at any of the modules.

        Raises:
            NetworkError: This thread is inside a run that replaces the forward of one of them, or two threads would
                wait for each other for ever.
        """
        with _QUEUE.lock:
            outer = [turn for turn in _QUEUE.turns if turn.thread is self.thread]
            for turn in outer:
                self._refuse_inside(turn)
            self.nested = bool(outer)
            _QUEUE.turns.append(self)
            self.running = not self.waits_for()
            if self.running:
                return
            if self.nested and _waits_for_thread(self, self.thread):
                raise NetworkError(
                    f"A run of {type(self.root).__name__} was started inside another run, and needs modules that are "
                    "in use by a thread which itself waits for modules of the outer run, so neither could ever go on. "
                    "Do not start runs of shared networks inside the forward or the hooks of another network."
                )
            gate = self._gate = threading.Lock()
            gate.acquire()
        while not self.running:
            gate.acquire()

    def end(self) -> None:
        """Undo the patches and let the next in the queue go on; may be called again."""
        while self.patches:
            self.patches[-1].end()
            self.patches.pop()
        with _QUEUE.lock:
            if self in _QUEUE.turns:
                _QUEUE.turns.remove(self)
            for turn in _QUEUE.turns:
                turn.running = turn.running or not turn.waits_for()
                if turn.running and turn._gate is not None and turn._gate.locked():
                    turn._gate.release()

    def waits_for(self) -> "list[Turn]":
        """Return the turns of other threads that come first.

        A turn inside another does not queue behind turns that wait for the outer one.
        """
        found = []
        earlier = True
        for turn in _QUEUE.turns:
            earlier = earlier and turn is not self
            first = turn.running or (earlier and not self.nested)
            if first and turn.thread is not self.thread and not turn.modules.isdisjoint(self.modules):
                found.append(turn)
        return found

    def _refuse_inside(self, outer: "Turn") -> None:
        replaced = {id(patch.module) for patch in outer.patches} & self.modules
        if not replaced:
            return
        name, module = next((n, m) for n, m in self.root.named_modules() if id(m) in replaced)
        shown = f"'{name}' ({type(module).__name__})" if name else f"the {type(module).__name__} itself"
        raise NetworkError(
            f"A Network of {type(self.root).__name__} was run inside a run of {type(outer.root).__name__} on the same "
            f"thread. Both run {shown}, whose forward the outer run replaces until it returns, so the inner run would "
            "change the state of the outer one. Run the network before or after, not inside forward or a forward hook; "
            "nest the plain module, not a Network of it; or run a copy: Network(copy.deepcopy(module))."
        )


class _Queue:
    """All turns in this process, in order of arrival."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # written in C, and safe against a signal handler that runs a network
        self.turns: list[Turn] = []

    def after_fork(self) -> None:
        """In a child process: end the turns of threads that it does not have."""
        self.lock = threading.RLock()
        self._keep([turn for turn in self.turns if turn.thread is HERE.thread])

    def in_worker(self) -> None:
        """In a worker process, which never returns into its parent's runs: end all turns."""
        self._keep([])

    def _keep(self, kept: list[Turn]) -> None:
        gone, self.turns = [turn for turn in self.turns if turn not in kept], kept
        for turn in gone:
            turn.end()


_QUEUE = _Queue()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_QUEUE.after_fork)
    register_after_fork(_QUEUE, _Queue.in_worker)


def _waits_for_thread(turn: Turn, thread: object) -> bool:
    """True if a turn cannot begin before `thread` goes on."""
    todo: list[Turn] = turn.waits_for()
    seen: set[object] = set()
    while todo:
        blocking = todo.pop()
        if blocking.thread is thread:
            return True
        if blocking.thread not in seen:
            seen.add(blocking.thread)
            waiting = (t for t in _QUEUE.turns if t.thread is blocking.thread and not t.running)
            todo.extend(first for t in waiting for first in t.waits_for())
    return False


def exclusively(root: nn.Module, modules: frozenset[int], body: Callable[[Turn], T]) -> T:
    """Call `body` while no other thread has a turn at the modules, and return its result.

    Args:
        root: The network's module.
        modules: Identities of all its modules.
        body: Function of the turn, to which it may add patches.

    Raises:
        NetworkError: This thread is inside a run that replaces the forward of one of them.
    """
    turn = Turn(root, modules)
    # Not a context manager: an exception from outside (Ctrl-C) between two of its lines would leave the turn open.  It
    # can arrive inside `end` too, so that is called again.
    try:
        turn.begin()
        return body(turn)
    finally:
        try:
            turn.end()
        finally:
            turn.end()


def every_module(root: nn.Module) -> frozenset[int]:
    """Return the identities of all modules of a network, itself included."""
    return frozenset(map(id, root.modules()))
