"use strict";
// Everything that is shown is set as text, never as HTML: an answer cannot bring code into the page.
const at = (id) => document.getElementById(id);
const MOST_TURNS = 20, MOST_CHARACTERS = 12000; // of the talk that goes along; the model's memory is shorter still
const TOO_LONG = "The talk has become too long to send, so it goes on without its oldest turns.";
const TORN = 0.5; // below this probability the likeliest word has no majority
let history = []; // [prompt, answer] pairs
let singleQuestions = true; // what the model was trained on
let answering = null; // stops the answer that is being written
let example = null; // what was filled in: { prompt, rest }, where `rest` is asked after it

function add(parent, kind, className, text) {
  const element = document.createElement(kind);
  element.className = className;
  element.textContent = text;
  parent.append(element);
  return element;
}

function turn(kind, text) {
  const box = add(at("talk"), "div", "turn " + kind, text);
  toEnd();
  return box;
}

const toEnd = () => window.scrollTo(0, document.body.scrollHeight);

// ---- asking

function recent(turns) {
  let kept = turns.slice(-MOST_TURNS);
  while (kept.flat().join("").length > MOST_CHARACTERS) kept = kept.slice(1);
  return kept;
}

async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}

async function* answer(prompt, turns, signal) {
  const question = {
    prompt, history: turns,
    temperature: Number(at("temperature").value), top_p: Number(at("top-p").value),
  };
  const response = await fetch("/answer", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(question), signal,
  });
  if (response.ok) yield* lines(response);
  else yield { trouble: await response.text() };
}

async function ask(prompt) {
  const talk = history, sent = at("remember").checked ? recent(talk) : [], stopper = new AbortController();
  turn("you", prompt);
  const box = turn("it waiting", "");
  box.role = "group";
  box.ariaLabel = "Answer";
  setAnswering(stopper);
  if (at("remember").checked) forget(talk, sent.length, TOO_LONG, box);
  let sure = "", cut = "";
  try {
    for await (const piece of answer(prompt, sent, stopper.signal)) {
      if (piece.trouble) turn("it trouble", piece.trouble);
      else if (piece.note) forget(talk, sent.length - piece.forgotten, piece.note, box);
      else if (piece.cut) cut = piece.cut;
      else if (piece.sure) sure = piece.sure;
      else showPiece(box, piece);
    }
  } catch (error) {
    const gone = "The answer broke off. Is python course.py serve still running in the terminal?";
    if (error.name !== "AbortError") turn("it trouble", gone);
    else cut = "You stopped it here.";
  }
  box.classList.remove("waiting");
  if (box.textContent) talk.push([prompt, box.textContent]);
  if (box.textContent) box.after(under(box, cut || sure));
  else box.remove();
  if (answering === stopper) setAnswering(null);
}

function under(box, told) {
  const line = document.createElement("div");
  line.className = "note under";
  add(line, "span", "", told);
  const look = add(line, "button", "", "Look inside");
  look.onclick = () => (box.scrollIntoView({ block: "nearest" }), box.firstElementChild.focus());
  return line;
}

function forget(talk, nKept, note, box) {
  if (nKept >= talk.length) return;
  talk.splice(0, talk.length - nKept);
  box.before(add(at("talk"), "div", "turn note", note));
}

function setAnswering(stopper) {
  answering = stopper;
  at("send").hidden = stopper !== null;
  at("stop").hidden = stopper === null;
  at("talk").ariaBusy = String(stopper !== null); // a screen reader reads the answer when it is complete
  if (stopper !== null || !at("talk").hasChildNodes()) showExamples(stopper === null);
}

// ---- the tokens of an answer, and what else could have stood there

function inWords(text, begins) {
  if (/^<\|.*\|>$/.test(text)) return "(the end)";
  if (text.includes("\ufffd")) return "(part of a letter)";
  if (!text.trim()) return text.includes("\n") ? "(new line)" : "(space)";
  return (/^[\p{L}\p{N}]/u.test(text) && !begins ? "…" : "") + text.trim(); // goes on with the word before it
}

function showPiece(box, piece) {
  const atEnd = window.innerHeight + window.scrollY >= document.body.scrollHeight - 60;
  const torn = piece.likely.length > 1 && piece.likely[0][1] < TORN;
  const first = !box.hasChildNodes(), begins = first || /\s$/.test(box.textContent);
  const [, space, word] = /^(\s*)(.*)$/s.exec(piece.text);
  if (word) box.append(space); // so that only the word itself is marked
  const span = add(box, "span", torn ? "torn" : "", word || space);
  const card = { ...piece, begins, greedy: at("temperature").value === "0" };
  span.tabIndex = first ? 0 : -1; // Tab reaches an answer, the arrow keys go through it
  for (const event of ["pointerenter", "focus"]) span.addEventListener(event, () => showCard(span, card));
  for (const event of ["pointerleave", "blur"]) span.addEventListener(event, hideCard);
  span.addEventListener("click", () => span.focus());
  span.addEventListener("keydown", (event) => {
    const next = { ArrowRight: span.nextElementSibling, ArrowLeft: span.previousElementSibling }[event.key];
    if (next) next.focus();
    if (event.key === "Escape") hideCard();
  });
  if (atEnd) toEnd();
}

