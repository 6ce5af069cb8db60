"""Several workers (torchrun): who am I, vectors of all, gradients summed, a model in shards.

One worker is the default and needs none of this: every function then does nothing. Each worker
holds the whole batch's texts and runs its share of the chunks; gathered vectors give each the loss
of the whole batch, and the gradients are summed, not averaged (contrastive.cached_backward).
"""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import takewhile
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from synthembed.ground.cores import cores
from synthembed.ground.files import PACKAGE
from synthembed.model.backbone import Backbone

BUCKET = 64 * 2**20  # elements of gradients that are summed in one message


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def join() -> None:
    """Join the group that torchrun describes in the environment: NCCL with GPUs, else gloo."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def leave() -> None:
    """Leave the group, when all are done."""
    wait()
    dist.destroy_process_group()


def launch(module: str, arguments: list[str], workers: int, log: Path) -> None:
    """Run ``python -m module arguments`` as ``workers`` processes of this machine, by torchrun.

    Fresh processes: a notebook's kernel that has touched CUDA is never forked. What the first worker
    prints is shown; all that the workers say stands in ``log``. Raises RuntimeError with the end of
    the log if one fails.
    """
    threads = str(max(1, cores() // workers))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(workers),
               "--module", module, *arguments]  # fmt: skip
    library = str(PACKAGE.parent)  # the very code that this process runs
    path = os.pathsep.join(filter(None, [library, os.environ.get("PYTHONPATH")]))
    environment = {"OMP_NUM_THREADS": threads} | os.environ | {"PYTHONPATH": path}
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=file, text=True, encoding="utf-8"
        )
        try:
            for line in process.stdout:
                print(line, end="", flush=True)
                file.write(line)
        finally:
            process.terminate()  # torchrun passes it on to its workers; of an ended one, nothing
            failed = process.wait()
    if failed:
        said = takewhile(lambda line: "elastic" not in line, log.read_text(encoding="utf-8").splitlines())
        raise RuntimeError(
            f"training with {workers} workers failed; {log.name} has all of it:\n"
            + "\n".join([line for line in said if line.strip()][-5:])
        )


def gather(vectors: torch.Tensor, sizes: list[int]) -> tuple[torch.Tensor, int]:
    """Vectors of all workers (sum(sizes), dim) in their order, and the number of rows before ours.

    ``sizes`` says how many rows each worker has. Nothing here is differentiable.
    """
    if world() == 1:
        return vectors, 0
    padded = vectors.new_zeros(max(sizes), vectors.shape[1])
    padded[: len(vectors)] = vectors
    found = [torch.empty_like(padded) for _ in sizes]
    dist.all_gather(found, padded)
    return torch.cat([f[:n] for f, n in zip(found, sizes, strict=True)]), sum(sizes[: rank()])


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by the sum over the workers; sharded ones are summed already."""
    if world() == 1:
        return
    bucket: list[torch.Tensor] = []

    def flush() -> None:
        flat = torch.cat([g.flatten() for g in bucket])
        dist.all_reduce(flat)
        for gradient, summed in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            gradient.copy_(summed.view_as(gradient))
        bucket.clear()

    for parameter in parameters:
        if isinstance(parameter, DTensor):
            continue
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        if bucket and (bucket[0].dtype != parameter.grad.dtype or sum(g.numel() for g in bucket) > BUCKET):
            flush()
        bucket.append(parameter.grad)
    if bucket:
        flush()


def largest(value: float, on: torch.device) -> float:
    """The largest of the workers' values."""
    if world() == 1:
        return value
    tensor = torch.tensor(value, dtype=torch.float64 if on.type != "mps" else torch.float32, device=on)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return tensor.item()


def shard(model: nn.Module, layers: Iterable[nn.Module]) -> None:
    """FSDP2, in place: each worker keeps its share of every weight and fetches a layer when it runs.

    Gradients are summed over the workers, as ``sum_gradients`` does for a model that is not sharded.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard

    mesh = init_device_mesh("cuda" if torch.cuda.is_available() else "cpu", (world(),))
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # all that gloo knows


def of_first(made: Backbone | None) -> Backbone:
    """What the first worker has made, on every worker: there without weights (on the meta device)."""
    sent = [replace(made, model=_shell(made.model)) if rank() == 0 else None]
    dist.broadcast_object_list(sent)
    return made if rank() == 0 else sent[0]


def _shell(model: nn.Module) -> nn.Module:
    """A copy of a model whose parameters and buffers have shapes and no numbers."""
    memo: dict = {id(b): b.to("meta") for b in model.buffers()}
    memo |= {id(p): nn.Parameter(p.detach().to("meta"), p.requires_grad) for p in model.parameters()}
    return copy.deepcopy(model, memo)


def shard_of_first(made: Backbone, layers_of: Callable, on: torch.device) -> Backbone:
    """The first worker's model in shards on all of them: each gets its share of a weight, one weight after the
    other, and none but the first, on its CPU, ever holds the whole model."""
    shell = _shell(made.model)
    shard(shell, layers_of(shell))
    shell.to_empty(device=on)
    weights = dict(made.model.named_parameters()) | dict(made.model.named_buffers())
    with torch.no_grad():
        for name, target in [*shell.named_parameters(), *shell.named_buffers()]:
            source = (
                weights[name].detach().to(on)
                if rank() == 0
                else torch.empty(target.shape, dtype=target.dtype, device=on)
            )
            if isinstance(target, DTensor):
                copy_into(target.data, source)
            else:
                dist.broadcast(source, 0)
                target.data.copy_(source)
    return replace(made, model=shell)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A sharded tensor put together (every worker must ask); any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def on_first(tensor: torch.Tensor) -> torch.Tensor | None:
    """A tensor put together in the first worker's memory, and None on the others, which only send their shares; of
    a sharded one every worker must ask."""
    if not isinstance(tensor, DTensor):
        return None if rank() else tensor.detach().cpu().contiguous()
    if tensor.placements != (Shard(0),):
        found = tensor.full_tensor()
        return None if rank() else found.cpu()
    mine, each = tensor.to_local(), -(-tensor.shape[0] // world())  # rows of a worker, the last ones' fewer
    padded = mine.new_zeros(each, *tensor.shape[1:])
    padded[: len(mine)] = mine
    found = None if rank() else [torch.empty_like(padded) for _ in range(world())]
    dist.gather(padded, found)
    return None if rank() else torch.cat(found)[: tensor.shape[0]].cpu().contiguous()


def copy_into(target: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """Values of a whole tensor into one that may be sharded, in place."""
    if isinstance(target, DTensor):
        source = distribute_tensor(source.to(target.device), target.device_mesh, target.placements)
    return target.copy_(source)


def wait() -> None:
    """Until all workers are here."""
    if world() > 1:
        dist.barrier()
