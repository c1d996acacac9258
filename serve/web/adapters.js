// The adapters of an alias: state, why, the gate's checks, and what a person may do about it.

import { post } from "./api.js";
import { drawRun } from "./curve.js";
import { confirmed, h } from "./dom.js";
import { ago, counted, figure, short } from "./loopstate.js";

const KIND = { live: "good", canary: "warn", candidate: "warn", rejected: "bad", retired: "" };
const open = new Set(); // ids whose details are unfolded

/** One row an adapter. ``refresh`` is called after a change, ``failed`` with what went wrong. */
export function drawAdapters(adapters, refresh, failed) {
  return adapters.slice(0, 12).map((adapter) => {
    const details = h("details", { open: open.has(adapter.id), on: { toggle: () => (details.open ? open.add(adapter.id) : open.delete(adapter.id)) } },
      h("summary", {},
        h("span", { class: `pill ${KIND[adapter.state] ?? ""}` }, adapter.state),
        h("span", { class: "mono" }, short(adapter.id)),
        h("span", { class: "soft small reason" }, adapter.reason ?? ""),
        h("span", { class: "soft small figures age" }, ago(adapter.created))),
      inside(adapter, refresh, failed));
    return h("li", {}, details);
  });
}

function inside(adapter, refresh, failed) {
  const act = async (path, title, text, action) => {
    if (!(await confirmed(title, text, action))) return;
    try {
      await post(path, { reason: "from the loop page" });
      refresh();
    } catch (error) {
      failed(error);
    }
  };
  const path = `/v1/adapters/${adapter.id}`;
  const may = (states) => states.includes(adapter.state);
  return h("div", { class: "inside" },
    h("p", { class: "small soft" }, h("span", { class: "mono" }, adapter.id), ` · continued from ${adapter.parent ? short(adapter.parent) : "the base"} · ready on ${counted(adapter.engines_ready?.length ?? 0, "engine")}`),
    adapter.reason && h("p", { class: "small" }, adapter.reason),
    run(adapter.training),
    adapter.gate && gate(adapter.gate),
    h("div", { class: "row" },
      may(["candidate", "canary", "retired"]) && h("button", { type: "button", on: { click: () => act(`${path}/promote`, `Make ${short(adapter.id)} live?`, "It answers all chats of the alias from now on. What is live now is kept to roll back to.", "Make it live") } }, "Make it live"),
      may(["candidate", "canary"]) && h("button", { type: "button", class: "danger", on: { click: () => act(`${path}/retire`, `Retire ${short(adapter.id)}?`, "It will not be tried any further.", "Retire") } }, "Retire")));
}

/** How its PPO run went. */
function run(training) {
  const ppo = training?.ppo;
  if (!ppo) return null;
  return h("div", { class: "inside" },
    h("p", { class: "small soft figures" }, `PPO: ${figure(ppo.samples)} samples in ${figure(ppo.steps)} steps, reward ${figure(ppo.reward_first)} to ${figure(ppo.reward_last)}${ppo.stopped ? `; ended: ${ppo.stopped}` : ""}`),
    drawRun(training.curve ?? []));
}

function gate(report) {
  const rows = (report.checks ?? []).map((check) => h("tr", {},
    h("td", {}, h("span", { class: `pill ${check.verdict === "passed" ? "good" : "bad"}` }, check.verdict)),
    h("td", {}, String(check.check).replaceAll("_", " ")),
    h("td", { class: "number" }, figure(check.value)),
    h("td", { class: "number" }, figure(check.bar)),
    h("td", { class: "soft" }, check.why ?? "")));
  return h("div", { class: "scroll" }, h("table", {}, h("caption", { class: "unseen" }, "The gate's checks"),
    h("thead", {}, h("tr", {}, ["verdict", "check", "value", "bar", "why"].map((name, at) => h("th", { scope: "col", class: at === 2 || at === 3 ? "number" : "" }, name)))), h("tbody", {}, rows)));
}
