"""Chapter 4's faster answers: drafts change no probability, padded rows equal each alone, stops are found."""

import random

import pytest
import torch
from torch.testing import assert_close

from ch04_gpt_model.generation import KVCache, generate
from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel
from ch04_gpt_model.inference import (
    accept_draft,
    draft_steps,
    generate_batch,
    generate_with_draft,
    pad_left,
    read_padded,
    text_until,
)
from ch04_gpt_model.modern_gpt import ModernConfig, ModernGPT
from ch04_gpt_model.quantization import from_q4, int8_by_row, to_q4
from ch04_gpt_model.recent_gpt import RecentConfig, RecentGPT
from ch04_gpt_model.sampling import next_token_probabilities
from tests.sizes import n
from tests.small_models import random_ids, shaken

PLAIN = GPTConfig(vocab_size=11, context_length=24, d_model=12, n_heads=3, n_layers=2)
MODERN = ModernConfig(vocab_size=11, context_length=24, d_model=12, n_heads=3, n_layers=2, n_kv_heads=1)
RECENT = RecentConfig(vocab_size=11, context_length=24, d_model=12, n_heads=3, n_layers=2, windows=(3, None),
                      window_base=50.0, norms="both", scale_embeddings=True)  # fmt: skip
LENGTHS = (1, 5, 9, 3)


def plain_model(config=PLAIN):
    return shaken(lambda: GPTModel(config), 0.4)


@pytest.fixture(
    params=[
        plain_model,
        lambda: shaken(lambda: ModernGPT(MODERN), 0.4),
        lambda: shaken(lambda: RecentGPT(RECENT), 0.4),
    ],
    ids=["GPTModel", "ModernGPT", "RecentGPT"],
)
def model(request):
    return request.param()


def prompts_of(lengths=LENGTHS):
    return [random_ids(PLAIN, 1, length, seed)[0] for seed, length in enumerate(lengths)]


def total_variation(counts, expected):
    counts = torch.as_tensor(counts, dtype=torch.float64)
    return 0.5 * (counts / counts.sum() - expected).abs().sum().item()


# --- prompts of unequal lengths ---------------------------------------------------------------------------------------


def test_padding_stands_on_the_left():
    assert pad_left([torch.tensor([7]), torch.tensor([1, 2, 3])]).tolist() == [[-1, -1, 7], [1, 2, 3]]


def test_padded_rows_read_what_each_reads_alone(model):
    prompts = prompts_of()
    n_pads = torch.tensor([max(LENGTHS) - length for length in LENGTHS])
    with torch.no_grad():
        read = read_padded(model, pad_left(prompts), n_pads)
        for row, prompt in zip(read, prompts):
            assert_close(row[-len(prompt) :], model.hidden(prompt[None])[0], rtol=0, atol=1e-10)


def test_padded_rows_in_portions_read_what_each_reads_alone(model):
    prompts = prompts_of()
    ids, n_pads = pad_left(prompts), torch.tensor([max(LENGTHS) - length for length in LENGTHS])
    cache = KVCache(model.config, len(ids), dtype=torch.float64)
    with torch.no_grad():
        read = torch.cat([read_padded(model, part, n_pads, cache) for part in ids.split([2, 4, 1, 2], dim=1)], dim=1)
        for row, prompt in zip(read, prompts):
            assert_close(row[-len(prompt) :], model.hidden(prompt[None])[0], rtol=0, atol=1e-10)
    assert cache.length == max(LENGTHS)


@pytest.mark.parametrize("use_cache", [True, False])
@pytest.mark.parametrize("settings", [{}, {"temperature": 1.3, "seed": 5}, {"temperature": 0.8, "top_k": 4, "seed": 1}])
def test_a_batch_writes_what_each_prompt_gets_alone(model, use_cache, settings):
    """16 new tokens stay in the context of 24 for the short prompts and leave it for the longest."""
    written = generate_batch(model, prompts_of(), 18, use_cache=use_cache, **settings)
    for row, (prompt, text) in enumerate(zip(prompts_of(), written)):
        own = {**settings, "seed": settings["seed"] + row} if "seed" in settings else settings
        assert torch.equal(text, generate(model, prompt[None], 18, **own)[0])


