"""Hostile files: valid ones, damaged in ways that know their format, and what reading them may do at most.

`PYTHONPATH=src:tests python -m fuzz --inputs 100000 --seed 1` runs a series over every reader. `edits` damages bytes, text
and JSON, `formats` what each format is built of, `seeds` makes the valid files, `readers` says how each is read and
what a right answer is, `guard` judges one reading, and `series` runs many in a process of their own.
"""
