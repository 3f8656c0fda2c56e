"""The figures of docs/tutorial.md: what the tutorial's recipe gives, and what its mistakes cost.

    KILONET_DATA=... python bench/tutorial.py [seeds]

Trains on full MNIST with the tutorial's split: both presets; the CNN without its final ReLU; that with a
one-cycle schedule. Prints a line a run, then means; all of it validation, no test set is read.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import replace

import torch
from torch import nn

import kilonet as kn
from kilonet import config
from kilonet.models import Classifier


def without_final_relu(model: Classifier) -> Classifier:
    """The tutorial's CNN whose logits may be negative."""
    assert isinstance(model.net, nn.Sequential)
    model.net[5] = nn.Identity()
    return model


def dead_classes(report_confusion: torch.Tensor) -> list[int]:
    """Classes that are predicted for no image."""
    return [k for k, n in enumerate(report_confusion.sum(0).tolist()) if n == 0]


def main() -> None:
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    data = kn.load("mnist").split("tutorial")
    cnn = config.resolve({"preset": "tutorial-cnn"}, {}).training
    linear = config.resolve({"preset": "tutorial-linear"}, {}).training
    one_cycle = replace(cnn, schedule="one-cycle", lr=4e-3)
    variants = {
        "tutorial-linear": ("linear", linear, False),
        "tutorial-cnn": ("tutorial-cnn", cnn, False),
        "tutorial-cnn without its final ReLU": ("tutorial-cnn", cnn, True),
        "the same, one-cycle peaking at 4e-3": ("tutorial-cnn", one_cycle, True),
    }
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {seeds} seeds, {cnn.epochs} epochs")
    for name, (model_name, training, cut) in variants.items():
        accuracies = []
        for seed in range(seeds):
            model = kn.build(model_name, data.train, seed)
            if cut:
                model = without_final_relu(model)
            history = kn.fit(model, data, replace(training, seed=seed))
            report = kn.evaluate(model, data.val)
            dead = dead_classes(torch.from_numpy(report.confusion))
            seconds = sum(record.seconds for record in history.epochs)
            accuracies.append(100 * report.accuracy)
            print(
                f"{name}, seed {seed}: {100 * report.accuracy:.2f} %, never predicted {dead}, {seconds:.0f} s",
                flush=True,
            )
        spread = statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0
        low, high = min(accuracies), max(accuracies)
        print(
            f"{name}: mean {statistics.mean(accuracies):.2f} ± {spread:.2f} %, {low:.2f} to {high:.2f}, n = {seeds}\n"
        )


if __name__ == "__main__":
    main()
