"""For maintainers, `python -m shared.maintenance.ship RUN`: make a run's models the ones that the course ships.

Copies the story GPT and the assistant of `runs/RUN/` into `data/story_gpt` and `data/story_assistant`, in half
precision, each with its recipe and the hashes of its files. The run must have been made with the default recipe.
"""

import argparse
import json
import sys
from pathlib import Path


def ship(run: Path, data: Path) -> list[Path]:
    """Write both models of a run into the data folder and return the folders.

    Args:
        run: a finished run's folder.
        data: the course's data folder.

    Raises:
        ValueError: the run was not made with the default recipe, or a model is missing or damaged.
    """
    from ch04_gpt_model.gpt_config import GPTConfig
    from ch05_pretraining.saved_models import load_model, save_model

    settings, state = (json.loads((run / name).read_text(encoding="utf-8")) for name in ("settings.json", "run.json"))
    default = {"minutes": None, "text": None, "quick": False, "device": "cpu", "shape": GPTConfig.story().to_dict()}
    if odd := {key: settings.get(key) for key, value in default.items() if settings.get(key) != value}:
        raise ValueError(f"{run} was made with {odd}: ship a run of the default recipe, python course.py run")
    folders = []
    for name in ("story_gpt", "assistant"):
        model, tokenizer = load_model(run / name)
        recipe = json.loads((run / name / "recipe.json").read_text(encoding="utf-8"))
        results = state["results"]["stories" if name == "story_gpt" else name]
        recipe["results"] = {key: value for key, value in results.items() if key not in ("of", "samples", "examples")}
        if name == "story_gpt":  # the classifier itself is not shipped, what it scored is
            recipe["results"]["classifier"] = state["results"]["classifier"]
        target = data / (name if name == "story_gpt" else "story_assistant")
        folders.append(save_model(target, model, tokenizer, recipe, dtype="float16"))
    return folders


def main(arguments: list[str] | None = None) -> int:
    """Ship one run; return the exit status."""
    options = argparse.ArgumentParser(prog="python -m shared.maintenance.ship", description=__doc__.split("\n")[0])
    options.add_argument("run", help="name of a run made with the default recipe")
    from data.paths import DATA_DIR, runs_dir

    try:
        folders = ship(runs_dir() / options.parse_args(arguments).run, DATA_DIR)
    except (ValueError, OSError) as error:
        print(f"ship: {error}", file=sys.stderr)
        return 1
    for folder in folders:
        print(f"{folder}: {sum(f.stat().st_size for f in folder.iterdir()) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
