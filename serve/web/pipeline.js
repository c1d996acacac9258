// The loop drawn as a path: eight stages, the lit one with its progress.

import { h } from "./dom.js";
import { drawRun } from "./curve.js";
import { STAGES, counted, duration, figure, percent, saying, short } from "./loopstate.js";

/** The stages as a list that reads well without sight, too. */
export function drawPipeline(now) {
  return STAGES.map(([name, label]) => {
    const lit = now.stage === name;
    const done = name === "chat" ? now.up > 0 : name === "live" ? now.live !== null : now.passed.includes(name);
    const broken = name === "chat" && now.up === 0;
    return h("li", { class: `stage ${lit ? "lit" : ""} ${done ? "done" : ""} ${broken ? "broken" : ""} ${name}`, "aria-current": lit ? "step" : null },
      h("span", { class: "dot", "aria-hidden": "true" }),
      h("strong", {}, label),
      h("span", { class: "small soft figures" }, saying(name, now)));
  });
}

/** The running step: its name, bar, time left and figures; or what the loop waits for. */
export function drawStep(now) {
  if (!now.step) return [h("p", {}, idle(now)), towards(now)].filter(Boolean);
  const figures = Object.entries(FIGURES).filter(([name]) => typeof now.figures[name] === "number");
  const bar = h("progress", { max: 1, "aria-label": `Progress of ${now.step}` });
  if (now.progress > 0) bar.value = now.progress;
  return [
    h("div", { class: "row figures" }, h("strong", {}, STEPS[now.step] ?? now.step), h("span", { class: "soft" }, now.progress > 0 ? percent(now.progress) : "under way"),
      now.eta !== null && h("span", { class: "soft" }, `about ${duration(now.eta)} left`)),
    bar,
    drawRun(now.run),
    figures.length > 0 && h("dl", { class: "figures small" }, figures.map(([name, words]) => h("div", {}, h("dt", {}, words), h("dd", {}, figure(now.figures[name]))))),
  ].filter(Boolean);
}

const STEPS = {
  batch: "Writing the batch", "reward model": "Fitting the reward model", "fine-tuning": "Fine-tuning on corrections",
  ppo: "Training the adapter with PPO", gate: "Proving it at the gate", publish: "Publishing",
};

// The figures worth a look while a step runs; others stay in the API.
const FIGURES = { samples: "samples", tokens: "tokens a reply", entropy_nats: "entropy, nats a token", clip_fraction: "share clipped", kl_nats: "KL from the reference, nats a reply", loss: "loss" };

function idle(now) {
  if (now.retryAt) return `The last round broke off and is begun anew ${now.retryAt > Date.now() / 1000 ? `in ${duration(now.retryAt - Date.now() / 1000)}` : "now"}.`;
  if (now.asked) return "A round was asked for; a worker takes it up.";
  if (now.canary) return `${short(now.canary.id)} is tried on ${percent(now.share)} of users${now.mode === "approve" ? ". It goes live when a person says so" : ""}.`;
  if (now.candidate) return `${short(now.candidate.id)} passed the gate and is being made ready on the engines.`;
  if (now.mode === "off") return "The loop is off: votes are kept, nothing is trained.";
  if (!now.waiting) return "Nothing waits. Vote on some replies and a round will start.";
  return now.enough ? `${now.waiting} of ${counted(now.enough, "vote")} that start a round. Fewer start one when voting pauses.` : `${counted(now.waiting, "vote")} wait.`;
}

/** How many of the votes that start a round are there. */
function towards(now) {
  if (!now.enough || !now.waiting || now.mode === "off") return null;
  return h("progress", { max: now.enough, value: Math.min(now.waiting, now.enough), "aria-label": "Votes towards the next round" });
}
