// A rate with its always-valid interval, drawn on a line from 0 to 100 %.

import { h, shape } from "./dom.js";
import { percent } from "./loopstate.js";

const WIDTH = 600; // of the drawing, in its own units
const HEIGHT = 26;

/** One row an arm: its name, the interval as a band with the rate as a dot, and both in numbers. */
export function drawIntervals(arms, rate) {
  const rows = arms.map((arm, index) => {
    const value = arm[rate];
    const [lower, upper] = [arm[`${rate}_lower`], arm[`${rate}_upper`]];
    const seen = typeof value === "number";
    const told = seen ? `${percent(value, 1)} (${percent(lower, 1)} to ${percent(upper, 1)})` : "nothing yet";
    return h("div", { class: `bar ${index ? "" : "control"}` }, h("span", { class: "name" }, arm.name), band(arm.name, value, lower, upper, told),
      h("span", { class: "small soft figures" }, told));
  });
  const axis = h("div", { class: "bar", "aria-hidden": "true" }, h("span"), h("div", { class: "axis" }, ["0 %", "25 %", "50 %", "75 %", "100 %"].map((text) => h("span", {}, text))), h("span"));
  return h("div", { class: "bars" }, rows, axis);
}

function band(name, value, lower, upper, told) {
  const middle = HEIGHT / 2;
  const drawing = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": `${name}: ${told}` },
    shape("line", { x1: 0, x2: WIDTH, y1: middle, y2: middle, class: "rail" }));
  for (const at of [0, 0.25, 0.5, 0.75, 1]) drawing.append(shape("line", { x1: at * WIDTH, x2: at * WIDTH, y1: middle - 5, y2: middle + 5, class: "tick" }));
  if (typeof value !== "number") return drawing;
  drawing.append(shape("rect", { x: lower * WIDTH, width: Math.max(2, (upper - lower) * WIDTH), y: 4, height: HEIGHT - 8, rx: 4, class: "span" }),
    shape("rect", { x: value * WIDTH - 2, width: 4, y: 1, height: HEIGHT - 2, rx: 2, class: "mean" }));
  return drawing;
}