def test_prompts_longer_than_the_context_slide_too(model):
    prompts = prompts_of((30, 2))
    for prompt, text in zip(prompts, generate_batch(model, prompts, 4)):
        assert torch.equal(text, generate(model, prompt[None], 4)[0])


def test_random_batches_equal_each_alone(model):
    chance = random.Random(0)
    for case in range(n(5, 100)):
        prompts = prompts_of([chance.randint(1, 12) for _ in range(chance.randint(1, 5))])
        written = generate_batch(model, prompts, 10, temperature=1.0, stop_id=3, seed=case)
        for row, (prompt, text) in enumerate(zip(prompts, written)):
            alone = generate(model, prompt[None], 10, temperature=1.0, stop_id=3, seed=case + row)
            assert torch.equal(text, alone[0])


def test_each_row_ends_with_its_own_stop():
    model, prompts = plain_model(), prompts_of()
    free = generate_batch(model, prompts, 10, temperature=1.5, seed=2)
    new = [text[len(prompt) :].tolist() for prompt, text in zip(prompts, free)]
    stop = new[0][2]
    stopped = generate_batch(model, prompts, 10, temperature=1.5, seed=2, stop_id=stop)
    for prompt, ids, text in zip(prompts, new, stopped):
        expected = ids[: ids.index(stop) + 1] if stop in ids else ids
        assert text[len(prompt) :].tolist() == expected
    assert len({len(text) - len(prompt) for prompt, text in zip(prompts, stopped)}) > 1


def test_without_positions_or_mask_short_rows_go_wrong():
    """What `read_padded` does is needed: the longest row is right either way, the others are not."""
    model, prompts = plain_model(), prompts_of()
    with torch.no_grad():
        blind = model.hidden(pad_left(prompts).clamp(min=0))
        for row, prompt in zip(blind, prompts):
            same = torch.allclose(row[-1], model.hidden(prompt[None])[0, -1], atol=1e-6)
            assert same == (len(prompt) == max(LENGTHS))


def test_a_batch_leaves_the_model_as_it_was(model):
    model.train()
    generate_batch(model, prompts_of(), 3)
    assert all(module.training for module in model.modules())


def test_nothing_to_write_gives_the_prompts():
    for prompt, text in zip(prompts_of(), generate_batch(plain_model(), prompts_of(), 0)):
        assert torch.equal(prompt, text)


def test_prompts_come_from_anything_that_gives_tensors():
    rows_ = torch.tensor([[1, 2], [3, 4]])
    expected = generate(plain_model(), rows_, 3)
    for prompts in (rows_, (row for row in rows_), tuple(rows_)):
        assert torch.equal(torch.stack(generate_batch(plain_model(), prompts, 3)), expected)