function showCard(span, { text: written, likely, begins, greedy }) {
  const card = at("card");
  hideCard();
  card.replaceChildren();
  add(card, "b", "", "100 draws here would give");
  const chosen = greedy ? 0 : likely.findIndex(([text]) => text.trim() === written.trim());
  let others = 100;
  likely.forEach(([text, probability], number) => {
    const share = Math.round(100 * probability);
    others -= share;
    add(card, "div", number === chosen ? "word written" : "word", inWords(text, begins));
    add(card, "div", "bar", "").style.width = 100 * probability + "%";
    add(card, "div", "share", share ? String(share) : "under 1");
  });
  if (others > 0) add(card, "i", "", `something else: ${others}`);
  if (chosen < 0) add(card, "i", "", `It drew ${inWords(written, begins)}, which is less likely.`);
  add(card, "i", "", "← and → go through the words.");
  card.hidden = false;
  span.setAttribute("aria-describedby", "card");
  placeCard();
}

const described = () => document.querySelector("[aria-describedby=card]");

function placeCard() {
  if (!described()) return;
  const card = at("card"), word = described().getClientRects()[0];
  const left = Math.min(word.left, document.documentElement.clientWidth - card.offsetWidth - 8);
  const above = word.top - card.offsetHeight - 6;
  card.style.left = Math.max(8, left) + "px";
  card.style.top = (above > 8 ? above : word.bottom + 6) + "px";
}

function hideCard() {
  at("card").hidden = true;
  described()?.removeAttribute("aria-describedby");
}

// ---- examples

function showExamples(shown) {
  at("start").hidden = !shown;
  at("show").ariaExpanded = String(shown);
}

function addGroup({ title, abilities }) {
  add(at("examples"), "h2", "", title);
  const row = add(at("examples"), "div", "", "");
  for (const { label, examples } of abilities) {
    const button = add(row, "button", "", label);
    let next = 0;
    button.onclick = () => {
      for (const other of document.querySelectorAll("#examples [aria-pressed]")) other.removeAttribute("aria-pressed");
      button.ariaPressed = "true";
      const more = examples.length > 1 ? ` Another click on “${label}” brings another one.` : "";
      fill(examples[next++ % examples.length], "Press Enter or Send to ask this." + more);
      button.scrollIntoView({ block: "nearest" });
    };
  }
}

function fill([prompt, ...rest], hint, begins = true) {
  example = { prompt, rest, begins };
  at("prompt").value = prompt;
  at("hint").textContent = hint;
  grow();
  if (!matchMedia("(pointer: coarse)").matches) at("prompt").focus(); // on a phone, the keyboard would cover the examples
}

function grow() {
  at("prompt").style.height = "auto";
  at("prompt").style.height = at("prompt").scrollHeight + 2 + "px";
  document.documentElement.style.scrollPaddingBottom = document.querySelector("footer").offsetHeight + 8 + "px";
}

// ---- the page's controls

async function submit() {
  const prompt = at("prompt").value.trim(), asked = example;
  if (!prompt || answering) return;
  at("prompt").value = at("hint").textContent = "";
  example = null;
  grow();
  at("prompt").focus();
  const isExample = asked?.prompt.trim() === prompt;
  if (isExample && asked.begins) begin();
  await ask(prompt);
  const isAnswered = !answering && history.at(-1)?.[0] === prompt;
  if (isExample && asked.rest.length && isAnswered && !at("prompt").value) fill(asked.rest, "Now ask this.", false);
}

function begin() { // an example is about a text of its own
  if (history.length && at("remember").checked) turn("note", "A new talk begins: what was said before is forgotten.");
  history = [];
}

function explain() {
  const temperature = Number(at("temperature").value), topP = Number(at("top-p").value);
  at("temperature-shown").textContent = temperature.toFixed(1);
  at("top-p-shown").textContent = topP.toFixed(2);
  at("top-p").disabled = temperature === 0;
  at("meaning").textContent =
    temperature === 0 ? "Temperature 0: always the likeliest word, so the same question gets the same answer."
    : topP === 1 ? "It draws among all words; the higher the temperature, the more freely."
    : `It draws among the likeliest words that together make ${Math.round(100 * topP)} % of the probability.`;
  if (at("remember").checked && singleQuestions)
    at("meaning").textContent += " It reads the talk so far; trained on single questions, it mixes them up easily.";
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
at("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  at("ask").requestSubmit();
});
at("prompt").addEventListener("input", grow);
at("stop").addEventListener("click", () => {
  answering?.abort();
  at("prompt").focus();
});
at("show").addEventListener("click", () => {
  showExamples(at("start").hidden);
  if (!at("start").hidden) at("start").scrollIntoView({ block: "nearest" });
});
at("again").addEventListener("click", () => {
  answering?.abort();
  history = [];
  example = null;
  at("talk").replaceChildren();
  at("hint").textContent = "";
  setAnswering(null);
  hideCard();
  at("prompt").focus();
});
window.addEventListener("scroll", placeCard, { passive: true });
for (const id of ["temperature", "top-p", "remember"]) at(id).addEventListener("input", explain);
explain();
fetch("/welcome").then((response) => response.json()).then((welcome) => {
  at("says").textContent = welcome.says;
  if (welcome.name) at("name").textContent = document.title = welcome.name;
  at("remember").checked = welcome.remember;
  singleQuestions = !welcome.remember;
  explain();
  const asked = welcome.examples.map((prompt) => ({ label: prompt, examples: [[prompt]] }));
  for (const group of [...welcome.groups, ...(asked.length ? [{ title: "You could ask", abilities: asked }] : [])]) addGroup(group);
}).catch(() => { at("start").hidden = true; });
