"use strict";
// Everything that is shown is set as text, never as HTML: an answer cannot bring code into the page.
const at = (id) => document.getElementById(id);
let history = [];

function turn(kind, text) {
  const box = document.createElement("div");
  box.className = "turn " + kind;
  box.textContent = text;
  at("talk").append(box);
  box.scrollIntoView({ block: "end" });
  return box;
}

function showPiece(box, piece) {
  const span = document.createElement("span");
  span.textContent = piece.text;
  span.tabIndex = 0;
  span.title = piece.likely.map(([text, p]) => `${JSON.stringify(text)} ${(100 * p).toFixed(1)} %`).join("\n");
  box.append(span);
  box.scrollIntoView({ block: "end" });
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

async function ask(prompt) {
  turn("you", prompt);
  const box = turn("it", "");
  const request = {
    prompt, history, temperature: Number(at("temperature").value), top_p: Number(at("top-p").value),
  };
  const response = await fetch("/answer", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(request),
  });
  for await (const piece of lines(response)) {
    if (piece.trouble) {
      box.classList.add("trouble");
      box.textContent = piece.trouble;
      return;
    }
    showPiece(box, piece);
  }
  history.push([prompt, box.textContent]);
}

at("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const prompt = at("prompt").value.trim();
  if (!prompt) return;
  at("prompt").value = "";
  at("send").disabled = true;
  try {
    await ask(prompt);
  } catch (error) {
    turn("it trouble", "The assistant does not answer; is the command still running in the terminal?");
  }
  at("send").disabled = false;
  at("prompt").focus();
});
at("prompt").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    at("ask").requestSubmit();
  }
});
at("again").addEventListener("click", () => {
  history = [];
  at("talk").replaceChildren();
});
for (const [id, digits] of [["temperature", 1], ["top-p", 2]]) {
  at(id).addEventListener("input", () => { at(id + "-shown").textContent = Number(at(id).value).toFixed(digits); });
}
