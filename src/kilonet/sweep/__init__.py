"""Many trainings over a space of settings, by any number of processes and machines, scored on validation images."""
