"""A stand-in for CUDA graphs on a CPU that is as strict as they are.

`record` writes down the ATen calls of one step with the tensors that they read and wrote, and undoes the step. A replay
makes the same calls on the same memory; no Python of the step runs, so whatever Python computed is frozen. Calls that
wait for the device, whose shapes depend on data, or that copy numbers from the host are refused.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from msd_sweeps.distill.graphs import Recorder
from msd_sweeps.distill.stepping import Failure, InTurn, Learn, Work
from msd_sweeps.distill.student import Student

aten = torch.ops.aten
WAITS = {
    *(aten._local_scalar_dense, aten.equal, aten.is_nonzero, aten.nonzero, aten.masked_select, aten.bincount),
    *(aten._unique2, aten.unique_dim, aten.unique_consecutive, aten.lift_fresh),  # the last begins `torch.tensor(...)`
}
INDEXING = {aten.index, aten.index_put, aten.index_put_}


def refuse(func: Any, args: Sequence[Any]) -> None:
    """Raises RuntimeError for a call that a stream that is being captured does not permit."""
    is_mask = func.overloadpacket in INDEXING and any(index.dtype == torch.bool for index in tensors_of(args[1]))
    if func.overloadpacket in WAITS or is_mask:
        raise RuntimeError(f"{func}: operation not permitted when stream is capturing")


def tensors_of(*values: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]


def written_by(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Iterator[Tensor]:
    """The tensors that a call changes. Batch norm's schema does not say that it changes its running statistics."""
    for place, argument in enumerate(func._schema.arguments):
        statistics = "batch_norm" in func.name() and argument.name in ("running_mean", "running_var")
        if statistics or (argument.alias_info is not None and argument.alias_info.is_write):
            yield from tensors_of(args[place] if place < len(args) else kwargs.get(argument.name))


class _Calls(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[[], Any], list[Tensor]]] = []
        """What to call, and the new memory into which its results belong."""
        self.before: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        refuse(func, args)
        kwargs = kwargs or {}
        self.before += [(tensor, tensor.clone()) for tensor in written_by(func, args, kwargs)]
        result = func(*args, **kwargs)
        known = {tensor.untyped_storage().data_ptr() for tensor in tensors_of(args, kwargs)}
        new = [tensor for tensor in tensors_of(result) if tensor.untyped_storage().data_ptr() not in known]
        self.calls.append((partial(func, *args, **kwargs), [] if func._schema.is_mutable else new))
        return result


def record(work: Work) -> Work:
    """The ATen calls of `work` as a function. Nothing has changed afterwards, as if `work` had not run.

    New memory is filled with NaN, so that a replay that does not write what it reads shows.
    """
    tape = _Calls()
    with tape:
        work()
    with torch.no_grad():
        for tensor, before in reversed(tape.before):
            tensor.copy_(before)
        for tensor in tensors_of([new for _, new in tape.calls]):
            if tensor.is_floating_point():
                tensor.fill_(float("nan"))

    def replay() -> None:
        with torch.no_grad():
            for call, kept in tape.calls:
                result = call()
                for mine, theirs in zip(kept, tensors_of(result) if kept else [], strict=True):
                    mine.copy_(theirs)

    return replay


class _Watched(TorchDispatchMode):
    """Changes nothing, except that autograd adds gradients in place only where no mode is active.

    The layout of the sum follows from that, and from the layout of a 1 × 1 map's gradient the kernel that reads it.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **kwargs or {})


class Plain(InTurn):
    """Plain steps in the kernels of those that are recorded."""

    def step(self, students: Sequence[Student], learn: Learn) -> Iterator[tuple[Student, Failure]]:
        def one(student: Student) -> None:
            with _Watched():
                self.run(student, partial(learn, student))

        return self.each(students, one)

    def run(self, owner: Any, work: Work) -> None:
        work()


class Faked(Plain):
    """Steps on tensors without numbers, which nothing can ask for one. Students cannot be used afterwards."""

    def run(self, owner: Any, work: Work) -> None:
        with FakeTensorMode(allow_non_fake_inputs=True):
            work()


class Tape(Recorder):
    """Records the teacher's pass and every student's step for `Graphs`, and runs all of it in turn."""

    def __init__(self) -> None:
        """Without a device."""

    def capture(self, work: Work, stream: Any) -> Work:
        return record(work)

    def stream_for(self, owner: object) -> str:
        return "the only stream"

    def run_on(self, stream: Any, work: Work) -> None:
        with _Watched():
            work()

    def waits(self, stream: Any, work: Work) -> bool:
        self.run_on(stream, work)
        return False

    def wait_for(self, stream: Any) -> None:
        pass

    def check(self) -> None:
        pass
