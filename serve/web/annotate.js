// The annotation page: the next prompt with its replies, blind, and the rater's choice.

import { get, post } from "./api.js";
import { $, h } from "./dom.js";
import { rendered } from "./words.js";
import "./ready.js";

const CHOICES = [[0, "← Left is better", "1"], ["tie", "Both good", "2"], ["both_bad", "Both bad", "3"], [1, "Right is better →", "4"]];
let done = 0;
let busy = false;

async function next() {
  busy = true;
  $("work").replaceChildren(h("p", { class: "card row soft" }, h("span", { class: "spin", "aria-hidden": "true" }), "Getting a prompt and fresh replies…"));
  try {
    show(await get(`/v1/annotations/next?alias=${encodeURIComponent($("alias").value)}`));
  } catch (error) {
    const again = h("button", { type: "button", on: { click: next } }, "Look again");
    const words = error.code === "no_annotation" ? "No prompt is left that you have not seen. New ones come as people chat." : error.message;
    $("work").replaceChildren(h("div", { class: "card row" }, h("p", { role: "status" }, words), again));
  } finally {
    busy = false;
  }
}

function show(task) {
  const turns = task.messages.filter((one) => one.role !== "system").map((one) => h("div", { class: `turn ${one.role}` }, h("span", { class: "who" }, one.role), one.content));
  const many = task.choices.length > 2;
  const sides = task.choices.map((choice, at) => h("section", { class: "side", "aria-label": `Reply ${at + 1}` },
    h("h3", {}, many ? `Reply ${at + 1}` : ["Left", "Right"][at]), h("div", { class: "words" }, rendered(choice.message.content ?? "")),
    many && h("button", { type: "button", on: { click: () => say({ ranking: best(task, at) }) } }, "This is the best")));
  const buttons = many ? [] : CHOICES.map(([preferred, label, key]) => h("button", { type: "button", "data-key": key, on: { click: () => say({ comparison_id: task.comparison_id, preferred }) } }, label, h("kbd", { "aria-hidden": "true" }, key)));
  $("work").replaceChildren(
    h("section", { class: "card prompt", "aria-label": "Prompt" }, turns),
    h("div", { class: `pair ${many ? "many" : ""}` }, sides),
    h("div", { class: "choice", role: "group", "aria-label": "Which reply is better?" }, buttons, h("button", { type: "button", class: "quiet", "data-key": "5", on: { click: next } }, "Skip", h("kbd", { "aria-hidden": "true" }, "5"))));
}

const best = (task, at) => [[task.choices[at].response_id], task.choices.filter((_, other) => other !== at).map((choice) => choice.response_id)];

async function say(body) {
  if (busy) return;
  busy = true;
  try {
    await post("/v1/comparisons", body);
    done += 1;
    $("done").textContent = `${done} rated in this tab`;
    next();
  } catch (error) {
    $("error").hidden = false;
    $("error").textContent = error.message;
    busy = false;
  }
}

document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, textarea, select, dialog") || event.ctrlKey || event.metaKey || event.altKey) return;
  document.querySelector(`.choice [data-key="${CSS.escape(event.key)}"]`)?.click();
});

async function start() {
  try {
    const names = (await get("/v1/models")).data.map((model) => model.id).filter((name) => !name.includes(":"));
    $("alias").replaceChildren(...names.map((name) => h("option", { value: name }, name)));
    if (names.includes("heed")) $("alias").value = "heed";
    $("alias-field").hidden = names.length < 2;
  } catch (error) {
    $("error").hidden = false;
    $("error").textContent = error.message;
  }
  next();
}

$("alias").addEventListener("change", next);
start();
