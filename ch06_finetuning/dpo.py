"""DPO: learn from pairs of a better and a worse answer, without a reward model.

DPO asks of a model that, compared with the model it started as, the chosen answer has become more probable than the
rejected one has. The loss is a logistic regression on that comparison.

References: Rafailov et al. (2023), "Direct Preference Optimization: Your Language Model is Secretly a Reward Model".
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ch04_gpt_model.gpt_model import GPTModel
from ch05_pretraining.loop_care import (
    around_training,
    learn,
    require_training_settings,
    seed_dropout,
    stop_if_pressed,
    to_device_of,
    trainable_parameters,
)
from ch06_finetuning.preferences import (
    PreferenceDataset,
    PreferenceReport,
    pair_batches,
    preference_report,
    reference_log_probabilities,
)

__all__ = ["PreferenceHistory", "dpo_loss", "train_preferences"]


def dpo_loss(
    policy_chosen: Tensor,
    policy_rejected: Tensor,
    reference_chosen: Tensor,
    reference_rejected: Tensor,
    beta: float = 0.1,
) -> Tensor:
    """Return the mean DPO loss of a batch of pairs; ln 2 while the policy is still the reference.

    Args:
        policy_chosen: log-probability of each chosen answer under the model being trained, in nats.
        policy_rejected: the same for the rejected answers.
        reference_chosen: the same for the chosen answers under the model it started as.
        reference_rejected: the same for the rejected answers.
        beta: how strongly the policy is held to the reference, above 0.

    Shape:
        four times (B,) -> ().

    Raises:
        ValueError: `beta` is not positive, or the four tensors have different shapes.

    Source: Rafailov et al. (2023), equation 7. Taught in ch06, section 6.14.
    """
    if not beta > 0:
        raise ValueError(f"beta={beta} is not positive: 0.1 is a common choice")
    shapes = [tuple(part.shape) for part in (policy_chosen, policy_rejected, reference_chosen, reference_rejected)]
    if len(set(shapes)) > 1:
        raise ValueError(f"the log-probabilities have shapes {shapes}: give four of one shape, a number for each pair")
    chosen_reward = beta * (policy_chosen - reference_chosen)  # (B,)
    rejected_reward = beta * (policy_rejected - reference_rejected)  # (B,)
    return -F.logsigmoid(chosen_reward - rejected_reward).mean()


@dataclass
class PreferenceHistory:
    """What `train_preferences` saw: one entry a step, one report at each validation.

    Source: this course. Taught in ch06, section 6.14.
    """

    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    val_steps: list[int] = field(default_factory=list)
    reports: list[PreferenceReport] = field(default_factory=list)


def train_preferences(
    model: GPTModel, dataset: PreferenceDataset, val_dataset: PreferenceDataset | None = None, *, max_steps: int = 200,
    batch_size: int = 16, learning_rate: float = 1e-4, beta: float = 0.1, eval_every: int = 50, seed: int = 0,
    on_step: Callable[[int, float], None] | None = None,
) -> PreferenceHistory:  # fmt: skip
    """Fine-tune a model with DPO; the reference is the model as it comes in.

    Args:
        model: a fine-tuned GPTModel, changed in place; frozen weights stay, so LoRA works. Its modes are given back.
        dataset: training pairs.
        val_dataset: held-out pairs, reported at the start, every `eval_every` steps and at the end.
        max_steps: optimizer steps, at least 1.
        batch_size: pairs in a step, 1 to the number of pairs.
        learning_rate: of AdamW; falls linearly to zero.
        beta: how strongly the model is held to the reference.
        eval_every: steps between two reports, at least 1.
        seed: decides the order of the pairs, and dropout.
        on_step: called with (step, loss) after every step.

    Raises:
        ValueError: there are fewer pairs than `batch_size`, everything is frozen, a row is longer than the context, a
            number is out of its range, or a loss is not finite.
        TrainingInterrupted: Ctrl-C, after a whole step; its `history` holds what happened.

    Source: Rafailov et al. (2023), section 4. Taught in ch06, section 6.14.
    """
    require_training_settings(learning_rate, max_steps=max_steps, eval_every=eval_every)
    dataset.require_fit(model, batch_size)
    optimizer = torch.optim.AdamW(trainable_parameters(model), learning_rate, weight_decay=0.0)
    reference = reference_log_probabilities(model, dataset)  # (2, N)
    history = PreferenceHistory()
    validate = validation(model, val_dataset, beta, history)
    validate(0)
    with around_training(model) as ctrl_c:
        for step, indices in enumerate(pair_batches(dataset, batch_size, max_steps, seed)):
            stop_if_pressed(ctrl_c, f"step {step} of {max_steps}", history)
            optimizer.param_groups[0]["lr"] = learning_rate * (1 - step / max_steps)
            seed_dropout(seed, step)
            was_chosen, was_rejected = to_device_of(model, *reference[:, indices])  # (B,), (B,)
            now = dataset.log_probabilities(model, indices)  # chosen (B,), rejected (B,)
            loss = learn(model, optimizer, dpo_loss(*now, was_chosen, was_rejected, beta), step)
            history.steps.append(step + 1)
            history.losses.append(loss)
            if on_step is not None:
                ctrl_c.call(on_step, step + 1, loss)
            if (step + 1) % eval_every == 0 or step + 1 == max_steps:
                validate(step + 1)
    return history


def validation(
    model: GPTModel, val_dataset: PreferenceDataset | None, beta: float, history: PreferenceHistory
) -> Callable[[int], None]:
    """Give a function that ranks the held-out pairs after a step and notes the report; without pairs it does nothing.

    Source: this course. Taught in ch06, section 6.14.
    """
    if val_dataset is None:
        return lambda step: None
    reference = reference_log_probabilities(model, val_dataset)  # (2, N)

    def validate(step: int) -> None:
        history.val_steps.append(step)
        history.reports.append(preference_report(model, val_dataset, reference, beta))

    return validate
