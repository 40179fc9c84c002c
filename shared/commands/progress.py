"""`python course.py progress [FOLDER]`: which exercises are correct, as the notebooks show it; nothing is run.

Without a folder it reads the notebooks of this course, with one what a class has handed in. What stands below a check
in a notebook can be written by hand: marks come from `grade`, which runs the checks itself.
"""

import sys
from pathlib import Path

from shared.commands.class_folder import ROOT, Exercise, Submission, course_exercises, read_class, read_file
from shared.commands.command_line import CommandParser, command

CORRECT, BEGUN = "correct", "not yet"


@command("progress")
def main(arguments: list[str] | None = None) -> int:
    """Print a table and return the exit status."""
    options = CommandParser("progress", "Show which exercises are correct, as the notebooks show it.")
    told = "what a class has handed in, a folder for each learner (default: your own notebooks)"
    options.add_argument("folder", nargs="?", type=Path, help=told)
    folder = options.parse_args(arguments).folder
    exercises = course_exercises()
    print("\n".join(of_a_class(read_class(folder, exercises), exercises) if folder else of_one(ROOT, exercises)))
    return 0


def counts(said: dict[str, str], exercises: list[Exercise]) -> tuple[int, int]:
    """Return how many exercises are correct and how many are begun, as a notebook shows it.

    Args:
        said: exercise id -> the sentence of its check.
        exercises: those that are asked.
    """
    texts = [said.get(exercise.id, "") for exercise in exercises]
    return sum(text.startswith(CORRECT) for text in texts), sum(text.startswith(BEGUN) for text in texts)


def of_one(root: Path, exercises: dict[str, list[Exercise]]) -> list[str]:
    """Return the lines that tell a learner how far they are, and what comes next.

    Args:
        root: the course's folder.
        exercises: see `course_exercises`.
    """
    lines, following, done = [f"{'exercises of':<48} correct  not yet  of"], "", 0
    for name, asked in exercises.items():
        said = {key: one for found in read_file(root / name, "", {name: asked}) for key, one in found.said.items()}
        correct, begun = counts(said, asked)
        done += correct
        lines.append(f"{name.removesuffix('.ipynb'):<48} {correct:>7}  {begun:>7}  {len(asked):>2}")
        left = [exercise for exercise in asked if not said.get(exercise.id, "").startswith(CORRECT)]
        following = following or (f"{left[0].id} {left[0].title}, in {name}" if left else "")
    total = sum(map(len, exercises.values()))
    return [*lines, "", f"{done} of {total} are correct." + (f" Next: {following}" if following else " That is all.")]


def of_a_class(submissions: list[Submission], exercises: dict[str, list[Exercise]]) -> list[str]:
    """Return the lines that tell a teacher how far each learner is, and which exercises are hard.

    Args:
        submissions: see `read_class`.
        exercises: see `course_exercises`.
    """
    lines = [f"{'learner':<24} correct  not yet  of  notebook"]
    for one in submissions:
        asked = exercises.get(one.notebook, [])
        correct, begun = counts(one.said, asked)
        about = one.trouble or (one.notebook if one.said else f"{one.notebook} (it shows no checks: grade runs them)")
        lines.append(f"{one.learner:<24} {correct:>7}  {begun:>7}  {len(asked):>2}  {about}")
    return [*lines, "", "Not yet correct, of those who show a check:", *_hard_ones(submissions, exercises)]


def _hard_ones(submissions: list[Submission], exercises: dict[str, list[Exercise]], most: int = 8) -> list[str]:
    """Name the exercises that most learners have begun without success."""
    missed = []
    for notebook, asked in exercises.items():
        for exercise in asked:
            said = [
                one.said[exercise.id] for one in submissions if exercise.id in one.said and one.notebook == notebook
            ]
            n_missed = sum(not text.startswith(CORRECT) for text in said)
            missed += [(n_missed, len(said), exercise)] if n_missed else []
    rows = sorted(missed, key=lambda row: -row[0])[:most]
    return [f"  {n_missed} of {n_said}: {one.id} {one.title}" for n_missed, n_said, one in rows] or ["  none"]


if __name__ == "__main__":
    sys.exit(main())
