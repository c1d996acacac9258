// The criteria of an alias, as reasons to choose from.

import { ask } from "./api.js";
import { h } from "./dom.js";

// What a chip says about a criterion: the reply did well, it did not, and which of two did better in it.
const WORDS = {
  helpful: ["Helpful", "Not helpful", "Helpfulness"],
  honest: ["True", "Not true", "Truth"],
  harmless: ["Safe", "Harmful", "Safety"],
  tone: ["Good tone", "Wrong tone", "Tone"],
  brevity: ["Right length", "Too long", "Length"],
};
export const GOOD = 0;
export const BAD = 1;
export const EITHER = 2;

let criteria = Object.keys(WORDS);

/** Offer an alias's own criteria besides the usual ones; overall is what names none. The alias's record, or null where it may not be read. */
export async function learnCriteria(alias) {
  try {
    const record = await ask("GET", `/v1/aliases/${encodeURIComponent(alias)}`);
    criteria = [...new Set([...Object.keys(record.criteria ?? {}).filter((name) => name !== "overall"), ...Object.keys(WORDS)])];
    return record;
  } catch {
    criteria = Object.keys(WORDS); // a key for chats alone may not read aliases
    return null;
  }
}

/** Chips for one question; ``chosen`` gives the criteria that are ticked. */
export function reasons(question, mood) {
  const boxes = criteria.map((name) => h("input", { type: "checkbox", value: name }));
  const chips = boxes.map((box) => h("label", { class: "chip" }, box, h("span", {}, WORDS[box.value]?.[mood] ?? box.value)));
  return { element: h("fieldset", {}, h("legend", {}, question), chips), chosen: () => boxes.filter((box) => box.checked).map((box) => box.value) };
}
