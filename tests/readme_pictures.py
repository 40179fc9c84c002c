"""The pictures of the README, made by the course's own code: `python -m tests.readme_pictures --run default`.

A story with the surprise of each token, the curve of a finished run, the scores of the shipped models, and the page of
`course.py serve` in a Chromium of this machine. They go into `shared/pictures/`, with a list of what they were made of.
Without `--run` the curve stays as it is.
"""

import argparse
import html
import json
import re
import sys
import tempfile
import threading
from pathlib import Path

import torch
from PIL import Image

from data.files import write_atomically
from data.paths import runs_dir
from shared import bars, load_assistant, load_story_gpt, new_axes, token_view, use_style, wilson_interval
from shared.commands import serve
from shared.commands.chat import welcome_of
from shared.commands.chat_abilities import GROUPS
from shared.commands.chat_sureness import sureness_of
from tests.chromium import Chromium

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "shared" / "pictures"
MODELS = ("story_gpt", "story_assistant")
WIDTH = 560  # of a page, in pixels: letters stay readable on a phone
ASKED = ("who", "said", "unknown")  # kinds of questions; of each the chat asks its first example, whatever is answered


def story() -> str:
    """Return the story that the README tells."""
    quoted = re.findall(r"^> (.*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    return "\n".join(quoted)


def surprises(text: str) -> tuple[list[str], list[float]]:
    """Return the tokens of a text and the bits by which each surprised the shipped story GPT."""
    model, tokenizer = load_story_gpt()
    ids = tokenizer.encode(text)
    read = torch.tensor([[tokenizer.special_tokens["<|endoftext|>"], *ids[:-1]]])
    with torch.no_grad():
        log_probabilities = model(read).log_softmax(dim=-1)[0]  # (T, V)
    bits = -log_probabilities[torch.arange(len(ids)), ids] / torch.tensor(2.0).log()
    return [tokenizer.decode([i]) for i in ids], bits.tolist()


def draw_story(browser: Chromium, path: Path) -> None:
    """Show the story, each token on a ground that is the brighter the more it surprised the model."""
    tokens, bits = surprises(story())
    view = token_view([token.strip("\n") or "\n" for token in tokens], bits)._repr_html_()
    told = "Dark: the model was sure of this token. Bright: it was surprised."
    style = "body{font:17px/1.75 system-ui,sans-serif;margin:16px;background:#fff;color:#1a1a1a}"
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / "story.html"
        head = f"<meta charset=utf-8><meta name=viewport content=width=device-width><style>{style}</style>"
        page.write_text(f"{head}<p>{html.escape(told)}</p>{view}", encoding="utf-8")
        browser.window(WIDTH, 400, phone=True)
        browser.open(page.as_uri(), ready="document.querySelector('span')")
        browser.window(WIDTH, browser.run("document.documentElement.scrollHeight"), phone=True)
        browser.picture(path)


def draw_chat(browser: Chromium, path: Path) -> None:
    """Ask the shipped assistant the first example of each kind in `ASKED` on the page of `serve`."""
    kinds = [kind for labels in GROUPS.values() for kind in labels]  # in the order of their buttons
    assistant = load_assistant()
    server = serve.make_server(assistant, 0, welcome_of(assistant), sureness_of("shipped"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        browser.window(WIDTH, 640, phone=True)
        browser.open(f"http://127.0.0.1:{server.server_port}/", ready="document.querySelector('#examples button')")
        for number, kind in enumerate(ASKED):
            browser.run(f"document.querySelectorAll('#examples button')[{kinds.index(kind)}].click()")
            browser.run("document.getElementById('send').click()")
            browser.wait(
                f"document.getElementById('stop').hidden && document.querySelectorAll('.it').length > {number}"
            )
        browser.window(WIDTH, browser.run("document.documentElement.scrollHeight"), phone=True)
        browser.picture(path)
    finally:
        browser.open("data:,")
        server.shutdown()
        server.server_close()


def draw_scores(path: Path) -> None:
    """Draw the scores of the shipped models with their 95 % intervals."""
    results = {name: json.loads((ROOT / "data" / name / "recipe.json").read_text())["results"] for name in MODELS}
    stories, assistant = results["story_gpt"], results["story_assistant"]
    rates = {
        "stories without a slip": stories["coherent"],
        "messages sorted right": stories["classifier"]["accuracy"],
        "the same by counting words": stories["classifier"]["baseline"],
        "questions, our wordings": assistant["overall"],
        "questions, others' wordings": assistant["new_wordings"],
        "questions, others' texts": assistant["by_hand"],
    }
    ends = {name: wilson_interval(rate["n_correct"], rate["n"]) for name, rate in rates.items()}
    use_style()
    ax = bars(
        {name: 100 * rate["n_correct"] / rate["n"] for name, rate in rates.items()},
        title="Other people's words are harder",
        xlabel="right (%), with 95 % intervals",
        errors={name: (100 * low, 100 * high) for name, (low, high) in ends.items()},
        colors={"the same by counting words": "baseline"},
        digits=1,
        ax=new_axes(""),
    )
    figure = ax.get_figure()
    figure.set_size_inches(5.6, 2.6)  # small, so that letters are large beside it on a phone
    figure.savefig(path, dpi=200)


def shrink(path: Path, most: int = 1_120) -> None:
    """Keep a picture small: at most so many pixels wide, with a palette of 128 colors."""
    picture = Image.open(path).convert("RGB")
    if picture.width > most:
        picture = picture.resize((most, round(picture.height * most / picture.width)), Image.Resampling.LANCZOS)
    picture.quantize(128).save(path, optimize=True)


def made_of() -> dict[str, str]:
    """Return the hash of each shipped model's weights, by which a test finds pictures of an older one."""
    read = {name: json.loads((ROOT / "data" / name / "manifest.json").read_text()) for name in MODELS}
    return {name: manifest["files"]["model.safetensors"]["sha256"] for name, manifest in read.items()}


def main(arguments: list[str] | None = None) -> int:
    """Make all pictures."""
    options = argparse.ArgumentParser(description="Make the README's pictures.")
    options.add_argument("--run", help="name of a finished run, whose curve is shown (default: the curve stays)")
    run = options.parse_args(arguments).run
    FOLDER.mkdir(exist_ok=True)
    if run:
        (FOLDER / "curve.png").write_bytes((runs_dir() / run / "loss.png").read_bytes())
    with Chromium() as browser:
        draw_story(browser, FOLDER / "story.png")
        draw_chat(browser, FOLDER / "chat.png")
    draw_scores(FOLDER / "scores.png")
    made = ("chat", "scores", "story", *(["curve"] if run else []))
    for path in (FOLDER / f"{name}.png" for name in made):
        shrink(path)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")
    write_atomically(FOLDER / "made_of.json", json.dumps(made_of(), indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
