"""What the paper leaves open, as experiments that a profile lists: trainings, ways of reading, figures. Notebook 08."""
