"""What is wrong with this data, this run, this machine, and what to do: one file for each, one kind of finding."""
