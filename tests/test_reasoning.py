"""Problems of several steps: their scratchpads lead to the answer, and each change to GRPO does what it says."""

import dataclasses
import random
from itertools import combinations

import pytest
import torch
from torch.testing import assert_close

from ch04_gpt_model.gpt_config import GPTConfig
from ch04_gpt_model.gpt_model import GPTModel
from ch06_finetuning.grpo import clipped_gain, grpo_loss
from ch06_finetuning.reasoning import (
    NAMES,
    ReasoningConfig,
    ThoughtTokenizer,
    answer_of,
    clipped_gain_between,
    edited_line,
    follow,
    majority,
    meeting_problem,
    mixed_rows,
    pass_at_k,
    reward_for,
    sum_problem,
    token_level_loss,
    train_reasoning,
)

MAKERS = (meeting_problem, sum_problem)
LENGTHS = range(1, 10)


def some_problems(maker, n=40):
    draw = random.Random(0)
    return [maker(n_steps, draw) for n_steps in LENGTHS for _ in range(n)]


# ---------------------------------------------------------------- problems


@pytest.mark.parametrize("maker", MAKERS)
def test_a_scratchpad_leads_to_the_answer(maker):
    for problem in some_problems(maker):
        assert follow(problem.steps) == problem.answer == answer_of(problem.thought) == answer_of(problem.direct)
        assert answer_of(problem.twice) == problem.answer


def test_the_sums_are_right():
    for problem in some_problems(sum_problem):
        first, second = problem.prompt.replace(" ", "").rstrip("=").split("+")
        assert int(problem.answer.replace(" ", "")) == int(first) + int(second)
        assert len(problem.steps) == len(first) == len(second)


def test_who_has_it_is_found_by_swapping_all_hands():
    for problem in some_problems(meeting_problem):
        words = problem.prompt.split()
        holds = {name: name == words[0] for name in NAMES}
        for place in (place for place, word in enumerate(words) if word == "meets"):
            first, second = words[place - 1], words[place + 1]
            holds[first], holds[second] = holds[second], holds[first]
        assert [name for name in NAMES if holds[name]] == [problem.answer]


def test_another_wording_tells_the_same_meetings():
    plain, other = (
        meeting_problem(5, random.Random(3), *wording) for wording in ((), ("so {1} meets {2} again .", "who has it ?"))
    )
    assert (other.steps, other.answer) == (plain.steps, plain.answer)
    assert other.prompt.count("again") == 5 and other.prompt.endswith(" who has it ?")
    names = [[word for word in problem.prompt.split() if word in NAMES] for problem in (plain, other)]
    assert names[0] == names[1]


@pytest.mark.parametrize("maker", MAKERS)
def test_problems_are_a_function_of_their_generator(maker):
    assert some_problems(maker, 2) == some_problems(maker, 2)
    assert maker(5, random.Random(1)) != maker(5, random.Random(2))


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("n_steps", [0, 10, -1])
def test_a_number_of_steps_out_of_range_is_refused(maker, n_steps):
    with pytest.raises(ValueError, match=f"n_steps={n_steps}: give a whole number from 1 to 9"):
        maker(n_steps, random.Random(0))


@pytest.mark.parametrize("maker", MAKERS)
def test_every_word_has_an_id_and_comes_back(maker):
    tokenizer = ThoughtTokenizer()
    for problem in some_problems(maker, 5):
        for text in (problem.prompt, problem.thought, problem.twice):
            ids = tokenizer.encode(text)
            assert len(ids) == len(text.split())
            assert tokenizer.encode(tokenizer.decode(ids)) == ids
    assert sorted(tokenizer.ids.values()) == list(range(tokenizer.vocab_size))


# ---------------------------------------------------------------- judging


