"""The profile's ``cluster`` section: where training, ablations and encoding run if not in this process."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field, field_validator, model_validator

from synthembed.profile.generate_settings import STRICT, Positive


class Cluster(BaseModel):
    """Ray places the work on these workers (extra ``cluster``); without the section it stays in this process."""

    model_config = STRICT

    address: str = (
        "local"  # local = a cluster of this machine alone, for this run; auto or host:port = join it
    )
    workers: Positive = 1
    min_workers: Positive | None = None  # training goes on with fewer where nodes are lost; None = workers
    cpus_per_worker: Annotated[float, Field(gt=0)] = 1
    gpus_per_worker: Annotated[float, Field(ge=0)] | None = None  # None = one if there are GPUs, else none
    grid: list[Literal["ablations", "seeds"]] = [
        "ablations"
    ]  # these runs are a task each, on one worker, side
    # by side; others have all workers, one after the other
    storage: str | None = (
        None  # of checkpoints: a folder or URL that all nodes reach; None = the run's folder
    )
    retries: Annotated[int, Field(ge=0)] = 3  # how often work that lost its worker or node is begun again
    dashboard: bool = False  # Ray's web page, of a local cluster: on this machine's loopback alone
    object_store_mb: Annotated[int, Field(ge=80)] | None = None  # of a local cluster; None = as Ray takes it

    @field_validator("address")
    @classmethod
    def _reachable(cls, v):
        if v.startswith("ray://"):
            raise ValueError(
                "Ray Client cannot train: start this on a machine of the cluster, with address auto or host:port"
            )
        if v not in ("local", "auto") and not v.rpartition(":")[2].isdigit():
            raise ValueError("write local, auto or host:port, such as 10.0.0.1:6379")
        return v

    @model_validator(mode="after")
    def _bounds(self):
        if self.min_workers and self.min_workers > self.workers:
            raise ValueError(f"min_workers = {self.min_workers} is more than workers = {self.workers}")
        return self
