"""The wordings of questions: chosen, framed as people frame them, and written with the slips that people make."""

import re

from .tasks import PortableRandom, fill, templates

SLIP_EVERY = 8  # one training question in so many has a slip of the pen
UNFRAMED = ("greeting", "thanks", "follow.kind", "follow.name")  # nobody puts words before these
PLAIN_AROUND = ("{text}\n{ask}", "{text} {ask}", "{ask}\n{text}")


class Wordings:
    """The wordings of one table.

    Args:
        table: "wordings", with frames and slips around them, or "held_out_wordings", taken as they are.
        rng: the dice.
        n_wordings: use only the first so many of each kind, without frames; None uses all.
    """

    def __init__(self, table: str, rng: PortableRandom, n_wordings: int | None = None):
        self.rules, self.rng, self.n = templates(table), rng, n_wordings
        self.framed = n_wordings is None and "frame" in self.rules

    def ask(self, kind: str, slots: dict[str, str]) -> str:
        """A question of a kind, such as "who" or "yesno.animal", with its slots filled."""
        lines = self.rules[f"ask.{kind}"][: self.n]
        clauses = self.rules.get(f"ind.{kind}") if self.framed else None
        if clauses and self.rng.below(5) < 2:
            line = self.rng.pick(self.rules["frame"]).replace("{ind}", self.rng.pick(clauses))
        else:
            line = self.rng.pick(lines)
        if self.framed and kind not in UNFRAMED and self.rng.below(5) == 0:
            line = self.rng.pick(self.rules["frame.ask"]).replace("{ask}", line)
        if self.framed:
            line = self._slip(self._choose(line))
        asked = fill(line, slots, self.rng)
        asked = asked[:1].upper() + asked[1:]
        return self._careless(asked) if self.framed else asked

    def around(self, text: str, ask: str) -> str:
        """A text and the question about it as one prompt."""
        frame = self.rng.pick(self.rules["around"] if self.framed else PLAIN_AROUND)
        return fill(frame.replace("\\n", "\n"), {"text": text, "ask": ask}, self.rng)

    def _choose(self, line: str) -> str:
        """Only the choices of a wording; its slots stay."""
        return fill(line, _Open(), self.rng)

    def _slip(self, line: str) -> str:
        """A letter lost, doubled or exchanged with its neighbor, in a word of the wording itself."""
        places = [m for m in re.finditer(r"(?<![{\w'])[a-z]{5,}(?![\w}'])", line)]
        if not places or self.rng.below(SLIP_EVERY):
            return line
        place = self.rng.pick(places)
        at = place.start() + 1 + self.rng.below(len(place[0]) - 2)
        a, b = line[at], line[at + 1]
        return line[:at] + self.rng.pick((b, a + a + b, b + a)) + line[at + 2 :]

    def _careless(self, asked: str) -> str:
        """Small letters throughout, or no sign at the end, as in a hurry."""
        if self.rng.below(6) == 0:
            asked = asked.rstrip(".?!")
        return asked.lower() if self.rng.below(8) == 0 else asked


class _Open(dict[str, str]):
    """Slots that stay open."""

    def __missing__(self, slot: str) -> str:
        return "{" + slot + "}"
