"""`python course.py grade FOLDER`: mark what a class has handed in, with the course's own checks.

Each learner is a folder in FOLDER, or a file; notebooks (.ipynb) and programs (.py) are read. For each one a process of
its own runs the definitions, then the rest, then the checks, with limits of time and memory. Written are `grades.csv`
and a page of feedback for each learner. This protects learners from each other's mistakes and is no prison: run code
of strangers in a container or on another machine.
"""

import argparse
import sys
from dataclasses import dataclass, field
from pathlib import Path

from data.files import write_atomically
from data.paths import RUNS_DIR
from shared.commands.class_folder import ROOT, Submission, course_exercises, read_class
from shared.commands.command_line import CommandParser, command, seed_number, whole_number
from shared.commands.grade_pages import feedback_names, feedback_page, grades_table
from shared.commands.grade_worker import Limits, Marked, Worker
from shared.commands.quiz_pages import mark_quiz, write_sheets
from shared.commands.restore import find

ALIKE, LEAST_WORDS = 0.95, 40  # share of the form that two answers have in common; shorter answers are alike by nature


@dataclass
class Grade:
    """What a learner reached in one notebook.

    Args:
        submission: what was handed in.
        marked: what came of it.
        alike: exercise id -> learners whose answers have nearly the same form; a hint and no proof.
    """

    submission: Submission
    marked: Marked = field(default_factory=Marked)
    alike: dict[str, list[str]] = field(default_factory=dict)

    def result(self, exercise: str) -> str:
        """Return the verdict in a word or two, without its reason."""
        return self.marked.verdicts.get(exercise, "missing.").split(".")[0]

    @property
    def points(self) -> int:
        """One for each correct answer; none where the checks could not be trusted."""
        if self.marked.tampered:
            return 0
        return sum(self.result(exercise) == "correct" for exercise in self.marked.verdicts)


def parser() -> argparse.ArgumentParser:
    """Describe the options of the command."""
    options = CommandParser("grade", "Mark what a class has handed in, with the course's own checks.")
    told = "what was handed in: a folder for each learner, or a file"
    options.add_argument("folder", type=Path, nargs="?", help=told)
    told = "mark this notebook only, for instance ch03_attention/exercises (default: every one that was handed in)"
    options.add_argument("--notebook", metavar="NAME", action="append", help=told)
    told = "where grades.csv and feedback/ go (default: runs/grades)"
    options.add_argument("--out", type=Path, metavar="FOLDER", help=told)
    told = "of the class: the checks ask with other random numbers than the learners' own (default 0: the same)"
    options.add_argument("--seed", type=seed_number, default=0, help=told)
    told = "of processor time for each exercise and for the cells before the first (default 30)"
    options.add_argument("--seconds", type=whole_number(1), default=30, help=told)
    told = "gigabytes for each learner, on Linux and macOS (default 4)"
    options.add_argument("--memory", type=whole_number(1), default=4, help=told)
    told = "mark a table of answers instead: a column learner, and columns such as 3q1 with the letters"
    options.add_argument("--quiz", type=Path, metavar="FILE.csv", help=told)
    options.add_argument("--sheets", action="store_true", help="write the quizzes as pages to print, and their keys")
    return options


@command("grade")
def main(arguments: list[str] | None = None) -> int:
    """Mark a class or its quizzes, or write pages to print; return the exit status."""
    options = parser().parse_args(arguments)
    _require_teachers_copy()
    target = options.out or RUNS_DIR / "grades"
    if options.sheets:
        write_sheets(target, options.seed)
        print(f"To print: {target / 'quiz'}\nWith what is right and why: {target / 'quiz_key'}")
    if options.quiz:
        write_atomically(target / "quiz.csv", mark_quiz(options.quiz, options.seed).encode("utf-8-sig"))
        print(f"The table: {target / 'quiz.csv'}")
    if options.folder:
        _mark_class(options, target)
    elif not (options.sheets or options.quiz):
        raise ValueError("give the folder that holds what your learners handed in, or --quiz FILE.csv, or --sheets")
    return 0


