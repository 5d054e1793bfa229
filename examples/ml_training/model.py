"""The model: a logistic regression, with one weight per feature and the bias as the last one."""

import math


def predict(weights: list[float], features: list[float]) -> float:
    """The probability of label 1; the bounds keep it off 0 and 1, for the sake of the logarithm."""
    score = weights[-1] + sum(w * x for w, x in zip(weights, features, strict=False))
    return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, score))))


def mean_loss(rows: list[list[float]], weights: list[float]) -> float:
    total = 0.0
    for *features, label in rows:
        probability = predict(weights, features)
        total -= math.log(probability if label else 1.0 - probability)
    return total / len(rows)
