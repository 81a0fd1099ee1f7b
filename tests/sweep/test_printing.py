"""What losses print side by side in a worker is told apart, also where one of them raises."""

import threading
from contextlib import redirect_stdout

import pytest
from torch import nn

from msd_sweeps.sweep.printing import Printing


class Loud(nn.Module):
    """Prints its name at each step, together with others."""

    def __init__(self, name: str, meet: threading.Barrier):
        super().__init__()
        self.name, self.meet = name, meet

    def forward(self, step: int) -> None:
        for part in ("begins", "ends"):
            self.meet.wait(10)
            print(self.name, part, step)
        if step == 2:
            raise ValueError(self.name)


def test_losses_that_print_side_by_side_are_told_apart(capsys):
    printing, meet = Printing(), threading.Barrier(2)
    losses = {name: Loud(name, meet) for name in "ab"}

    def steps(loss: Loud) -> None:
        for step in (1, 2):
            try:
                loss(step)
            except ValueError:
                print("outside", loss.name)

    for name, loss in losses.items():
        printing.listen(name, loss)
    with redirect_stdout(printing):
        threads = [threading.Thread(target=steps, args=(loss,)) for loss in losses.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    for name in losses:
        assert printing.take(name) == "".join(
            f"{name} {part} {step}\n" for step in (1, 2) for part in ("begins", "ends")
        )
        assert printing.take(name) == ""
    assert sorted(capsys.readouterr().out.splitlines()) == ["outside a", "outside b"]


def test_a_loss_that_prints_without_end_is_cut():
    printing, loss = Printing(), nn.Identity()
    loss.register_forward_pre_hook(lambda *_: None)
    printing.listen("a", loss)
    loss.register_forward_pre_hook(lambda *_: [printing.write("x" * 90) for _ in range(10_000)] and None)
    loss(1)
    assert len(printing.take("a")) == pytest.approx(2_000, abs=50)
