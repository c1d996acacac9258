// For the product team, on the annotation page: how far raters agree, and the reports that wait for a verdict.

import { get, post } from "./api.js";
import { $, h } from "./dom.js";
import { rendered } from "./words.js";

const share = (value) => (value === null ? "–" : `${Math.round(100 * value)} %`);

async function agreement() {
  const told = await get(`/v1/annotations/raters?alias=${encodeURIComponent($("alias").value)}`);
  const { ordinal } = told.alpha;
  const words = ordinal === null
    ? "Nothing has been judged by two raters yet."
    : `Krippendorff’s alpha ${ordinal.toFixed(3)} over ${told.shared} of ${told.things} pairs of replies, which several judged. 1 is perfect agreement, 0 is chance.`;
  const heads = ["Rater", "Prompts", "Pairs shared", "Agreement", "Reliability"];
  const rows = told.data.map((one) => h("tr", {}, h("th", { scope: "row" }, one.name), [one.items, one.shared, share(one.agreement), share(one.reliability)].map((cell) => h("td", {}, String(cell)))));
  const table = h("table", {}, h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col" }, head)))), h("tbody", {}, rows));
  return [h("p", { class: "soft" }, words), rows.length > 0 && h("div", { class: "wide", tabIndex: 0, role: "region", "aria-label": "Raters" }, table)];
}

async function reports() {
  const open = (await get("/v1/reports")).data;
  if (!open.length) return [h("p", { class: "soft" }, "No report waits.")];
  return open.map((one) => {
    const said = h("p", { class: "soft small", role: "status" });
    const verdict = (name, words) => h("button", { type: "button", on: { click: (event) => settle(one, name, event.target.closest(".report"), said) } }, words);
    return h("section", { class: "report", "aria-label": `Report of ${one.kind}` },
      h("p", {}, h("strong", {}, one.kind), one.comment && ` · ${one.comment}`),
      (one.messages ?? []).filter((message) => message.role !== "system").map((message) => h("div", { class: `turn ${message.role}`, dir: "auto" }, h("span", { class: "who" }, message.role), message.content)),
      one.text === null ? h("p", { class: "soft" }, "The text is not archived yet, or was not stored.") : h("div", { class: "words reported" }, rendered(one.text)),
      h("div", { class: "row" }, verdict("upheld", "It is unsafe"), verdict("dismissed", "It is fine"), said));
  });
}

async function settle(one, verdict, element, said) {
  try {
    await post(`/v1/reports/${encodeURIComponent(one.id)}`, { verdict });
    element.replaceChildren(h("p", { class: "soft", role: "status" }, verdict === "upheld" ? "Upheld: it stays out of training." : "Dismissed: it counts again."));
  } catch (error) {
    said.textContent = error.message;
  }
}

/** Filled when it is opened: raters' own keys may not see it. */
function lazily(id, fill) {
  $(id).addEventListener("toggle", async () => {
    if (!$(id).open) return;
    const place = $(id).lastElementChild;
    try {
      place.replaceChildren(...(await fill()).filter(Boolean));
    } catch (error) {
      place.replaceChildren(h("p", { class: "soft", role: "status" }, error.message));
    }
  });
}

lazily("agreement", agreement);
lazily("reports", reports);