def _mark_class(options: argparse.Namespace, target: Path) -> None:
    """Mark each submission and write the table and the pages."""
    exercises = course_exercises()
    if options.notebook:
        exercises = {name: exercises[name] for name in (find(one, list(exercises)) for one in options.notebook)}
    submissions = read_class(options.folder, exercises)
    limits = Limits(options.seconds, options.memory << 30)
    grades = []
    with Worker(limits, options.seed, (options.folder.resolve(), target.resolve())) as worker:
        for submission in submissions:
            grades.append(Grade(submission, _marked(worker, submission, exercises)))
            print(_line(grades[-1], exercises), flush=True)
    tell_alike(grades)
    write(grades, exercises, target)
    print(f"\nThe table: {target / 'grades.csv'}\nA page for each learner: {target / 'feedback'}")
    print("Flags and likeness are reasons to look, no verdicts. Do not grade code of strangers outside a container.")


def _require_teachers_copy() -> None:
    if not (ROOT / "tests" / "wrong_answers").is_dir():
        raise ValueError("this is a copy for learners, without what tells whether a check was changed: grade in yours")


def _marked(worker: Worker, submission: Submission, exercises: dict) -> Marked:
    if submission.trouble:
        return Marked(notes=[submission.trouble])
    asked = exercises[submission.notebook]
    marked = worker.mark(submission.cells, {one.id: one.name for one in asked}, asked[0].imported)
    if submission.n_files > 1:  # as many as there are learners, where the folder of a whole class is taken for one
        marked.notes.insert(0, f"this is the newest of {submission.n_files} files for this notebook")
    return marked


def _line(grade: Grade, exercises: dict) -> str:
    submission, remarks = grade.submission, grade.marked.notes[:1]
    if grade.marked.tampered:
        remarks = [f"not counted, {grade.marked.tampered}"]
    asked = exercises.get(submission.notebook, [])
    return "  ".join([f"{submission.learner:<24} {grade.points} of {len(asked)}  {submission.notebook}", *remarks])


def tell_alike(grades: list[Grade]) -> None:
    """Write down which learners' answers have nearly the same form.

    Args:
        grades: of the class; their `alike` is filled.
    """
    for place, one in enumerate(grades):
        for other in grades[place + 1 :]:
            if one.submission.learner == other.submission.learner:
                continue
            for exercise in one.marked.forms.keys() & other.marked.forms.keys():
                if likeness(one.marked.forms[exercise], other.marked.forms[exercise]) >= ALIKE:
                    one.alike.setdefault(exercise, []).append(other.submission.learner)
                    other.alike.setdefault(exercise, []).append(one.submission.learner)


def likeness(one: list[str], other: list[str]) -> float:
    """Return which share of two forms is the same, from 0 to 1; 0 where both are short.

    Args:
        one: a form, see `grade_answers.form`.
        other: another.
    """
    from difflib import SequenceMatcher

    if min(len(one), len(other)) < LEAST_WORDS:
        return 0.0
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    if min(matcher.real_quick_ratio(), matcher.quick_ratio()) < ALIKE:
        return 0.0
    return matcher.ratio()


def write(grades: list[Grade], exercises: dict, target: Path) -> None:
    """Write the table and the pages.

    Args:
        grades: of the class.
        exercises: notebook -> its exercises.
        target: the folder.
    """
    write_atomically(target / "grades.csv", grades_table(grades, exercises).encode("utf-8-sig", "replace"))
    names = feedback_names([grade.submission.learner for grade in grades])
    for learner, name in names.items():
        own = [grade for grade in grades if grade.submission.learner == learner]
        page = feedback_page(learner, own, exercises)
        write_atomically(target / "feedback" / name, page.encode("utf-8", "replace"))


if __name__ == "__main__":
    sys.exit(main())
