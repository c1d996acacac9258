// Votes that rounds keep out of training, by burst, and an operator's word on them.

import { post } from "./api.js";
import { h } from "./dom.js";
import { counted } from "./loopstate.js";

/** The listed votes as bursts, in their order. */
export function bursts(votes) {
  const found = new Map();
  for (const { burst, kind, reason, subject } of votes) {
    const one = found.get(burst) ?? { burst, kind, reason, votes: 0, subjects: new Set() };
    one.votes += 1;
    one.subjects.add(subject);
    found.set(burst, one);
  }
  return [...found.values()].map((one) => ({ ...one, subjects: one.subjects.size }));
}

/** One item a burst, with both verdicts. */
export function drawBursts(found, changed, failed) {
  const decide = async ({ burst }, verdict) => {
    try {
      await post(`/v1/quarantine/${encodeURIComponent(burst)}`, { verdict });
    } catch (error) {
      failed(error);
      return;
    }
    changed();
  };
  return found.map((one) => {
    const release = h("button", { type: "button" }, "Release");
    const confirm = h("button", { type: "button", class: "danger" }, "Confirm");
    release.addEventListener("click", () => decide(one, "released"));
    confirm.addEventListener("click", () => decide(one, "confirmed"));
    return h("li", {},
      h("div", { class: "row" }, h("span", { class: "pill warn" }, one.kind), h("span", { class: "soft small" }, `${counted(one.votes, "vote")} of ${counted(one.subjects, "subject")}, left out of training`)),
      h("span", { class: "small" }, one.reason),
      h("div", { class: "row" }, release, confirm));
  });
}
