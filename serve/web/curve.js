// A figure over time as a line, with its first and newest value in words for those who do not see it.

import { h, shape } from "./dom.js";
import { figure } from "./loopstate.js";

const WIDTH = 300; // of the drawing, in its own units
const HEIGHT = 64;
const EDGE = 5;

/** ``values`` oldest first, none left out. ``mark``: a level worth a dashed line. ``least``: the smallest range that
 * is drawn from edge to edge, so that noise does not look like a trend. ``shown``: a value in words.
 */
export function drawCurve(name, values, { mark = null, least = 0, shown = figure } = {}) {
  const levels = mark === null ? values : [...values, mark];
  const low = Math.min(...levels);
  const high = Math.max(low + least, ...levels);
  const x = (index) => (values.length > 1 ? EDGE + (index / (values.length - 1)) * (WIDTH - 2 * EDGE) : WIDTH / 2);
  const y = (value) => (high > low ? HEIGHT - EDGE - ((value - low) / (high - low)) * (HEIGHT - 2 * EDGE) : HEIGHT / 2);
  const last = values.length - 1;
  const told = values.length > 1 ? `${name}: from ${shown(values[0])} to ${shown(values[last])}` : `${name}: ${shown(values[0])}`;
  const drawing = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "curve", role: "img", "aria-label": told });
  if (mark !== null) drawing.append(shape("line", { x1: 0, x2: WIDTH, y1: y(mark), y2: y(mark), class: "half" }));
  drawing.append(shape("polyline", { points: values.map((value, index) => `${x(index).toFixed(1)},${y(value).toFixed(1)}`).join(" "), class: "line" }),
    shape("circle", { cx: x(last), cy: y(values[last]), r: 3.5, class: "last" }));
  return h("figure", {}, h("figcaption", { class: "row small" }, h("span", { class: "soft" }, name), h("strong", { class: "figures" }, shown(values[last]))), drawing);
}

const rounded = (value) => String(Number(value.toFixed(2)));

/** Reward and KL of a PPO run, from the figures of its steps. Nothing before there are two steps. */
export function drawRun(steps) {
  const of = (name) => steps.map((step) => step[name]).filter((value) => typeof value === "number");
  const curves = [["Reward", of("reward_last"), null], ["KL from the base, nats a reply", of("kl_base_nats"), 0]].filter(([, values]) => values.length > 1);
  return curves.length > 0 && h("div", { class: "curves" }, curves.map(([name, values, mark]) => drawCurve(name, values, { mark, least: 0.5, shown: rounded })));
}
