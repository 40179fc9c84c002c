"""One door to the whole course: `from shared import GPTModel, load_stories, check, heatmap`.

The table below is the course's index: every module with the public names that are built in it. Nothing is imported
before it is asked for, so chapters may be opened in any order and a missing optional package disturbs nobody else.
"""

import difflib
import importlib
import sys
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parent.parent)
if _ROOT not in sys.path:  # a notebook's ".." means another folder once somebody has called os.chdir
    sys.path.insert(0, _ROOT)

_MODULES = {
    # chapter 1: what a language model is
    "ch01_understanding_llms.understanding_llms": """
        count_followers NgramModel split_words bits_per_byte gpt_parameter_count training_flops epochs_seen
        training_cost TrainingCost compute_optimal_size
    """,
    "ch01_understanding_llms.fast_counts": "FastNgramModel",
    # chapter 2: text becomes numbers
    "ch02_text_data.any_tokenizer": "SPECIAL_TOKENS add_special_tokens encode_text special_id",
    "ch02_text_data.batches": "IGNORE_INDEX EpochBatches pad_batch",
    "ch02_text_data.datasets": "GPTDataset StoryDataset create_dataloader create_story_dataloader",
    "ch02_text_data.text_data": "RegexTokenizer BPETokenizer",
    "ch02_text_data.tokenizer_files": "gpt2_tokenizer",
    "ch02_text_data.streaming": "stream_text",
    "ch02_text_data.token_shards": "ShardProgress write_token_shards",
    "ch02_text_data.shard_loader": "ShardLoader document_mask require_whole_shards shuffled_place",
    "ch02_text_data.embeddings": "WordVectors skip_gram_pairs negative_sampling_loss plain_words",
    "ch02_text_data.corpus": """
        PageBlocks extract_text repair_encoding letter_triples NaiveBayes quality_problems normal_words exact_copies
        shingles jaccard minhash candidate_pairs similar_copies leaked mask_personal_data mixture
    """,
    # chapter 3: attention
    "ch03_attention.attention": "causal_mask attention_weights scaled_dot_product_attention MultiHeadAttention",
    # chapter 4: the GPT model
    "ch04_gpt_model.gpt_config": "GPTConfig Derived",
    "ch04_gpt_model.gpt_model": """
        layer_norm gelu LayerNorm GELU FeedForward TransformerBlock GPTModel require_ids
    """,
    "ch04_gpt_model.generation": "KVCache next_tokens evaluating require_valid_request generate stream",
    "ch04_gpt_model.sampling": "next_token_probabilities require_sampling_settings Sampler",
    "ch04_gpt_model.fast_paths": """
        fast_paths fast_attention LinearBy linear_by_columns linear_by_convolution linear_by_packing
    """,
    "ch04_gpt_model.modern_gpt": """
        ModernConfig rms_norm rotate RMSNorm SwiGLU GroupedQueryAttention ModernBlock ModernGPT
    """,
    "ch04_gpt_model.mixture_of_experts": "route balance_loss moved_bias MixtureOfExperts",
    "ch04_gpt_model.other_attention": """
        window_mask sink_weights WindowAttention LatentAttention delta_rule delta_rule_at_once
    """,
    "ch04_gpt_model.recent_gpt": """
        RecentConfig NormAcrossHeads NormFromOne GeGLU ScaledEmbedding RecentAttention RecentBlock RecentGPT
    """,
    "ch04_gpt_model.inference": """
        PaddedReader accept_draft draft_steps generate_batch generate_with_draft pad_left read_padded text_until
    """,
    "ch04_gpt_model.quantization": "int8_by_row to_q4 from_q4",
    # chapter 5: pretraining
    "ch05_pretraining.pretraining": """
        cross_entropy TrainConfig learning_rate_at make_optimizers train_plainly train take_step validate
    """,
    "ch05_pretraining.run_state": "History Progress RunState",
    "ch05_pretraining.optimizers": "Muon adamw_step clip_gradients orthogonalize",
    "ch05_pretraining.loop_care": "TrainingInterrupted",
    "ch05_pretraining.evaluation": "loss_sum loss_of_logits evaluate",
    "ch05_pretraining.checkpoints": "save_checkpoint load_checkpoint read_parts",
    "ch05_pretraining.saved_models": "save_model load_model load_story_gpt",
    "ch05_pretraining.hugging_face": "load_gpt2 export_hugging_face",
    "ch05_pretraining.published_tokenizers": "PublishedTokenizer",
    "ch05_pretraining.chat_templates": "ChatTemplate",
    "ch05_pretraining.open_weights": "load_pretrained load_hugging_face is_pretrained pretrained_bytes",
    "ch05_pretraining.gguf_format": "GGUFFile GGUFTensor",
    "ch05_pretraining.gguf_files": "load_gguf",
    "ch05_pretraining.curriculum": "RepeatedTokens FirstReader Curriculum batches_from",
    "ch05_pretraining.head_loss": "head_loss",
    "ch05_pretraining.scaling": "PowerLaw fit_power_law flops_per_token matrix_product_ceiling",
    "ch05_pretraining.story_recipe": "train_story_gpt begin_story_gpt StoryRecipe StoryResult",
    "ch05_pretraining.run_settings": "story_config OptionError OtherSettings",
    "ch05_pretraining.story_scores": "evaluate_stories ngram_bits StoryScores",
    "ch05_pretraining.corpus_plan": "TrainingPlan plan_training",
    "ch05_pretraining.documents_apart": "DocumentsApart loss_of_documents",
    "ch05_pretraining.gpt2_recipe": "CORPUS_SHAPES CorpusSettings train_on_corpus",
    "ch05_pretraining.own_text": "DocumentWindows TextVerdict text_advice text_baselines text_loaders text_verdict",
    # chapter 6: fine-tuning
    "ch06_finetuning.finetuning": """
        GPTClassifier MessageDataset collate_messages create_message_loader last_real_tokens set_trainable
        train_classifier predict train_assistant
    """,
    "ch06_finetuning.vocabulary": "grow_vocabulary",
    "ch06_finetuning.metrics": "classification_report compare_paired wilson_interval PairedComparison Rate",
    "ch06_finetuning.bag_of_words": "BagOfWords",
    "ch06_finetuning.instructions": """
        answer_ends prompt_ids InstructionDataset collate_instructions create_instruction_loader ReplayBatches
    """,
    "ch06_finetuning.lesson": "WHO_IS_WHO LessonBatches LessonStage lesson_row mark_lesson",
    "ch06_finetuning.assistant": "Assistant load_assistant mark_assistant",
    "ch06_finetuning.lora": "LoRALinear apply_lora merge_lora",
    "ch06_finetuning.preferences": """
        PreferenceDataset sequence_log_probabilities preference_report reference_log_probabilities
        token_log_probabilities
    """,
    "ch06_finetuning.dpo": "dpo_loss train_preferences",
    "ch06_finetuning.recipes": """
        CLASSIFIER_CONFIG ASSISTANT_CONFIG LESSON_CONFIG classifier_report baseline_report finetune_classifier
        finetune_assistant
    """,
    "ch06_finetuning.finetuned_models": """
        TextClassifier save_classifier load_classifier save_finetuned load_finetuned
    """,
    "ch06_finetuning.named_models": "find_own load_answering load_base ready_to_chat",
    "ch06_finetuning.own_data": """
        Examination OwnSettings RowSplit examine finetune_on_instructions finetune_on_messages fitting_notes near_copies
        split_rows
    """,
    "ch06_finetuning.rollouts": "Rollouts Score distinct_share judge same_length write_answers",
    "ch06_finetuning.grpo": """
        RewardConfig RewardHistory clipped_gain group_advantages grpo_loss kl_estimate train_grpo
    """,
    "ch06_finetuning.reasoning": """
        Problem ReasoningConfig ReasoningHistory ThoughtTokenizer answer_of clipped_gain_between edited_line follow
        majority meeting_problem mixed_rows pass_at_k reward_for sum_problem token_level_loss train_reasoning
    """,
    "ch06_finetuning.reward_model": "RewardModel bradley_terry_loss rank_pairs train_reward_model",
    "ch06_finetuning.search": """
        BM25 CitedAnswer Found MeanVectors Passage answer_from best_threshold cut_passages is_supported
        read_passages search
    """,
    "ch06_finetuning.ppo": "ActorCritic generalized_advantages ppo_step",
    # the data and the world it comes from
    "data.loaders": "load_text load_stories load_crawl load_messages load_instructions load_preferences catalogue",
    "data.by_hand": "load_messages_by_hand load_questions_by_hand",
    "data.story_world.instruction_task": "INSTRUCTION_KINDS",
    "data.story_world.marking": "mark Instruction Question",
    "data.story_world.who_is_who": "Lesson Statement write_lesson",
    "data.story_world.message_task": "Message MESSAGE_LABELS",
    "data.story_world.preference_task": "Preference reward_parts story_reward",
    "data.durable_folders": "CheckpointError",
    "data.own_texts": "read_own_text OwnText",
    "data.own_instructions": "read_instructions",
    "data.own_messages": "read_messages",
    "data.paths": "DATA_DIR RUNS_DIR",
    "data.story_world.engine": "StoryWorld Story",
    "data.story_world.crawl": "Page",
    "data.story_world.coherence": "check_story",
    # figures and exercises
    "shared.figures": "use_style COLORS new_axes heatmap lines losses bars token_view attention_view View",
    "shared.needed_files": "leave_out_without",
    "shared.exercises": """
        check solution NotYet expect expect_equal expect_close expect_gradients
        forbidden may_change without
    """,
}  # fmt: skip
MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = list(MODULE_OF)


def __getattr__(name: str):
    if name not in MODULE_OF:
        close = difflib.get_close_matches(name, MODULE_OF, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise AttributeError(f"the course has no public name {name!r}.{hint}")
    value = getattr(importlib.import_module(MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *MODULE_OF})
