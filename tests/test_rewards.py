"""Claims of rewards.ipynb: answers, advantages, the policy gradient, clipping, divergence, reward model, PPO."""

import copy
import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from ch02_text_data.any_tokenizer import SPECIAL_TOKENS
from ch02_text_data.batches import IGNORE_INDEX
from ch02_text_data.text_data import BPETokenizer
from ch05_pretraining.pretraining import TrainConfig
from ch05_pretraining.story_scores import evaluate_stories
from ch06_finetuning.assistant import Assistant, load_assistant, mark_assistant
from ch06_finetuning.finetuning import train_assistant
from ch06_finetuning.grpo import RewardConfig, clipped_gain, group_advantages, grpo_loss, kl_estimate, train_grpo
from ch06_finetuning.instructions import create_instruction_loader, prompt_ids
from ch06_finetuning.ppo import ActorCritic, generalized_advantages, ppo_step
from ch06_finetuning.preferences import PreferenceDataset, token_log_probabilities
from ch06_finetuning.reward_model import RewardModel, bradley_terry_loss, rank_pairs, train_reward_model
from ch06_finetuning.rollouts import Rollouts, distinct_share, judge, same_length, write_answers
from data.loaders import load_instructions, load_preferences, load_stories
from data.story_world.marking import Instruction
from data.story_world.preference_task import story_reward
from tests.sizes import LONG_RUN, n
from tests.small_models import tiny_model

TEXT = "The red fox lost her kite. The owl found a lamp and was glad. Tell me about the fox. "
SMALL = {"max_new_tokens": 6, "prompts_per_step": 2, "group_size": 4}


@pytest.fixture(scope="module")
def tokenizer():
    return BPETokenizer.train(TEXT * 3, 256 + 40 + len(SPECIAL_TOKENS), SPECIAL_TOKENS)


@pytest.fixture
def model(tokenizer):
    return tiny_model(vocab_size=tokenizer.vocab_size, context_length=64, d_model=16, n_layers=1).eval()


def length_reward(prompt, answer):
    return float(len(answer))


# ------------------------------------------------------------------------------------------------------------- answers
def test_only_what_the_model_wrote_is_learned_from(model, tokenizer):
    prompts = ["The fox 1", "The fox 2"]
    rollouts = write_answers(model, tokenizer, prompts, 3, max_new_tokens=40, seed=1)
    end = tokenizer.special_tokens["<|endoftext|>"]
    for prompt, text, ids, targets in zip(rollouts.prompts, rollouts.texts, rollouts.ids, rollouts.targets):
        asked = prompt_ids(tokenizer, prompt)
        assert ids[: len(asked)].tolist() == asked
        assert (targets[: len(asked) - 1] == IGNORE_INDEX).all()
        written = targets[targets != IGNORE_INDEX].tolist()
        assert end not in written[:-1]
        assert tokenizer.decode([id for id in written if id != end]) == text


def test_the_end_of_an_answer_is_learned_once_and_what_follows_never(tokenizer):
    from ch06_finetuning.rollouts import _targets

    end = tokenizer.special_tokens["<|endoftext|>"]
    rows = torch.tensor([[7, 8, 9, 4, end, end, end], [7, 8, 9, 4, 5, 6, 3]])  # prompts of three tokens
    assert _targets(rows, 3, end).tolist() == [[-100, -100, 4, end, -100, -100], [-100, -100, 4, 5, 6, 3]]


def test_the_log_probabilities_are_those_with_which_the_answers_were_drawn(model, tokenizer):
    """Uncached, all at once and with the prompt before it: the same model, so the same probabilities."""
    rollouts = write_answers(model, tokenizer, ["The fox"], 2, max_new_tokens=5, seed=0)
    with torch.no_grad():
        together = token_log_probabilities(model, rollouts.ids, rollouts.targets)
        steps = model(rollouts.ids).log_softmax(-1)
    for row, t in rollouts.written.nonzero().tolist():
        assert_close(together[row, t], steps[row, t, rollouts.targets[row, t]])
    assert (together[~rollouts.written] == 0).all()


