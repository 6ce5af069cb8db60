"""``synthembed estimate``: what a profile will take, before anything is spent."""

from __future__ import annotations

from typing import Annotated

import typer

from synthembed.commands.options import ProfileOption, SetOption, plain_errors


def estimate(
    profile: ProfileOption = "paper",
    gpu: Annotated[str, typer.Option(help="h200, h100, a100 or v100; none: this machine.")] = "",
    gpus: Annotated[int, typer.Option(help="How many of them.")] = 1,
    usd_per_hour: Annotated[
        float | None, typer.Option(help="Of one GPU; by default a dated table's.")
    ] = None,
    parts: Annotated[bool, typer.Option("--parts", help="Every training and evaluation on its own.")] = False,
    json: Annotated[bool, typer.Option("--json", help="For other programs.")] = False,
    set_: SetOption = [],  # noqa: B006
) -> None:
    """Requests, tokens, operations, hours, money, memory, disk and network of a profile, before it runs."""
    from synthembed import profile as profiles
    from synthembed.generation import cost
    from synthembed.stages import runner
    from synthembed.stages.planning import bill, workload

    of_gpus = {"--gpus": gpus > 1, "--usd-per-hour": usd_per_hour is not None, "--parts": parts}
    for option, given in of_gpus.items():
        if given and not (gpu or json):
            raise typer.BadParameter("without --gpu the estimate is of this machine", param_hint=option)
    with plain_errors():
        loaded = profiles.load(profile, set_)
        runner.check_names(loaded)  # a name that nobody has would cost nothing
        shape = workload.known_shape(loaded.backbone.model, loaded.backbone.layers)
        if shape is None:
            raise bill.BillError(
                f"backbone.model {loaded.backbone.model!r}: its configuration is not on this machine; "
                "`synthembed doctor` says what is missing"
            )
        on = bill.machines(gpu or "h100", gpus, usd_per_hour)
        if json:
            print(bill.as_json(loaded, shape, on))
            return
        print(cost.estimate(loaded))
        print()
        if gpu:
            print(bill.text(loaded, shape, on, parts))
        else:
            from synthembed.ground import hardware
            from synthembed.stages.planning import forecast

            print(bill.here(loaded, shape, *forecast.rate_here(loaded, hardware.device())))
            print("on GPUs: synthembed estimate --gpu h100 --gpus 8")
