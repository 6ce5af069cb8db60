"""Memory that nothing needs is given back."""

import gc
import weakref

import torch
from synthembed.ground import hardware


class Cycle:
    def __init__(self):
        self.itself = self


def test_what_only_a_cycle_holds_goes_before_the_accelerators_memory_is_given_back(monkeypatch):
    gc.disable()
    try:
        held, alive = weakref.ref(Cycle()), []
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: alive.append(held()))
        assert held() is not None
        hardware.release()
        assert alive == [None]
    finally:
        gc.enable()
