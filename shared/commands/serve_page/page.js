"use strict";
// Everything that is shown is set as text, never as HTML: an answer cannot bring code into the page.
const at = (id) => document.getElementById(id);
const MOST_TURNS = 20, MOST_CHARACTERS = 12000; // of the talk that goes along; the model's memory is shorter still
let history = []; // [prompt, answer] pairs
let singleQuestions = true; // what the model was trained on
let answering = null; // stops the answer that is being written

function add(parent, kind, className, text) {
  const element = document.createElement(kind);
  element.className = className;
  element.textContent = text;
  parent.append(element);
  return element;
}

function turn(kind, text) {
  const box = add(at("talk"), "div", "turn " + kind, text);
  window.scrollTo(0, document.body.scrollHeight);
  return box;
}

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
  setAnswering(stopper);
  try {
    for await (const piece of answer(prompt, sent, stopper.signal)) {
      if (piece.trouble) turn("it trouble", piece.trouble);
      else if (piece.note) forget(talk, sent.length - piece.forgotten, piece.note, box);
      else showPiece(box, piece);
    }
  } catch (error) {
    const gone = "The answer broke off. Is python course.py serve still running in the terminal?";
    if (error.name !== "AbortError") turn("it trouble", gone);
  }
  box.classList.remove("waiting");
  if (box.textContent) talk.push([prompt, box.textContent]);
  else box.remove();
  if (answering === stopper) setAnswering(null);
}

function forget(talk, nKept, note, box) {
  talk.splice(0, talk.length - nKept);
  box.before(add(at("talk"), "div", "turn note", note));
}

function setAnswering(stopper) {
  answering = stopper;
  at("send").hidden = stopper !== null;
  at("stop").hidden = stopper === null;
  at("start").hidden = stopper !== null || at("talk").hasChildNodes();
}

// ---- the tokens of an answer, and what else could have stood there

const visible = (text) => text.replaceAll(" ", "·").replaceAll("\n", "↵");

function showPiece(box, piece) {
  const atEnd = window.innerHeight + window.scrollY >= document.body.scrollHeight - 60;
  const span = add(box, "span", "", piece.text);
  span.tabIndex = box.childElementCount > 1 ? -1 : 0; // Tab reaches an answer, the arrow keys go through it
  for (const event of ["pointerenter", "focus"]) span.addEventListener(event, () => showCard(span, piece));
  for (const event of ["pointerleave", "blur"]) span.addEventListener(event, hideCard);
  span.addEventListener("click", () => span.focus());
  span.addEventListener("keydown", (event) => {
    const next = { ArrowRight: span.nextElementSibling, ArrowLeft: span.previousElementSibling }[event.key];
    if (next) next.focus();
    if (event.key === "Escape") hideCard();
  });
  if (atEnd) window.scrollTo(0, document.body.scrollHeight);
}

function showCard(span, piece) {
  const card = at("card");
  card.replaceChildren();
  add(card, "b", "", "Likeliest at temperature 1");
  let found = false;
  for (const [text, probability] of piece.likely) {
    const written = text.trim() === piece.text.trim() && !found;
    found ||= written;
    add(card, "code", written ? "written" : "", visible(text));
    add(card, "div", "bar", "").style.width = 100 * probability + "%";
    add(card, "div", "share", (100 * probability).toFixed(1) + " %");
  }
  if (!found) add(card, "i", "", `It drew ${visible(piece.text)}, which is less likely.`);
  card.hidden = false;
  span.setAttribute("aria-describedby", "card");
  place(card, span.getClientRects()[0]);
}

function place(card, word) {
  const left = Math.min(word.left, document.documentElement.clientWidth - card.offsetWidth - 8);
  const above = word.top - card.offsetHeight - 6;
  card.style.left = Math.max(8, left) + "px";
  card.style.top = (above > 8 ? above : word.bottom + 6) + "px";
}

function hideCard() {
  at("card").hidden = true;
}

// ---- the page's controls

function submit(prompt) {
  if (prompt && !answering) ask(prompt);
}

function explain() {
  const temperature = Number(at("temperature").value), topP = Number(at("top-p").value);
  at("temperature-shown").textContent = temperature.toFixed(1);
  at("top-p-shown").textContent = topP.toFixed(2);
  at("top-p").disabled = temperature === 0;
  at("meaning").textContent =
    temperature === 0 ? "Temperature 0: always the likeliest token, so the same question gets the same answer."
    : topP === 1 ? "It draws among all tokens; the higher the temperature, the more freely."
    : `It draws among the likeliest tokens that together make ${Math.round(100 * topP)} % of the probability.`;
  if (at("remember").checked && singleQuestions)
    at("meaning").textContent += " It reads the talk so far; trained on single questions, it mixes them up easily.";
}

at("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  if (answering) return;
  submit(at("prompt").value.trim());
  at("prompt").value = "";
  at("prompt").focus();
});
at("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  at("ask").requestSubmit();
});
at("stop").addEventListener("click", () => {
  answering?.abort();
  at("prompt").focus();
});
at("again").addEventListener("click", () => {
  answering?.abort();
  history = [];
  at("talk").replaceChildren();
  setAnswering(null);
  hideCard();
  at("prompt").focus();
});
window.addEventListener("scroll", hideCard, { passive: true });
for (const id of ["temperature", "top-p", "remember"]) at(id).addEventListener("input", explain);
explain();
fetch("/welcome").then((response) => response.json()).then((welcome) => {
  at("says").textContent = welcome.says;
  at("remember").checked = welcome.remember;
  singleQuestions = !welcome.remember;
  explain();
  for (const prompt of welcome.examples) add(at("examples"), "button", "", prompt).onclick = () => submit(prompt);
}).catch(() => { at("start").hidden = true; });
