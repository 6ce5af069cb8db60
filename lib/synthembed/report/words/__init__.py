"""What is said of a run: names of what ran, the finding, the paper's effects, figures in words."""