def test_a_seed_draws_the_same_answers_and_another_one_others(model, tokenizer):
    texts = [write_answers(model, tokenizer, ["The fox"], 4, max_new_tokens=8, seed=seed).texts for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_prompts_of_different_lengths_are_refused_and_can_be_sorted_out(model, tokenizer):
    prompts = ["The fox 1", "The fox 2", "Tell me about the fox and the owl and the kite."]
    with pytest.raises(ValueError, match="one batch needs prompts of one length, see same_length"):
        write_answers(model, tokenizer, prompts)
    assert same_length(tokenizer, prompts) == prompts[:2]
    with pytest.raises(ValueError, match="there is no prompt"):
        same_length(tokenizer, [])


def test_a_judgment_has_a_mean_and_an_interval_around_it(model, tokenizer):
    score = judge(model, tokenizer, ["The fox"] * 8, length_reward, max_new_tokens=8)
    assert score.rewards.tolist() == [len(text) for text in score.texts]
    low, high = score.interval
    assert low < score.value < high
    assert_close(high - low, 2 * 1.96 * score.rewards.std().item() / math.sqrt(8))
    with pytest.raises(ValueError, match="judge at least two"):
        judge(model, tokenizer, ["The fox"], length_reward)


def test_a_reward_that_is_no_number_is_named_with_its_answer(model, tokenizer):
    with pytest.raises(ValueError, match="is nan; it must be a finite number"):
        judge(model, tokenizer, ["The fox"] * 2, lambda prompt, answer: math.nan, max_new_tokens=4)


def test_repeating_oneself_lowers_the_distinct_share():
    assert distinct_share(["a b c d"]) == 1.0
    assert distinct_share(["a b a b a b"], 2) == 2 / 5
    assert distinct_share(["a b", "a b"], 2) == 1 / 2
    with pytest.raises(ValueError, match="no run of n=3 words"):
        distinct_share(["a b"], 3)


# ------------------------------------------------------------------------------------------------------- the estimator
def test_advantages_by_hand():
    rewards = torch.tensor([[1.0, 0, 0, 1], [5, 5, 5, 5], [0, 0, 0, 4]])
    third = 3**0.5
    expected = [[1, -1, -1, 1], [0, 0, 0, 0], [-1 / third, -1 / third, -1 / third, third]]
    assert_close(group_advantages(rewards), torch.tensor(expected))


def test_advantages_do_not_depend_on_the_scale_of_the_reward():
    rewards = torch.randn(n(20, 200), 8)
    assert_close(group_advantages(7 * rewards + 3), group_advantages(rewards), rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="at least two"):
        group_advantages(torch.zeros(3, 1))


def test_the_policy_gradient_is_the_gradient_of_the_expected_reward():
    """Two tokens, three choices each, the second depending on the first: all nine texts are enumerated."""
    for _ in range(n(5, 50)):
        first, second = torch.randn(3, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
        rewards, baseline = torch.randn(3, 3, dtype=torch.float64), torch.randn((), dtype=torch.float64)
        first.requires_grad_(), second.requires_grad_()
        log_p = first.log_softmax(0)[:, None] + second.log_softmax(1)  # (3, 3)
        exact = torch.autograd.grad((log_p.exp() * rewards).sum(), [first, second], retain_graph=True)
        weights = (log_p.exp() * (rewards - baseline)).detach()  # probability of drawing it x its advantage
        estimated = torch.autograd.grad((weights * log_p).sum(), [first, second])
        assert_close(estimated, exact)


@pytest.mark.parametrize("group_size", [2, 3])
def test_a_mean_over_the_group_shrinks_the_gradient_by_one_part_in_the_group(group_size):
    logits = torch.randn(3, dtype=torch.float64, requires_grad=True)
    rewards, log_p = torch.tensor([1.0, 0.0, 3.0], dtype=torch.float64), logits.log_softmax(0)
    exact = torch.autograd.grad((log_p.exp() * rewards).sum(), logits, retain_graph=True)[0]
    expected = torch.zeros(3, dtype=torch.float64)
    for group in itertools.product(range(3), repeat=group_size):
        group = list(group)
        chance = log_p[group].sum().exp().detach()
        gain = ((rewards[group] - rewards[group].mean()) * log_p[group]).mean()
        expected += chance * torch.autograd.grad(gain, logits, retain_graph=True)[0]
    assert_close(expected, (1 - 1 / group_size) * exact)


def test_the_first_update_follows_the_plain_policy_gradient():
    """While the ratio is 1, nothing is clipped and its gradient is that of the log-probability."""
    new = torch.randn(4, 5, requires_grad=True)
    advantages = torch.randn(4, 1)
    clipped = torch.autograd.grad(clipped_gain(new, new.detach(), advantages).sum(), new)[0]
    assert_close(clipped, advantages.expand(4, 5))


@pytest.mark.parametrize("ratio, advantage, gain, learns", [
    (1.0, 2.0, 2.0, True), (1.1, 2.0, 2.2, True), (1.5, 2.0, 2.4, False), (0.5, 2.0, 1.0, True),
    (0.9, -2.0, -1.8, True), (0.5, -2.0, -1.6, False), (1.5, -2.0, -3.0, True),
])  # fmt: skip
def test_clipping_by_hand(ratio, advantage, gain, learns):
    """No more to gain outside of 0.8 to 1.2; a step in the wrong direction is never forgiven."""
    new = torch.tensor([math.log(ratio)], requires_grad=True)
    result = clipped_gain(new, torch.zeros(1), torch.tensor([advantage]), 0.2)
    result.sum().backward()
    assert_close(result.item(), gain)
    assert (new.grad.abs().item() > 0) == learns


def test_the_mean_of_the_estimate_is_the_divergence():
    policy, reference = torch.randn(6).double().log_softmax(0), torch.randn(6).double().log_softmax(0)
    exact = (policy.exp() * (policy - reference)).sum()
    estimates = kl_estimate(policy, reference)
    assert (estimates >= 0).all()
    assert_close((policy.exp() * estimates).sum(), exact)
    assert_close(kl_estimate(policy, policy), torch.zeros(6).double())


def test_the_loss_is_the_mean_over_answers_of_the_mean_over_their_tokens():
    new, old, reference = torch.randn(3, 3, 4).unbind(0)
    written = torch.tensor([[0, 1, 1, 1], [0, 1, 0, 0], [0, 1, 1, 0]], dtype=torch.bool)
    advantages = torch.tensor([1.0, -1.0, 0.5])
    by_hand = 0.0
    for row in range(3):
        gains = [
            clipped_gain(new[row, t], old[row, t], advantages[row]) - 0.1 * kl_estimate(new[row, t], reference[row, t])
            for t in range(4) if written[row, t]
        ]  # fmt: skip
        by_hand -= sum(gains) / len(gains) / 3
    assert_close(grpo_loss(new, old, reference, advantages, written, kl_weight=0.1), by_hand)


# -------------------------------------------------------------------------------------------------------- the training
def test_the_reward_rises_and_the_price_of_leaving_holds_the_model_back(model, tokenizer):
    def many_a(prompt, answer):
        return float(answer.count("a"))

    ends = {}
    for price in (0.0, 5.0):
        policy = copy.deepcopy(model)
        config = RewardConfig(max_steps=n(25, 50), learning_rate=2e-2, kl_weight=price, **SMALL)
        history = train_grpo(policy, tokenizer, ["The fox"] * 2, many_a, config)
        ends[price] = (sum(history.rewards[-3:]), history.divergences[-1])
        assert history.divergences[0] < 1e-6  # nothing has moved yet
    assert ends[0.0][0] > sum(history.rewards[:3]) + 1
    assert ends[0.0][1] > ends[5.0][1]


def test_a_group_without_differences_changes_nothing(model, tokenizer):
    before = copy.deepcopy(model.state_dict())
    config = RewardConfig(max_steps=2, kl_weight=0.0, **SMALL)
    optimizer_noise = 2 * config.updates * config.learning_rate * 0.01  # AdamW's weight decay
    train_grpo(model, tokenizer, ["The fox"] * 2, lambda prompt, answer: 1.0, config)
    for name, tensor in model.state_dict().items():
        assert (tensor - before[name]).abs().max() <= optimizer_noise * (1 + before[name].abs().max())


def test_training_is_a_function_of_the_seed(model, tokenizer):
    runs = []
    for seed in (0, 0, 1):
        policy = copy.deepcopy(model)
        runs.append(train_grpo(policy, tokenizer, ["The fox 1", "The fox 2"], length_reward,
                               RewardConfig(max_steps=2, seed=seed, **SMALL)).rewards)  # fmt: skip
    assert runs[0] == runs[1] != runs[2]


def test_replayed_rows_are_kept_in_mind(model, tokenizer):
    row = torch.tensor([tokenizer.encode("The owl found a lamp and was glad.")])
    replay = [(row[:, :-1], row[:, 1:])]

    def surprise(policy):
        return -token_log_probabilities(policy, *replay[0]).mean().item()

    after = {}
    for weight in (0.0, 1.0):
        policy = copy.deepcopy(model)
        config = RewardConfig(max_steps=8, learning_rate=5e-3, replay_weight=weight, **SMALL)
        train_grpo(policy, tokenizer, ["The fox"] * 2, length_reward, config, replay=replay)
        after[weight] = surprise(policy)
    assert after[1.0] < min(after[0.0], surprise(model)) - 0.1


def test_too_few_prompts_of_one_length_are_refused(model, tokenizer):
    with pytest.raises(ValueError, match="no 4 of 2 prompts have the same number of tokens"):
        train_grpo(model, tokenizer, ["The fox", "Tell me about the fox."], length_reward, RewardConfig())


# -------------------------------------------------------------------------------------------------- reward model, PPO
@pytest.fixture
def pairs(tokenizer):
    texts = [("The fox", f"was glad{'.' * k}", f"was sad{'.' * k}") for k in range(1, 9)]
    return PreferenceDataset([SimpleNamespace(prompt=p, chosen=c, rejected=r) for p, c, r in texts], tokenizer, 64)


def test_a_reward_model_begins_with_a_coin_and_learns_the_pairs(model, tokenizer, pairs):
    judge_model = RewardModel(model, tokenizer)
    losses = train_reward_model(judge_model, pairs, max_steps=n(30, 60), batch_size=4, learning_rate=1e-2)
    assert_close(losses[0], math.log(2))
    assert rank_pairs(judge_model, pairs).value == 1.0
    assert judge_model.score("The fox", "was glad.") > judge_model.score("The fox", "was sad.")


def test_the_score_of_one_answer_is_that_of_the_padded_batch(model, tokenizer, pairs):
    judge_model = RewardModel(model, tokenizer)
    torch.nn.init.normal_(judge_model.head.weight)
    batched = judge_model(pairs.batch([0, 5])[0])
    alone = [
        judge_model.score("The fox", text) for text in ("was glad.", "was glad......", "was sad.", "was sad......")
    ]
    assert_close(batched.detach(), torch.tensor(alone), rtol=1e-4, atol=1e-4)


def test_the_bradley_terry_loss_by_hand():
    loss = bradley_terry_loss(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0]))
    assert_close(loss.item(), (math.log(1 + math.exp(-1)) + math.log(2)) / 2)


