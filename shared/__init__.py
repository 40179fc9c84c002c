"""One door to the whole course: `from shared import GPTModel, load_stories, check, heatmap`.

The table below is the course's index: every public name and the place where it is built. Nothing is imported before
it is asked for, so chapters may be opened in any order and a missing optional package disturbs nobody else.
"""

import difflib
import importlib
import sys
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parent.parent)
if _ROOT not in sys.path:  # a notebook's ".." means another folder once somebody has called os.chdir
    sys.path.insert(0, _ROOT)

_NAMES = {
    # chapter 1: what a language model is
    "NgramModel": "ch01_understanding_llms.understanding_llms",
    "split_words": "ch01_understanding_llms.understanding_llms",
    "bits_per_byte": "ch01_understanding_llms.understanding_llms",
    "gpt_parameter_count": "ch01_understanding_llms.understanding_llms",
    "training_flops": "ch01_understanding_llms.understanding_llms",
    "epochs_seen": "ch01_understanding_llms.understanding_llms",
    "training_cost": "ch01_understanding_llms.understanding_llms",
    "TrainingCost": "ch01_understanding_llms.understanding_llms",
    "compute_optimal_size": "ch01_understanding_llms.understanding_llms",
    # chapter 2: text becomes numbers
    "SPECIAL_TOKENS": "ch02_text_data.text_data",
    "IGNORE_INDEX": "ch02_text_data.text_data",
    "RegexTokenizer": "ch02_text_data.text_data",
    "BPETokenizer": "ch02_text_data.text_data",
    "gpt2_tokenizer": "ch02_text_data.text_data",
    "GPTDataset": "ch02_text_data.text_data",
    "StoryDataset": "ch02_text_data.text_data",
    "EpochBatches": "ch02_text_data.text_data",
    "pad_batch": "ch02_text_data.text_data",
    "create_dataloader": "ch02_text_data.text_data",
    "create_story_dataloader": "ch02_text_data.text_data",
    "WordVectors": "ch02_text_data.embeddings",
    "skip_gram_pairs": "ch02_text_data.embeddings",
    "negative_sampling_loss": "ch02_text_data.embeddings",
    "plain_words": "ch02_text_data.embeddings",
    # chapter 3: attention
    "causal_mask": "ch03_attention.attention",
    "attention_weights": "ch03_attention.attention",
    "scaled_dot_product_attention": "ch03_attention.attention",
    "MultiHeadAttention": "ch03_attention.attention",
    # chapter 4: the GPT model
    "GPTConfig": "ch04_gpt_model.gpt_model",
    "layer_norm": "ch04_gpt_model.gpt_model",
    "gelu": "ch04_gpt_model.gpt_model",
    "LayerNorm": "ch04_gpt_model.gpt_model",
    "GELU": "ch04_gpt_model.gpt_model",
    "FeedForward": "ch04_gpt_model.gpt_model",
    "TransformerBlock": "ch04_gpt_model.gpt_model",
    "GPTModel": "ch04_gpt_model.gpt_model",
    "KVCache": "ch04_gpt_model.generation",
    "generate": "ch04_gpt_model.generation",
    "stream": "ch04_gpt_model.generation",
    "next_token_probabilities": "ch04_gpt_model.sampling",
    "check_sampling": "ch04_gpt_model.sampling",
    "Sampler": "ch04_gpt_model.sampling",
    "ModernConfig": "ch04_gpt_model.modern_gpt",
    "rms_norm": "ch04_gpt_model.modern_gpt",
    "rotate": "ch04_gpt_model.modern_gpt",
    "RMSNorm": "ch04_gpt_model.modern_gpt",
    "SwiGLU": "ch04_gpt_model.modern_gpt",
    "GroupedQueryAttention": "ch04_gpt_model.modern_gpt",
    "ModernBlock": "ch04_gpt_model.modern_gpt",
    "ModernGPT": "ch04_gpt_model.modern_gpt",
    # chapter 5: pretraining
    "TrainConfig": "ch05_pretraining.pretraining",
    "Muon": "ch05_pretraining.pretraining",
    "History": "ch05_pretraining.pretraining",
    "Progress": "ch05_pretraining.pretraining",
    "TrainingInterrupted": "ch05_pretraining.pretraining",
    "cross_entropy": "ch05_pretraining.pretraining",
    "adamw_step": "ch05_pretraining.pretraining",
    "clip_gradients": "ch05_pretraining.pretraining",
    "make_optimizers": "ch05_pretraining.pretraining",
    "orthogonalize": "ch05_pretraining.pretraining",
    "evaluate": "ch05_pretraining.pretraining",
    "train": "ch05_pretraining.pretraining",
    "learning_rate_at": "ch05_pretraining.pretraining",
    "save_checkpoint": "ch05_pretraining.checkpoints",
    "load_checkpoint": "ch05_pretraining.checkpoints",
    "CheckpointError": "ch05_pretraining.checkpoints",
    "save_model": "ch05_pretraining.checkpoints",
    "load_model": "ch05_pretraining.checkpoints",
    "load_story_gpt": "ch05_pretraining.pretraining",
    "load_gpt2": "ch05_pretraining.hugging_face",
    "export_hugging_face": "ch05_pretraining.hugging_face",
    "RepeatedTokens": "ch05_pretraining.curriculum",
    "FirstReader": "ch05_pretraining.curriculum",
    "Curriculum": "ch05_pretraining.curriculum",
    "train_story_gpt": "ch05_pretraining.story_recipe",
    "StoryRecipe": "ch05_pretraining.story_recipe",
    "StoryResult": "ch05_pretraining.story_recipe",
    "evaluate_stories": "ch05_pretraining.story_recipe",
    "StoryScores": "ch05_pretraining.story_recipe",
    # chapter 6: fine-tuning
    "GPTClassifier": "ch06_finetuning.finetuning",
    "MessageDataset": "ch06_finetuning.finetuning",
    "collate_messages": "ch06_finetuning.finetuning",
    "create_message_loader": "ch06_finetuning.finetuning",
    "last_real_tokens": "ch06_finetuning.finetuning",
    "set_trainable": "ch06_finetuning.finetuning",
    "train_classifier": "ch06_finetuning.finetuning",
    "predict": "ch06_finetuning.finetuning",
    "classification_report": "ch06_finetuning.finetuning",
    "wilson_interval": "ch06_finetuning.finetuning",
    "Rate": "ch06_finetuning.finetuning",
    "BagOfWords": "ch06_finetuning.finetuning",
    "prompt_ids": "ch06_finetuning.finetuning",
    "InstructionDataset": "ch06_finetuning.finetuning",
    "collate_instructions": "ch06_finetuning.finetuning",
    "create_instruction_loader": "ch06_finetuning.finetuning",
    "ReplayBatches": "ch06_finetuning.finetuning",
    "train_assistant": "ch06_finetuning.finetuning",
    "Assistant": "ch06_finetuning.finetuning",
    "load_assistant": "ch06_finetuning.finetuning",
    "mark_assistant": "ch06_finetuning.finetuning",
    "LoRALinear": "ch06_finetuning.finetuning",
    "apply_lora": "ch06_finetuning.finetuning",
    "merge_lora": "ch06_finetuning.finetuning",
    "PreferenceDataset": "ch06_finetuning.finetuning",
    "dpo_loss": "ch06_finetuning.finetuning",
    "sequence_log_probabilities": "ch06_finetuning.finetuning",
    "preference_report": "ch06_finetuning.finetuning",
    "reference_log_probabilities": "ch06_finetuning.finetuning",
    "train_preferences": "ch06_finetuning.finetuning",
    "CLASSIFIER_CONFIG": "ch06_finetuning.recipes",
    "ASSISTANT_CONFIG": "ch06_finetuning.recipes",
    "classifier_report": "ch06_finetuning.recipes",
    "baseline_report": "ch06_finetuning.recipes",
    "finetune_classifier": "ch06_finetuning.recipes",
    "finetune_assistant": "ch06_finetuning.recipes",
    "save_classifier": "ch06_finetuning.recipes",
    "load_classifier": "ch06_finetuning.recipes",
    # the data and the world it comes from
    "load_text": "data.loaders",
    "load_stories": "data.loaders",
    "load_messages": "data.loaders",
    "load_instructions": "data.loaders",
    "load_preferences": "data.loaders",
    "mark": "data.loaders",
    "INSTRUCTION_KINDS": "data.loaders",
    "Instruction": "data.loaders",
    "Message": "data.loaders",
    "Preference": "data.loaders",
    "catalogue": "data.loaders",
    "read_instructions": "data.loaders",
    "read_messages": "data.loaders",
    "reward_parts": "data.loaders",
    "story_reward": "data.loaders",
    "MESSAGE_LABELS": "data.loaders",
    "DATA_DIR": "data.paths",
    "RUNS_DIR": "data.paths",
    "StoryWorld": "data.story_world",
    "Story": "data.story_world",
    "check_story": "data.story_world",
    # figures and exercises
    "use_style": "shared.figures",
    "COLORS": "shared.figures",
    "new_axes": "shared.figures",
    "heatmap": "shared.figures",
    "lines": "shared.figures",
    "losses": "shared.figures",
    "bars": "shared.figures",
    "token_view": "shared.figures",
    "attention_view": "shared.figures",
    "View": "shared.figures",
    "check": "shared.exercises",
    "solution": "shared.exercises",
    "NotYet": "shared.exercises",
    "expect": "shared.exercises",
    "expect_equal": "shared.exercises",
    "expect_close": "shared.exercises",
}

__all__ = list(_NAMES)


def __getattr__(name: str):
    if name not in _NAMES:
        close = difflib.get_close_matches(name, _NAMES, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise AttributeError(f"the course has no public name {name!r}.{hint}")
    value = getattr(importlib.import_module(_NAMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})
