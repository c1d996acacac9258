// The loop drawn as a path: eight stages, the lit one with its progress.

import { h } from "./dom.js";
import { STAGES, duration, figure, percent, saying } from "./loopstate.js";

/** The stages as a list that reads well without sight, too. */
export function drawPipeline(now) {
  return STAGES.map(([name, label]) => {
    const lit = now.stage === name;
    const done = name === "chat" ? now.up > 0 : name === "live" ? now.live !== null : now.passed.includes(name);
    return h("li", { class: `stage ${lit ? "lit" : ""} ${done ? "done" : ""} ${name}`, "aria-current": lit ? "step" : null },
      h("span", { class: "dot", "aria-hidden": "true" }),
      h("strong", {}, label),
      h("span", { class: "small soft figures" }, saying(name, now)));
  });
}

/** The running step: its name, bar, time left and figures; or what the loop waits for. */
export function drawStep(now) {
  if (!now.step) return [h("p", { class: "small soft" }, idle(now))];
  const figures = Object.entries(FIGURES).filter(([name]) => typeof now.figures[name] === "number");
  const bar = h("progress", { max: 1, "aria-label": `Progress of ${now.step}` });
  if (now.progress > 0) bar.value = now.progress;
  return [
    h("div", { class: "row figures" }, h("strong", {}, STEPS[now.step] ?? now.step), h("span", { class: "soft" }, now.progress > 0 ? percent(now.progress) : "under way"),
      now.eta !== null && h("span", { class: "soft" }, `about ${duration(now.eta)} left`)),
    bar,
    figures.length > 0 && h("dl", { class: "figures small" }, figures.map(([name, words]) => h("div", {}, h("dt", {}, words), h("dd", {}, figure(now.figures[name]))))),
  ].filter(Boolean);
}

const STEPS = {
  batch: "Writing the batch", "reward model": "Fitting the reward model", "fine-tuning": "Fine-tuning on corrections",
  ppo: "Training the adapter with PPO", gate: "Proving it at the gate", publish: "Publishing",
};

// The figures worth a look while a step runs; others stay in the API.
const FIGURES = { reward: "reward, standardised", kl: "KL from the base, nats a reply", tokens: "tokens a reply", entropy: "entropy, nats a token", clip_fraction: "share clipped", loss: "loss", accuracy: "accuracy" };

function idle(now) {
  if (now.asked) return "A round was asked for; a worker takes it up.";
  if (now.canary) return `${now.canary.id} is tried on ${percent(now.share)} of users.`;
  if (now.candidate) return `${now.candidate.id} passed the gate and is being made ready on the engines.`;
  if (now.mode === "off") return "The loop is off: votes are kept, nothing is trained.";
  return now.waiting ? `${now.waiting} votes wait. A round starts when there are enough, or when voting pauses.` : "Nothing waits. Vote on some replies and a round will start.";
}

/** Accuracy by round as a small line, newest right. ``values`` are in [0, 1], oldest first. */
export function drawTrend(values, shape) {
  const [width, height] = [240, 46];
  const at = (value, index) => [values.length > 1 ? (index / (values.length - 1)) * (width - 8) + 4 : width / 2, height - 4 - (Math.min(1, Math.max(0.4, value)) - 0.4) / 0.6 * (height - 8)];
  const points = values.map(at);
  const half = at(0.5, 0)[1];
  const last = points.at(-1);
  return shape("svg", { viewBox: `0 0 ${width} ${height}`, class: "trend", role: "img", "aria-label": `Accuracy by round: ${values.map((value) => percent(value)).join(", ")}` },
    shape("line", { x1: 0, x2: width, y1: half, y2: half, class: "half" }),
    shape("polyline", { points: points.map((point) => point.join(",")).join(" "), class: "line" }),
    shape("circle", { cx: last[0], cy: last[1], r: 3.5, class: "last" }));
}