@pytest.mark.parametrize("shape", [(2,), (1,), (3, 1)])  # the last two would be spread out without a word
def test_scores_of_different_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="scores have shapes .*: give two of one shape, a number for each pair"):
        bradley_terry_loss(torch.zeros(3), torch.zeros(shape))


def test_advantages_over_time_at_both_ends_of_the_trace():
    rewards, values = torch.randn(2, 3, 6).unbind(0)
    written = torch.zeros(3, 6, dtype=torch.bool)
    written[:, 2:5] = True
    late = generalized_advantages(rewards, values, written, discount=0.9, trace=1.0)
    soon = generalized_advantages(rewards, values, written, discount=0.9, trace=0.0)
    for row in range(3):
        r, v = rewards[row].tolist(), values[row].tolist()
        for t in (2, 3, 4):
            to_come = sum(0.9 ** (k - t) * r[k] for k in range(t, 5))
            assert_close(late[row, t].item(), to_come - v[t], rtol=1e-4, atol=1e-5)
            assert_close(soon[row, t].item(), r[t] + 0.9 * (v[t + 1] if t < 4 else 0) - v[t], rtol=1e-4, atol=1e-5)
    assert (late[~written] == 0).all()
    with pytest.raises(ValueError, match="trace=2 is outside 0 to 1"):
        generalized_advantages(rewards, values, written, trace=2)


