"""A mixture of experts: many feed-forward parts in one block, of which each token uses a few.

A router scores every expert for every token, the best few answer, and their answers are added up by the router's
weights. Two ways keep the experts equally busy: a second loss, and a bias that moves with the counts. Dimensions:
B rows, T tokens, N = B x T tokens in a list, D width, E experts, A of them active for each token.

Sources: Shazeer et al. (2017), arXiv 1701.06538; Fedus et al. (2021), arXiv 2101.03961; DeepSeek-AI (2024), arXiv
2412.19437. Taught in ch04, `beyond_llama.ipynb`.
"""

import torch
from torch import Tensor, nn

from ch04_gpt_model.modern_gpt import SwiGLU

__all__ = ["route", "balance_loss", "moved_bias", "MixtureOfExperts"]


def route(affinities: Tensor, n_active: int, bias: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Choose the best experts of each token, and weigh them so that the weights of a token sum to 1.

    Args:
        affinities: how well each expert fits each token, above 0: a softmax or a sigmoid of the router's scores.
        n_active: number of experts for each token, A, at least 1 and at most E.
        bias: added to the affinities for the choice alone; the weights do not see it.

    Shape:
        affinities (N, E), bias (E,) -> weights (N, A), chosen (N, A) int64.

    Raises:
        ValueError: there are fewer experts than a token should use, or none should be used.

    Source: Jiang et al. (2024), section 2.1; the bias: DeepSeek-AI (2024), equation 16. Taught in ch04,
    beyond_llama.ipynb, sections B.1 and B.2.
    """
    if not 1 <= n_active <= affinities.shape[-1]:
        raise ValueError(f"n_active={n_active} of {affinities.shape[-1]} experts; give a number from 1 to that many")
    wanted = affinities if bias is None else affinities + bias
    chosen = wanted.topk(n_active, dim=-1).indices  # (N, A)
    weights = affinities.gather(-1, chosen)
    return weights / weights.sum(dim=-1, keepdim=True), chosen


def balance_loss(affinities: Tensor, chosen: Tensor) -> Tensor:
    """Give A where the experts are equally busy, and more where those that are wanted most also get most tokens.

    Args:
        affinities: probabilities of the experts for each token; each row sums to 1.
        chosen: numbers of the experts that each token uses.

    Shape:
        affinities (N, E), chosen (N, A) -> (). Only the affinities carry a gradient.

    Source: Fedus et al. (2021), equation 4. Taught in ch04, beyond_llama.ipynb, section B.2.
    """
    n_tokens, n_experts = affinities.shape
    shares = torch.bincount(chosen.flatten(), minlength=n_experts).to(affinities) / n_tokens  # (E,) sums to A
    return n_experts * (shares @ affinities.mean(dim=0))


def moved_bias(bias: Tensor, chosen: Tensor, step: float = 0.01) -> Tensor:
    """Raise the bias of each expert that got fewer tokens than the mean, and lower it where an expert got more.

    Args:
        bias: what is added to the affinities for the choice.
        chosen: numbers of the experts that each token used.
        step: how far a bias moves, above 0.

    Shape:
        bias (E,), chosen (N, A) -> (E,).

    Source: DeepSeek-AI (2024), section 2.1.2. Taught in ch04, beyond_llama.ipynb, section B.2.
    """
    counts = torch.bincount(chosen.flatten(), minlength=len(bias)).to(bias)
    return bias + step * (counts.mean() - counts).sign()


class MixtureOfExperts(nn.Module):
    """Many small feed-forward parts, of which a router gives each token a few, and perhaps one that all tokens use.

    Args:
        d_model: width of the token vectors, in and out.
        d_ff: width inside one expert.
        n_experts: number of experts to choose from, E.
        n_active: number of experts that a token uses, A.
        d_shared: width inside the expert that every token uses; 0 means none.
        sigmoid: score each expert for itself, as DeepSeek-V3 does, instead of by a softmax over all.

    Shape:
        (B, T, D) -> (B, T, D). Afterwards `affinities` (N, E) and `chosen` (N, A) tell how the tokens went.

    Source: Jiang et al. (2024), section 2.1; the shared expert: Dai et al. (2024), section 3.2. Taught in ch04,
    beyond_llama.ipynb, sections B.1 to B.3.
    """

    bias: Tensor

    def __init__(
        self, d_model: int, d_ff: int, n_experts: int, n_active: int, d_shared: int = 0, sigmoid: bool = False
    ):
        super().__init__()
        self.router = nn.Linear(d_model, n_experts, bias=False)
        self.experts = nn.ModuleList(SwiGLU(d_model, d_ff) for _ in range(n_experts))
        self.shared = SwiGLU(d_model, d_shared) if d_shared else None
        self.register_buffer("bias", torch.zeros(n_experts))
        self.n_active, self.sigmoid = n_active, sigmoid

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(0, -2)  # (N, D)
        scores = self.router(tokens)  # (N, E)
        self.affinities = scores.sigmoid() if self.sigmoid else scores.softmax(dim=-1)
        weights, self.chosen = route(self.affinities, self.n_active, self.bias)
        mixed = torch.zeros_like(tokens)
        for number, expert in enumerate(self.experts):
            token, place = (self.chosen == number).nonzero(as_tuple=True)  # who chose this expert, and as which
            mixed = mixed.index_add(0, token, weights[token, place, None] * expert(tokens[token]))
        shared = 0 if self.shared is None else self.shared(x)
        return mixed.view_as(x) + shared
