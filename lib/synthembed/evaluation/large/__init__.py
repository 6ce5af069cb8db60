"""Evaluation that takes days: corpora that outgrow memory, tasks over many workers."""