@pytest.mark.parametrize("maker", MAKERS)
def test_an_edited_line_differs_in_its_result_only(maker):
    draw = random.Random(0)
    for problem in some_problems(maker, 5):
        for number in range(len(problem.steps)):
            lines = edited_line(problem, number, draw)
            assert lines[:-1] == problem.steps[:number] and len(lines) == number + 1
            changed = [a != b for a, b in zip(lines[-1].split(), problem.steps[number].split())]
            assert sum(changed) == 1 and changed[-2]
    with pytest.raises(ValueError, match="number=3: the scratchpad has the lines 0 to 2"):
        edited_line(maker(3, draw), 3, draw)


def test_an_edit_of_the_last_line_leads_elsewhere():
    draw = random.Random(0)
    for problem in (maker(3, draw) for maker in MAKERS for _ in range(50)):
        assert follow(edited_line(problem, 2, draw)) != problem.answer


def test_the_answer_is_what_stands_behind_the_last_so():
    assert answer_of("1 Ben; so Ada so Ben") == "Ben" and answer_of("so 1 2") == "1 2"
    assert answer_of("1 Ben;") == answer_of("") == answer_of("also Ben") == ""


def test_only_the_right_answer_is_rewarded():
    problems = some_problems(meeting_problem, 2)
    reward = reward_for(problems)
    for problem in problems:
        assert reward(problem.prompt, problem.thought) == reward(problem.prompt, problem.direct) == 1
        assert reward(problem.prompt, problem.answer) == reward(problem.prompt, "so Ada Ben") == 0


def test_pass_at_k_is_the_share_of_choices_with_a_right_answer():
    for n in range(1, 8):
        for n_right in range(n + 1):
            for k in range(1, n + 1):
                choices = list(combinations([True] * n_right + [False] * (n - n_right), k))
                assert pass_at_k(n, n_right, k) == pytest.approx(sum(map(any, choices)) / len(choices))


@pytest.mark.parametrize("numbers", [(4, 5, 1), (4, -1, 1), (4, 1, 0), (4, 1, 5)])
def test_pass_at_k_refuses_numbers_that_do_not_fit(numbers):
    with pytest.raises(ValueError, match="give 0 to n right ones and k from 1 to n"):
        pass_at_k(*numbers)


def test_the_majority_is_the_most_frequent_and_of_equals_the_first():
    assert majority(["a", "b", "b"]) == "b" and majority(["b", "a", "a", "b"]) == "b"
    with pytest.raises(ValueError, match="give at least one"):
        majority([])
    with pytest.raises(ValueError, match="give at least one"):
        follow([])


# ---------------------------------------------------------------- learning


def some_answers(n=6, length=5):
    generator = torch.Generator().manual_seed(0)
    old, new = (-torch.rand(n, length, generator=generator, dtype=torch.float64) for _ in range(2))
    advantages = torch.randn(n, generator=generator, dtype=torch.float64)
    return new, old, advantages, torch.ones(n, length, dtype=torch.bool)


def test_with_equal_lengths_and_bounds_the_loss_is_that_of_grpo():
    new, old, advantages, written = some_answers()
    gain = clipped_gain_between(new, old, advantages[:, None], 0.2, 0.2)
    assert_close(gain, clipped_gain(new, old, advantages[:, None], 0.2))
    expected = grpo_loss(new, old, old, advantages, written, clip=0.2, kl_weight=0.0)
    for token_level in (True, False):
        assert_close(token_level_loss(gain, written, token_level=token_level), expected)


def test_token_level_gives_every_token_the_same_weight():
    gain = torch.ones(2, 4, dtype=torch.float64, requires_grad=True)
    written = torch.tensor([[True, False, False, False], [True] * 4])
    (tokens,) = torch.autograd.grad(token_level_loss(gain, written), gain)
    (answers,) = torch.autograd.grad(token_level_loss(gain, written, token_level=False), gain)
    assert_close(tokens, -written.double() / 5)
    assert_close(answers[:, 0], torch.tensor([-1 / 2, -1 / 8], dtype=torch.float64))


