"""A reproducible companion to "Improving Text Embeddings with Large Language Models" (ACL 2024).

The modules in the order in which data flows: profile, taxonomy, requests, generate, examples, analysis,
backbone, encoder, contrastive, train, export, suites, evaluate, ablations, passkey, report.
"""
