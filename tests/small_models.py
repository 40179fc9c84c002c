"""What several tests do to small models: shake their weights, feed them random ids, interrupt their training."""

import torch

from ch05_pretraining.checkpoints import unique_tensors


def shaken(make, scale: float, seed: int = 0):
    """A double-precision model with weights large enough that its tokens differ."""
    torch.manual_seed(seed)
    model = make().double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * scale)
    return model


def random_ids(config, rows: int, length: int, seed: int = 0) -> torch.Tensor:
    """Ids (rows, length) drawn from the whole vocabulary."""
    return torch.randint(config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed))


def weights(model) -> dict[str, torch.Tensor]:
    """The weights by name, shared ones once."""
    return {name: tensor.detach() for name, tensor in unique_tensors(model).items()}


def press_at(step: int):
    """An `on_step` that presses Ctrl-C after this step."""

    def on_step(progress):
        if progress.step == step:
            raise KeyboardInterrupt

    return on_step
