"""What a run will take: work, minutes on this machine, hours and money on GPUs."""