@pytest.mark.parametrize(
    ("prompts", "settings", "sentence"),
    [
        ([], {}, "found 0 prompts"),
        ([torch.tensor([[1, 2]])], {}, r"each a tensor of shape \(tokens,\)"),
        ([torch.tensor([1]), torch.tensor([], dtype=torch.int64)], {}, "at least one token"),
        ([torch.tensor([1]), torch.tensor([-1, 2])], {}, "token id -1 is not in 0..10"),
        ([torch.tensor([11])], {}, "token id 11 is not in 0..10"),
        ([torch.tensor([1])], {"temperature": -1.0}, "temperature=-1.0"),
        ([torch.tensor([1])], {"stop_id": 99}, "stop_id=99"),
        ([torch.tensor([1])], {"top_p": 0.0}, "top_p=0.0"),
        ([[1, 2], [3]], {}, r"each a tensor of shape \(tokens,\)"),
        (["one"], {}, r"each a tensor of shape \(tokens,\)"),
        ([torch.tensor([1.0])], {}, "give int64"),
        ([torch.tensor([1])] * 2, {"temperature": 1.0, "seed": "a"}, "seed=a is not a whole number"),
        ([torch.tensor([1])] * 2, {"temperature": 1.0, "seed": 0.5}, "seed=0.5 is not a whole number"),
    ],
)
def test_a_batch_refuses_what_cannot_be_written(prompts, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        generate_batch(plain_model(), prompts, 3, **settings)


# --- drafts -----------------------------------------------------------------------------------------------------------


def rows(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(dim=-1)


def test_accepted_drafts_leave_the_distribution_as_it_was():
    """20,000 draws of the first token and of the pair, against the model's own probabilities."""
    chance = torch.Generator().manual_seed(0)
    p_first, q_first = (rows(4, seed=s) ** 2 for s in (1, 2))
    p_first, q_first = p_first / p_first.sum(), q_first / q_first.sum()
    p_next, q_next, p_last = rows(4, 4, seed=3) ** 6, rows(4, 4, seed=4) ** 6, rows(4, seed=5)
    p_next, q_next = (x / x.sum(dim=-1, keepdim=True) for x in (p_next, q_next))
    pairs, n_draws = torch.zeros(4, 4), 20_000
    for _ in range(n_draws):
        first = int(torch.multinomial(q_first, 1, generator=chance))
        second = int(torch.multinomial(q_next[first], 1, generator=chance))
        p, q = torch.stack([p_first, p_next[first], p_last]), torch.stack([q_first, q_next[first]])
        new = accept_draft(p, q, [first, second], torch.rand(3, 2, generator=chance, dtype=torch.float64))
        if len(new) == 1:  # the first guess was replaced: the model goes on by itself
            new.append(int(torch.multinomial(p_next[new[0]], 1, generator=chance)))
        pairs[new[0], new[1]] += 1
    assert total_variation(pairs, p_first[:, None] * p_next) < 0.015
    assert total_variation(pairs, q_first[:, None] * q_next) > 0.05


def test_a_guess_is_kept_with_the_ratio_of_the_probabilities():
    p, q = (rows(5, seed=seed) ** 3 for seed in (1, 2))
    p, q = p / p.sum(), q / q.sum()
    for token in range(5):
        chances = [torch.tensor([[c, 0.5], [0.5, 0.5]], dtype=torch.float64) for c in torch.arange(0.005, 1, 0.01)]
        kept = sum(len(accept_draft(torch.stack([p, p]), q[None], [token], chance)) == 2 for chance in chances)
        assert abs(kept / 100 - min(1.0, (p[token] / q[token]).item())) <= 0.011


def test_a_draft_without_overlap_is_always_refused():
    p, q = torch.eye(3, dtype=torch.float64)[[0, 0]], torch.eye(3, dtype=torch.float64)[[1]]
    assert accept_draft(p, q, [1], torch.zeros(2, 2, dtype=torch.float64)) == [0]


def uniform(ids):
    return torch.full((11,), 1 / 11, dtype=torch.float64)


def perfect(model):
    return lambda ids: next_token_probabilities(model(torch.tensor([ids]))[:, -1])[0]


@pytest.mark.parametrize("n_draft", [1, 2, 5])
def test_at_temperature_0_a_draft_changes_no_token(model, n_draft):
    for seed in range(3):
        ids = random_ids(PLAIN, 1, 4, seed)
        for draft in (uniform, perfect(model)):
            assert torch.equal(generate_with_draft(model, draft, ids, 15, n_draft), generate(model, ids, 15))


@torch.no_grad()
def test_a_perfect_draft_is_always_accepted_and_a_bad_one_costs_no_steps_more(model):
    ids = random_ids(PLAIN, 1, 4)
    assert [len(new) for new in draft_steps(model, perfect(model), ids, 20, 4, temperature=1.0, seed=0)] == [5] * 4
    steps = list(draft_steps(model, uniform, ids, 20, 4))
    assert sum(map(len, steps)) == 20 and 4 <= len(steps) <= 20


def test_written_pairs_come_as_often_as_the_model_alone_would_write_them():
    model = plain_model(GPTConfig(vocab_size=4, context_length=8, d_model=8, n_heads=2, n_layers=1))
    ids = torch.tensor([[1, 2]])
    with torch.no_grad():
        first = next_token_probabilities(model(ids)[:, -1], 0.9)[0]
        after = torch.cat([ids.expand(4, 2), torch.arange(4)[:, None]], dim=1)
        expected = first[:, None] * next_token_probabilities(model(after)[:, -1], 0.9)
    counts, draft = torch.zeros(4, 4), rows(4, seed=7) ** 2
    for seed in range(n(2000, 20_000)):
        a, b = generate_with_draft(model, lambda _: draft / draft.sum(), ids, 2, temperature=0.9, seed=seed)[0, 2:]
        counts[a, b] += 1
    assert total_variation(counts, expected) < 0.05


def test_a_text_with_a_draft_ends_at_its_stop_and_can_be_repeated(model):
    ids = random_ids(PLAIN, 1, 4)
    one, two = (generate_with_draft(model, uniform, ids, 15, temperature=1.0, seed=3) for _ in range(2))
    assert torch.equal(one, two)
    stop = one[0, 8].item()
    text = generate_with_draft(model, uniform, ids, 15, temperature=1.0, seed=3, stop_id=stop)[0].tolist()
    new = one[0, 4:].tolist()
    assert text[4:] == new[: new.index(stop) + 1]
    assert torch.equal(generate_with_draft(model, uniform, ids, 0), ids)


@pytest.mark.parametrize(
    ("ids", "settings", "sentence"),
    [
        (torch.tensor([[1], [2]]), {}, "found 2 prompts and n_draft=4"),
        (torch.tensor([[1]]), {"n_draft": 0}, "found 1 prompts and n_draft=0"),
        (torch.tensor([[1] * 20]), {"max_new_tokens": 5}, "more than the context, 24"),
        (torch.tensor([[11]]), {}, "token id 11"),
        (torch.tensor([[1]]), {"temperature": float("nan")}, "temperature=nan"),
        (torch.tensor([[1]]), {"max_new_tokens": -1}, "max_new_tokens=-1"),
    ],
)
def test_a_draft_refuses_what_cannot_be_written(ids, settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        generate_with_draft(plain_model(), uniform, ids, **{"max_new_tokens": 3, **settings})


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (torch.zeros(11), "sum 0, the least 0; give a tensor of 11"),
        (torch.full((11,), 0.5), "sum 5.5"),
        (torch.full((11,), float("nan")), "sum nan"),
        (torch.tensor([1.5, -0.5] + [0.0] * 9), "the least -0.5"),
        (torch.full((12,), 1 / 12), "no such row; give a tensor of 11"),
        (torch.full((1, 11), 1 / 11), "no such row"),
        (torch.tensor([1] + [0] * 10), "no such row"),
        (torch.full((11,), 1 / 11).numpy(), "no such row"),
        ([1 / 11] * 11, "no such row"),
    ],
)
def test_a_draft_that_gives_no_probabilities_is_refused(temperature, given, sentence):
    with pytest.raises(ValueError, match=sentence):
        generate_with_draft(plain_model(), lambda _: given, torch.tensor([[1]]), 5, temperature=temperature)


@pytest.mark.parametrize("settings", [{"top_k": 2}, {"top_p": 0.5}])
def test_a_drafted_text_keeps_to_top_k_and_top_p(model, settings):
    ids = random_ids(PLAIN, 1, 4)
    text = generate_with_draft(model, uniform, ids, 15, temperature=2.0, seed=1, **settings)
    free = generate_with_draft(model, uniform, ids, 15, temperature=2.0, seed=1)
    with torch.no_grad():
        allowed = next_token_probabilities(model(text)[0, 3:-1], 2.0, **settings)
        outside = next_token_probabilities(model(free)[0, 3:-1], 2.0, **settings)
    assert (allowed.gather(1, text[0, 4:, None]) > 0).all()
    assert (outside.gather(1, free[0, 4:, None]) == 0).any()


def test_a_draft_leaves_the_model_as_it_was():
    model = plain_model().train()
    generate_with_draft(model, uniform, torch.tensor([[1]]), 3)
    assert all(module.training for module in model.modules())


# --- stop strings -----------------------------------------------------------------------------------------------------


def test_a_stop_string_is_found_over_the_borders_of_tokens():
    assert list(text_until(["The e", "nd", ". More"], ["end."])) == ["The "]
    assert list(text_until(["The e", "ar", "th"], ["end."])) == ["The ", "ear", "th"]
    assert "".join(text_until(["aab"], ["ab"])) == "a" and "".join(text_until(["a", "a", "b"], ["ab"])) == "a"


def test_what_cannot_be_a_stop_any_more_is_handed_on_at_once():
    shown = []
    for piece in text_until(iter("Us was User: no"), ["User:"]):
        shown.append(piece)
    assert shown == ["Us ", "w", "a", "s", " "]


def test_the_borders_make_no_difference():
    chance = random.Random(0)
    for _ in range(n(300, 5000)):
        text = "".join(chance.choices("ab ", k=chance.randint(0, 12)))
        stops = ["".join(chance.choices("ab ", k=chance.randint(1, 4))) for _ in range(chance.randint(0, 3))]
        pieces, left = [], text
        while left:
            size = chance.randint(1, 4)
            pieces, left = [*pieces, left[:size]], left[size:]
        ends = [min((end, end - len(stop)) for end in range(len(text) + 1) if text[:end].endswith(stop))
                for stop in stops if stop in text]  # fmt: skip
        expected = text[: min(ends)[1]] if ends else text
        assert "".join(text_until(pieces, stops)) == expected


def test_nothing_is_read_behind_a_stop():
    pieces = iter(["a.", "b"])
    assert list(text_until(pieces, ["."])) == ["a"] and next(pieces) == "b"


def test_an_empty_stop_is_refused():
    with pytest.raises(ValueError, match=r"the stops are \('x', ''\); give a list of strings, none of them empty"):
        list(text_until(["a"], ["x", ""]))


def test_stops_come_from_anything_but_one_string():
    assert list(text_until(["The e", "nd"], (stop for stop in ["end", "x"]))) == ["The "]
    for stops in ("end", ""):
        with pytest.raises(ValueError, match="give a list of strings"):
            list(text_until(["The e"], stops))


# --- weights in fewer bits --------------------------------------------------------------------------------------------


def matrix(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * torch.logspace(-3, 2, shape[0])[:, None]


def test_int8_is_wrong_by_at_most_half_a_step():
    weight = matrix(7, 40)
    weight[3] = 0
    numbers, scale = int8_by_row(weight)
    assert numbers.dtype == torch.int8 and numbers.abs().amax(dim=1).tolist() == [127, 127, 127, 0, 127, 127, 127]
    assert ((scale * numbers - weight).abs() <= scale * 0.5001).all()
    assert torch.equal((scale * numbers)[3], weight[3])


@pytest.mark.parametrize(("with_minimum", "name"), [(False, "Q4_0"), (True, "Q4_1")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_four_bits_are_those_of_gguf(with_minimum, name, dtype):
    """In bfloat16 the largest of a group is often there with both signs: the first counts."""
    gguf = pytest.importorskip("gguf")
    weight = matrix(9, 96 if dtype == torch.float32 else 9600).to(dtype).float()
    weight[4, 32:64], weight[5, :32] = 0.0, 0.25
    weight[6, :32], weight[6, :2] = 0.3, torch.tensor([-1.0, 1.0])
    kind = gguf.GGMLQuantizationType[name]
    stored = gguf.quantize(weight.numpy(), kind)
    packed, *scales = to_q4(weight, with_minimum)
    ours = torch.cat([*(scale.view(torch.uint8) for scale in scales), packed], dim=-1).flatten(1)
    assert torch.equal(ours, torch.from_numpy(stored))
    assert torch.equal(from_q4(packed, *scales), torch.from_numpy(gguf.dequantize(stored, kind)))


@pytest.mark.parametrize("with_minimum", [False, True])
def test_four_bits_keep_constant_groups(with_minimum):
    for value in (0.0, 0.5, -0.25):
        weight = torch.full((2, 32), value)
        assert_close(from_q4(*to_q4(weight, with_minimum)), weight)


def test_rows_that_are_no_whole_groups_are_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 40\); give rows of a multiple of 32"):
        to_q4(torch.zeros(2, 40))


def test_int8_refuses_what_is_no_matrix():
    for shape in ((3,), (2, 0), (0, 2), (1, 2, 3)):
        with pytest.raises(ValueError, match="give a matrix that is not empty"):
            int8_by_row(torch.zeros(shape))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("form", [int8_by_row, to_q4, lambda weight: to_q4(weight, with_minimum=True)])
def test_weights_that_are_not_finite_are_refused(form, value):
    weight = torch.zeros(2, 32)
    weight[1, 3] = value
    with pytest.raises(ValueError, match="NaN or infinity"):
        form(weight)


@pytest.mark.parametrize("with_minimum", [False, True])
def test_weights_too_large_for_half_precision_are_refused(with_minimum):
    for value in (1e6, -1e6):
        with pytest.raises(ValueError, match=r"up to 1e\+06 are too large for half precision"):
            to_q4(torch.tensor([[value] * 16 + [0.0] * 16]), with_minimum)
    assert from_q4(*to_q4(torch.full((1, 32), 6e4), with_minimum)).isfinite().all()