def test_a_higher_bound_lets_rare_tokens_grow_and_nothing_else():
    ratio = torch.tensor([0.5, 0.9, 1.25, 1.5], dtype=torch.float64)
    better = clipped_gain_between(ratio.log(), torch.zeros(4), torch.tensor(1.0), 0.2, 0.28)
    worse = clipped_gain_between(ratio.log(), torch.zeros(4), torch.tensor(-1.0), 0.2, 0.28)
    assert_close(better, torch.tensor([0.5, 0.9, 1.25, 1.28], dtype=torch.float64))
    assert_close(worse, torch.tensor([-0.8, -0.9, -1.25, -1.5], dtype=torch.float64))


def test_only_mixed_groups_are_marked():
    rewards = torch.tensor([[1.0, 1, 1], [0, 1, 0], [0, 0, 0]])
    assert mixed_rows(rewards).tolist() == [[False] * 3, [True] * 3, [False] * 3]


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    tokenizer = ThoughtTokenizer()
    model = GPTModel(GPTConfig(tokenizer.vocab_size, 64, 16, 2, 1)).double()
    problems = some_problems(meeting_problem, 4)[:12]
    return model, tokenizer, [problem.prompt for problem in problems]


SETTINGS = ReasoningConfig(max_steps=3, prompts_per_step=2, group_size=8, max_new_tokens=4, learning_rate=1e-2, seed=1)


def rewarded_word(word):
    return lambda prompt, text: float(word in text.split())


def trained(small, reward, **changes):
    model, tokenizer, prompts = small
    torch.manual_seed(0)
    learner = GPTModel(model.config).double()
    learner.load_state_dict(model.state_dict())
    history = train_reasoning(learner, tokenizer, prompts, reward, dataclasses.replace(SETTINGS, **changes))
    return learner, history


def test_what_is_rewarded_becomes_more_frequent(small):
    _, history = trained(small, rewarded_word("Eva"), max_steps=25)
    assert sum(history.rewards[-5:]) > 2 * sum(history.rewards[:5])
    assert len(history.rewards) == len(history.mixed) == len(history.clipped) == 25


def test_a_training_is_a_function_of_its_seed(small):
    (one, first), (two, second) = (trained(small, rewarded_word("Eva")) for _ in range(2))
    assert first == second and all(map(torch.equal, one.parameters(), two.parameters()))
    assert trained(small, rewarded_word("Eva"), seed=2)[1] != first


def test_dynamic_sampling_asks_again_and_writes_more(small):
    _, with_it = trained(small, rewarded_word("Eva"))
    _, without = trained(small, rewarded_word("Eva"), dynamic=False)
    assert with_it.n_tokens > without.n_tokens
    assert with_it.n_answers > without.n_answers == 3 * 2 * 8


def test_where_no_group_is_mixed_nothing_moves(small):
    learner, history = trained(small, lambda prompt, text: 1.0, dynamic=False)
    assert history.mixed == [0.0] * 3 and history.divergences == pytest.approx([0.0] * 3)
    assert all(map(torch.equal, learner.parameters(), small[0].parameters()))
    learner, history = trained(small, lambda prompt, text: 1.0)
    assert history.n_tokens > 0 and all(map(torch.equal, learner.parameters(), small[0].parameters()))


def test_the_price_of_leaving_keeps_the_model_nearer(small):
    _, free = trained(small, rewarded_word("Eva"), max_steps=15)
    _, held = trained(small, rewarded_word("Eva"), max_steps=15, kl_weight=1.0)
    assert sum(held.divergences) < sum(free.divergences)


def test_a_lower_high_bound_is_refused():
    with pytest.raises(ValueError, match="clip_high=0.1: expected 0.2 or more"):
        ReasoningConfig(clip_high=0.1)
    with pytest.raises(ValueError, match="most_draws=0: expected 1 or more"):
        ReasoningConfig(most_draws=0)


def test_a_weight_of_what_is_not_replayed_is_refused():
    with pytest.raises(ValueError, match="replay_weight=0.5: train_reasoning replays nothing; leave it at 0"):
        ReasoningConfig(replay_weight=0.5)
