// The canaries: what the gate's found of the newest adapter, and the last look at what is live.

import { h } from "./dom.js";
import { clock, percent, short } from "./loopstate.js";

/** Both, and the last time that one broke. */
export function drawCanaries({ gated, looked, incidents }) {
  if (!gated && !looked) return h("p", { class: "empty" }, "None yet. The gate asks them of every new adapter, the schedule of what is live.");
  return [gated && atGate(gated), looked && onLive(looked), broke(incidents, looked)].filter(Boolean);
}

/** What the worker said, as a sentence. */
const said = (what) => `${what[0].toUpperCase()}${what.slice(1)}.`.replaceAll("_", " ");

const plain = (name) => (name === "canaries" ? "good order" : name.replaceAll("_", " "));

function atGate({ adapter, time, checks }) {
  const failed = checks.filter((one) => one.verdict !== "passed");
  // Of safety the value is a bound, not a share.
  const rows = checks.map((one) => [plain(one.check), one.verdict !== "passed", one.check === "safety" ? one.verdict : percent(one.value), one.check === "safety" ? "" : `${one.check === "canaries" ? "at least " : ""}${percent(one.bar)}`]);
  return h("div", {},
    head(failed.length ? "bad" : "good", failed.length ? "failed" : "passed", adapter, `at the gate ${clock(time)}`),
    rows.length ? table("What the gate's canaries found", ["share", "bar"], rows) : h("p", { class: "small soft" }, "Its gate asked none."));
}

function onLive({ adapter, time, broken, seen, what }) {
  const rows = (seen ?? []).map((one) => [plain(one.canary), broken.includes(one.canary), percent(one.share), percent(one.base), `+${percent(one.bar)}`]);
  return h("div", {},
    head(broken.length ? "bad" : "good", broken.length ? "broken" : "in good order", adapter, `live, looked at ${clock(time)}`),
    rows.length > 0 && table("What the canaries found of what was live", ["share", "base", "bar"], rows),
    h("p", { class: "small soft" }, said(what)));
}

const head = (kind, word, adapter, when) => h("div", { class: "row" }, h("span", { class: `pill ${kind}` }, word), h("span", { class: "mono" }, short(adapter)), h("span", { class: "soft small figures" }, when));

function table(caption, columns, rows) {
  return h("div", { class: "scroll" }, h("table", {}, h("caption", { class: "unseen" }, caption),
    h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "canary"), columns.map((name) => h("th", { scope: "col", class: "number" }, name)))),
    h("tbody", {}, rows.map(([name, broken, ...cells]) => h("tr", { class: broken ? "broken" : null }, h("th", { scope: "row" }, broken ? `${name}, broken` : name), cells.map((cell) => h("td", { class: "number" }, cell)))))));
}

/** The newest incident, unless it is the look that is shown. */
function broke([last], looked) {
  if (!last || last.time === looked?.time) return null;
  return h("p", { class: "small soft" }, `Last broken ${clock(last.time)}, ${short(last.adapter)}. ${said(last.what)}`);
}