def test_perfect_values_leave_no_advantage():
    rewards = torch.tensor([[0.0, 0.0, 3.0]])
    values = torch.full((1, 3), 3.0)
    for trace in (0.0, 0.5, 1.0):
        assert_close(generalized_advantages(rewards, values, torch.ones(1, 3).bool(), trace=trace), torch.zeros(1, 3))


def test_ppo_raises_the_reward_and_its_values_learn_what_to_expect(model, tokenizer):
    policy, reference = ActorCritic(copy.deepcopy(model)), model
    optimizer = torch.optim.AdamW([
        {"params": policy.model.parameters(), "lr": 1e-2}, {"params": policy.value_head.parameters(), "lr": 5e-2},
    ])  # fmt: skip
    scores, errors = [], []
    for step in range(n(20, 40)):
        rollouts = write_answers(policy.model, tokenizer, ["The fox"], 8, max_new_tokens=6, seed=step)
        rewards = torch.tensor([float(text.count("a")) + 3 for text in rollouts.texts])
        errors.append(ppo_step(policy, reference, optimizer, rollouts, rewards, kl_weight=0.0))
        scores.append(rewards.mean().item())
    assert sum(scores[-5:]) > sum(scores[:5]) + 2
    assert sum(errors[-5:]) < sum(errors[:5]) / 2


