// Side by side: two replies to one prompt, blind, and the choice between them.

import { call, events, post } from "./api.js";
import { h } from "./dom.js";
import { writer } from "./words.js";

const CHOICES = [[0, "← Left is better", "1"], ["tie", "Both good", "2"], ["both_bad", "Both bad", "3"], [1, "Right is better →", "4"]];

/** Two columns. ``ids`` is filled by the stream. */
export function columns() {
  const places = [0, 1].map(() => h("div", { class: "words" }));
  const sides = ["Left", "Right"].map((name, index) => h("section", { class: "side", "aria-label": `${name} reply` }, h("h3", {}, name), places[index]));
  return { element: h("div", { class: "said reply" }, h("div", { class: "pair", "aria-busy": "true" }, sides)), sides, places };
}

/** Stream both replies into the columns. Returns the comparison's id and both texts. */
export async function compare(model, messages, drawn, signal) {
  const writers = drawn.places.map(writer);
  let id = "";
  try {
    const response = await call("POST", "/v1/chat/comparisons", { model, messages, stream: true }, { signal });
    for await (const chunk of events(response)) {
      id = chunk.id;
      for (const choice of chunk.choices) writers[choice.index].add(choice.delta?.content ?? "");
    }
    return { id, texts: writers.map((one) => one.text) };
  } finally {
    for (const one of writers) one.end();
    drawn.element.firstChild.setAttribute("aria-busy", "false");
  }
}

/** Offer the choice. Resolves with the text that the conversation goes on with; a choice can be changed. */
export function choose(comparisonId, texts, drawn, onChosen) {
  const note = h("span", { class: "note soft small", role: "status" });
  const buttons = CHOICES.map(([value, label, key]) => h("button", { type: "button", "aria-pressed": "false", on: { click: () => say(value) } }, label, h("kbd", { "aria-hidden": "true" }, key)));
  const bar = h("div", { class: "choice", role: "group", "aria-label": "Which reply is better?" }, buttons, note);

  async function say(preferred) {
    for (const button of buttons) button.disabled = true;
    try {
      const answer = await post("/v1/comparisons", { comparison_id: comparisonId, preferred });
      CHOICES.forEach(([value], index) => {
        buttons[index].setAttribute("aria-pressed", String(value === preferred));
        buttons[index].classList.toggle("main", value === preferred);
      });
      drawn.sides.forEach((side, index) => {
        side.classList.toggle("chosen", preferred === index);
        side.classList.toggle("passed", preferred === 1 - index || preferred === "both_bad");
      });
      note.textContent = answer.status === "spooled" ? "Safe on disk here" : "Stored";
      onChosen(texts[preferred === 1 ? 1 : 0]);
    } catch (error) {
      note.textContent = error.message;
    } finally {
      for (const button of buttons) button.disabled = false;
    }
  }

  const press = (event) => {
    if (!bar.isConnected) return document.removeEventListener("keydown", press);
    if (event.target.closest("input, textarea, select, dialog") || event.ctrlKey || event.metaKey || event.altKey) return undefined;
    const at = CHOICES.findIndex(([, , key]) => key === event.key);
    if (at >= 0 && bar === [...document.querySelectorAll(".choice")].at(-1)) buttons[at].click();
    return undefined;
  };
  document.addEventListener("keydown", press);
  drawn.element.append(bar);
  buttons[0].focus({ preventScroll: true });
}
