// Side by side: two replies to one prompt, blind, and the choice between them.

import { call, events, post } from "./api.js";
import { h } from "./dom.js";
import { rendered, writer } from "./words.js";

/** What may be said of two replies: the value, the label, the key. */
export const CHOICES = [[0, "← Left is better", "1"], ["tie", "Both good", "2"], ["both_bad", "Both bad", "3"], [1, "Right is better →", "4"]];

/** Two columns, empty to be streamed into, or with ``texts`` that stand already. */
export function columns(texts = ["", ""]) {
  const places = texts.map((text) => h("div", { class: "words" }, rendered(text)));
  const sides = ["Left", "Right"].map((name, index) => h("section", { class: "side", "aria-label": `${name} reply` }, h("h3", {}, name), places[index]));
  return { element: h("div", { class: "said reply", "aria-busy": "true" }, h("div", { class: "pair" }, sides)), sides, places };
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
  }
}

/** The buttons of a choice; ``say`` is given the value. */
export const choices = (say) => CHOICES.map(([value, label, key]) => h("button", { type: "button", "data-key": key, "aria-pressed": "false", on: { click: () => say(value) } }, label, h("kbd", { "aria-hidden": "true" }, key)));

/** Offer the choice under the columns; it can be changed. ``onChosen`` is given what was said, once it is stored. */
export function choose({ id, preferred: standing }, drawn, onChosen) {
  const note = h("span", { class: "note soft small", role: "status" });
  const buttons = choices(say);
  drawn.element.append(h("div", { class: "choice", role: "group", "aria-label": "Which reply is better?" }, buttons, note));
  if (standing !== null) show(standing);

  function show(preferred) {
    CHOICES.forEach(([value], index) => {
      buttons[index].setAttribute("aria-pressed", String(value === preferred));
      buttons[index].classList.toggle("main", value === preferred);
    });
    drawn.sides.forEach((side, index) => {
      side.classList.toggle("chosen", preferred === index || preferred === "tie");
      side.classList.toggle("passed", preferred === 1 - index || preferred === "both_bad");
    });
  }

  async function say(preferred) {
    try {
      const answer = await post("/v1/comparisons", { comparison_id: id, preferred });
      show(preferred);
      note.textContent = answer.status === "spooled" ? "Kept on this machine; it is counted once the store is back" : "Stored";
      onChosen(preferred);
    } catch (error) {
      note.textContent = error.message;
    }
  }
}

// The keys of the newest choice, wherever the focus is but in a field.
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, textarea, select, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
  [...document.querySelectorAll(".choice")].at(-1)?.querySelector(`[data-key="${CSS.escape(event.key)}"]`)?.click();
});