def test_the_value_head_does_not_move_the_body(model):
    policy = ActorCritic(model)
    _, values = policy(torch.tensor([[1, 2, 3]]))
    values.sum().backward()
    assert policy.value_head.weight.grad is not None
    assert all(parameter.grad is None for parameter in policy.model.parameters())


def test_an_answer_of_one_token_can_be_learned_from():
    """An answer that ends at once is one token: the end."""
    rollouts = Rollouts(["p"], [""], torch.tensor([[1, 2]]), torch.tensor([[-100, 3]]))
    assert rollouts.written.tolist() == [[False, True]]


def test_a_ppo_step_on_one_token_leaves_every_weight_a_number(model):
    policy, rollouts = ActorCritic(copy.deepcopy(model)), Rollouts(["p"], [""], torch.tensor([[1, 2]]),
                                                                   torch.tensor([[-100, 3]]))  # fmt: skip
    error = ppo_step(policy, model, torch.optim.AdamW(policy.parameters(), 1e-3), rollouts, torch.tensor([2.0]))
    assert math.isfinite(error) and all(parameter.isfinite().all() for parameter in policy.parameters())


# ------------------------------------------------------------------------------------------------ the shipped assistant
def imitator():
    """The notebook's start: the shipped assistant after a short imitation of stories of which half are spoiled."""
    assistant, pairs = load_assistant(), load_preferences("train")[:1000]
    tokenizer, length = assistant.tokenizer, assistant.model.config.context_length
    examples = [
        Instruction("story", pair.prompt, pair.chosen if k % 2 else pair.rejected, ()) for k, pair in enumerate(pairs)
    ]
    old = {"stories": load_stories("train", n=500), "batch_size": 16, "max_length": length}
    questions = load_instructions("train")[:480]
    config = TrainConfig(120, warmup_steps=10, learning_rate=2e-3, muon_learning_rate=1.4e-2, optimizer="muon",
                         schedule="linear", weight_decay=0.0, eval_every=10_000)  # fmt: skip
    loader = create_instruction_loader(examples + questions[:400], tokenizer, replay_share=0.15, replay_batch=8, **old)
    train_assistant(assistant.model, loader, None, config)
    return (
        assistant.model.eval(),
        tokenizer,
        list(create_instruction_loader(questions, tokenizer, replay_share=0.5, replay_batch=4, **old)),
    )


@pytest.mark.skipif(not LONG_RUN, reason="three trainings of a minute each: COURSE_LONG=1")
def test_the_reward_rises_by_more_than_the_seeds_differ_and_nothing_else_is_lost():
    start, tokenizer, earlier = imitator()
    prompts = same_length(tokenizer, [pair.prompt for pair in load_preferences("test")])[:128]
    requests = [pair.prompt for pair in load_preferences("train")]
    questions, stories = load_instructions("validation")[:200], load_stories("validation", n=40)

    def measured(policy):
        marks = mark_assistant(Assistant(policy, tokenizer), questions).overall.value
        bits = evaluate_stories(policy, tokenizer, stories).bits_per_word
        return judge(policy, tokenizer, prompts, story_reward).value, marks, bits

    before, after = measured(start), []
    for seed in range(3):
        policy = copy.deepcopy(start)
        train_grpo(policy, tokenizer, requests, story_reward, RewardConfig(max_steps=30, seed=seed), replay=earlier)
        after.append(measured(policy))
    rewards, marks, bits = zip(*after)
    assert min(rewards) - before[0] > max(rewards) - min(rewards)
    assert min(marks) >= before[1] - 0.02
    assert max(bits) <= before[2] * 1.02
