// The experiments page: choose one, read its report, ramp or stop it, start another.

import { ask, get, post } from "./api.js";
import { $, confirmed, h } from "./dom.js";
import { newExperiment } from "./newexperiment.js";
import { drawReport } from "./report.js";
import "./ready.js";

const EVERY = 5000; // milliseconds
let chosen = decodeURIComponent(location.hash.slice(1)) || null;
let known = [];
let drawn = "";

function drawList() {
  const items = [...known].reverse().map((one) => h("li", {}, h("button", { type: "button", "aria-current": String(one.name === chosen), on: { click: () => choose(one.name) } }, one.name, h("span", { class: `pill ${one.status === "running" ? "good" : ""}` }, one.status))));
  $("list").replaceChildren(...(items.length ? items : [h("li", { class: "empty" }, "None yet. The loop opens one for each adapter that passes the gate.")]));
}

function choose(name) {
  chosen = name;
  drawn = "";
  looking();
  location.hash = encodeURIComponent(name);
  drawList();
  refresh();
}

/** The form with a share for each arm, in per cent; kept out of the report so that typing is not disturbed. */
function drawActions(record) {
  if (record.status !== "running") return h("p", { class: "soft" }, "It has stopped: the alias answers with its live adapter.");
  const fields = record.arms.map((arm) => h("label", {}, arm.name, h("span", { class: "row" }, h("input", { type: "number", min: 0, max: 100, step: "any", required: true, name: arm.name, value: String(+(100 * arm.share).toFixed(4)) }), "%")));
  const total = h("span", { class: "small soft", role: "status" });
  const values = () => record.arms.map((arm, at) => [arm.name, Number(fields[at].querySelector("input").value) / 100]);
  const form = h("form", { class: "ramp" }, fields, h("button", { class: "main" }, "Ramp"), h("button", { type: "button", class: "danger", on: { click: stop } }, "Stop"), total);
  const check = () => {
    const sum = values().reduce((all, [, share]) => all + share, 0);
    const fine = Math.abs(sum - 1) < 1e-6;
    total.textContent = fine ? "" : `The shares add up to ${+(100 * sum).toFixed(4)} %, not 100.`;
    return fine;
  };
  form.addEventListener("input", check);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (check()) change(record, { shares: Object.fromEntries(values()) });
  });
  async function stop() {
    if (await confirmed(`Stop ${record.name}?`, "All users go back to the live adapter. No request fails.", "Stop it", "danger")) change(record, { status: "stopped" });
  }
  return form;
}

async function change(record, body) {
  try {
    await ask("PATCH", `/v1/experiments/${encodeURIComponent(record.name)}`, { ...body, reason: "from the experiments page", version: record.version });
    drawn = "";
    await refresh();
  } catch (error) {
    failed(error.status === 409 ? new Error("It changed meanwhile. Look at it again, then decide.") : error);
    drawn = "";
  }
}

function failed(error) {
  $("report").querySelector("[role=status]")?.remove();
  $("error").hidden = false;
  $("error").textContent = error.message;
}

function looking() {
  $("report").hidden = false;
  $("report").replaceChildren(h("p", { class: "card row soft", role: "status" }, h("span", { class: "spin", "aria-hidden": "true" }), "Reading the report…"));
}

async function refresh() {
  try {
    known = (await get("/v1/experiments")).data;
    chosen ??= (known.findLast((one) => one.status === "running") ?? known.at(-1))?.name ?? null;
    drawList();
    const record = known.find((one) => one.name === chosen);
    $("nothing").hidden = Boolean(record);
    if (!record) {
      $("report").hidden = $("acting").hidden = true;
      return;
    }
    act(record);
    const report = await get(`/v1/experiments/${encodeURIComponent(record.name)}/report`);
    if (record.name !== chosen) return;
    $("report").hidden = false;
    $("error").hidden = true;
    $("report").replaceChildren(...drawReport(report, record));
  } catch (error) {
    failed(error);
  }
}

/** The experiment's name and form, drawn anew only when it has changed. */
function act(record) {
  $("acting").hidden = false;
  const now = `${record.name} ${record.version}`;
  if (drawn === now) return;
  drawn = now;
  $("name").textContent = record.name;
  $("actions").replaceChildren(drawActions(record));
}

async function watch() {
  if (!document.hidden) await refresh();
  setTimeout(watch, EVERY);
}

$("make").addEventListener("click", () => newExperiment(async (body) => choose((await post("/v1/experiments", body)).name)));
looking();
watch();
