"""Answers to the exercises of chapter 5's side room `scaling`."""

import math

import torch


def foretell(sizes, losses, floor, size):
    (near, far), (above_near, above_far) = sizes, (loss - floor for loss in losses)
    exponent = math.log(above_near / above_far) / math.log(far / near)
    return floor + above_near * (size / near) ** -exponent


def head_gradients(hidden, weight, targets, n_rows):
    to_hidden, to_weight = [], torch.zeros_like(weight)
    for rows, wanted in zip(hidden.split(n_rows), targets.split(n_rows)):
        gradients = (rows @ weight.T).softmax(dim=-1)  # (n, V)
        gradients[torch.arange(len(wanted)), wanted] -= 1
        to_hidden.append(gradients @ weight)  # (n, D)
        to_weight += gradients.T @ rows  # (V, D)
    return torch.cat(to_hidden), to_weight


def unscale(gradients, factor):
    if not all(gradient.isfinite().all() for gradient in gradients):
        return None, factor / 2
    return [gradient.float() / factor for gradient in gradients], factor


SOLUTIONS = {
    "5s.1": (
        foretell,
        """Above the floor the law is a plain power: the ratio of the two losses is the ratio of the sizes to the power
        of the exponent, so the exponent is a quotient of two logarithms. The scale need not be computed: start at one
        of the points, and change it by the ratio of the sizes.""",
    ),
    "5s.2": (
        head_gradients,
        """The loss is a sum over rows, so every slice gives its rows of the first gradient and adds its share to the
        second. softmax subtracts the largest score first, so no exponential overflows. At no time do more than n_rows
        rows of scores exist.""",
    ),
    "5s.3": (
        unscale,
        """First look for infinity and nan, in all gradients, since one bad number spoils the whole step. Then change
        to float32 and divide, in this order: divided in float16, small numbers become 0, and the factor was there to
        save them.""",
    ),
}
