"""A model → scores: mteb under the paper's protocol, ablations, passkeys (Sec. 4, 5). Notebooks 04 to 06."""
