"""Processes of their own, to be killed or to meet in a group, without each importing the packages again."""

import multiprocessing
from multiprocessing.context import ForkServerContext

PACKAGES = [  # what any of them reads: a process of pytest has one server, which the first test to need it starts
    "mteb", "peft", "transformers.models.llama.modeling_llama", "synthembed.training.train",
    "synthembed.evaluation.mteb_runs", "synthembed.evaluation.suites.embedded_tasks",
]  # fmt: skip


def processes() -> ForkServerContext:
    """As ``multiprocessing``; what is started is forked from one process that has imported the packages, and imports
    the test's module by itself."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PACKAGES)
    return context
