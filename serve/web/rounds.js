// The last rounds: what came of each, and why, in plain words.

import { h } from "./dom.js";
import { ago, duration, short } from "./loopstate.js";

// A round's verdict → the pill's kind and words, and what it means.
const VERDICTS = {
  candidate: ["good", "candidate", "It passed the gate and goes on trial with users."],
  rejected: ["bad", "rejected", "It did not pass the gate; users never see it."],
  nothing: ["", "no adapter", "Nothing was trained, or not to the end."],
  failed: ["bad", "failed", "It broke off."],
};

/** One entry a round, newest first. */
export function drawRounds(rounds) {
  if (!rounds.length) return [h("li", { class: "empty" }, "No round has run yet. The first starts when enough votes are there.")];
  return rounds.map((one) => {
    const [kind, name, meaning] = VERDICTS[one.verdict] ?? ["", one.verdict ?? "ended", ""];
    return h("li", {},
      h("div", { class: "row" }, h("span", { class: `pill ${kind}` }, name), one.adapter && h("span", { class: "mono" }, short(one.adapter)),
        h("span", { class: "soft small figures when" }, `${ago(one.ended)}, took ${duration(one.seconds)}`)),
      h("p", { class: "small" }, meaning, h("span", { class: "soft" }, one.reason ? ` ${one.reason[0].toUpperCase()}${one.reason.slice(1)}.` : "")));
  });
}
