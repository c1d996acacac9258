// One experiment's report: the verdict with its reason, intervals, the table of arms, what it judged before.

import { h } from "./dom.js";
import { drawIntervals } from "./intervals.js";
import { ago, duration, figure, percent, short } from "./loopstate.js";

const ACTIONS = { wait: "Wait", promote: "Promote", roll_back: "Roll back", stop: "Stop" };
const SRM_ALARM = 100; // evidence from which the split counts as broken

/** The cards of a report. ``record`` is the experiment itself, for its owner. */
export function drawReport(report, record) {
  return [verdicts(report, record), rates(report.arms), table(report.arms), criteria(report.arms), history(report.history)].filter(Boolean);
}

function verdicts(report, record) {
  const said = (report.verdicts ?? []).map((one) => h("div", { class: `verdict ${one.action}` }, h("strong", {}, `${one.arm}: ${ACTIONS[one.action] ?? one.action}`), h("span", { class: "soft" }, `${one.reason[0].toUpperCase()}${one.reason.slice(1)}.`)));
  const evidence = report.srm_evidence;
  const broken = typeof evidence === "number" && evidence >= SRM_ALARM;
  return h("section", { class: "card" },
    h("h2", {}, "Verdict"), h("div", { class: "bars" }, said.length ? said : h("p", { class: "empty" }, "None.")),
    h("p", { class: "small soft figures ratio" }, `Sample ratio: ${broken ? "the split does not match its shares, so compare nothing" : "no sign of a broken split"} (evidence ${figure(evidence)}). `,
      `Run by ${record.owner === "loop" ? "the loop" : "people"}. These figures hold whenever they are looked at.`));
}

function rates(arms) {
  return h("section", { class: "card" }, h("h2", {}, "Thumbs up"), drawIntervals(arms, "up_rate"),
    arms.some((arm) => arm.compared > 0) && h("div", {}, h("h2", {}, "Comparisons won"), drawIntervals(arms, "win_rate")));
}

const FIGURES = [
  ["adapter", (arm) => short(arm.adapter)], ["share", (arm) => percent(arm.share)], ["exposures", (arm) => arm.exposures], ["subjects", (arm) => arm.subjects], ["votes", (arm) => arm.votes],
  ["up", (arm) => arm.up], ["P(best)", (arm) => (arm.votes ? percent(arm.probability_best, 1) : "–")], ["expected loss", (arm) => (arm.votes ? percent(arm.expected_loss, 2) : "–")],
  ["errors", (arm) => percent(arm.guardrails?.error_rate, 2)], ["mean time", (arm) => seconds(arm.guardrails?.duration_seconds)], ["mean tokens", (arm) => figure(arm.guardrails?.completion_tokens)],
];

const seconds = (value) => (typeof value === "number" ? (value < 10 ? `${value.toFixed(2)} s` : duration(value)) : "–");

/** A row a figure and a column an arm, so that what is to be compared stands side by side. */
function table(arms) {
  return h("section", { class: "card" }, h("h2", {}, "Arms"), h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, h("td"), arms.map((arm) => h("th", { scope: "col", class: "number" }, arm.name)))),
    h("tbody", {}, FIGURES.map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name), arms.map((arm) => h("td", { class: "number" }, String(value(arm))))))))));
}

function criteria(arms) {
  const names = [...new Set(arms.flatMap((arm) => Object.keys(arm.criteria ?? {})))].sort();
  if (!names.length) return null;
  const cell = (one) => (one ? `${one.up} up, ${one.down} down, ${one.won} won, ${one.lost} lost${one.labels ? `, label ${figure(one.label_mean)} (${one.labels})` : ""}` : "–");
  return h("section", { class: "card" }, h("h2", {}, "By criterion"), h("div", { class: "scroll" }, h("table", {},
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "criterion"), arms.map((arm) => h("th", { scope: "col" }, arm.name)))),
    h("tbody", {}, names.map((name) => h("tr", {}, h("th", { scope: "row" }, name), arms.map((arm) => h("td", { class: "figures" }, cell(arm.criteria?.[name])))))))));
}

function history(steps) {
  if (!steps?.length) return null;
  return h("section", { class: "card" }, h("h2", {}, "History"), h("ol", { id: "history" }, [...steps].reverse().map((step) => h("li", {}, h("strong", {}, step.what), ` ${step.reason ?? ""} `, h("span", { class: "soft small" }, ago(step.time))))));
}
