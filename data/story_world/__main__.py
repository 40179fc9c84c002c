"""Write a readable sample: python -m data.story_world --stories 25 > data/story_world/sample.md"""

import argparse

from .engine import SPLITS, StoryWorld


def main() -> None:
    parser = argparse.ArgumentParser(description="Write stories from the story world.")
    parser.add_argument("--stories", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--split", default="train", choices=SPLITS)
    options = parser.parse_args()
    world = StoryWorld(options.seed, options.split)
    print(f"# {options.stories} stories, seed {options.seed}, split {options.split}\n")
    command = f"python -m data.story_world --stories {options.stories} --seed {options.seed} --split {options.split}"
    print(f"Made by `{command}`.")
    for number in range(1, options.stories + 1):
        story = world.story()
        bits, words = -story.log2_probability, len(story.text.split())
        print(f"\n## {number}. {story.facts['plot']} ({words} words, {bits:.1f} bits)\n")
        print(story.text.replace("\n", "\n\n"))


if __name__ == "__main__":
    main()
