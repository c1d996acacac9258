// The annotation page: the next prompt with its replies, blind, and the rater's choice.

import { get, post } from "./api.js";
import { EITHER, learnCriteria, reasons } from "./criteria.js";
import { $, h } from "./dom.js";
import { choices } from "./sides.js";
import { rendered } from "./words.js";
import "./ready.js";

let done = 0;
let busy = false;

async function next() {
  busy = true;
  $("work").replaceChildren(h("p", { class: "card row soft", role: "status" }, h("span", { class: "spin", "aria-hidden": "true" }), "Getting a prompt and fresh replies…"));
  try {
    show(await get(`/v1/annotations/next?alias=${encodeURIComponent($("alias").value)}`));
  } catch (error) {
    const again = h("button", { type: "button", on: { click: next } }, "Look again");
    const words = error.code === "no_annotation" ? "No prompt is left that you have not seen. New ones come as people chat." : error.message;
    $("work").replaceChildren(h("div", { class: "card nothing" }, h("p", { role: "status" }, words), again));
  } finally {
    busy = false;
  }
}

function show(task) {
  const turns = task.messages.filter((one) => one.role !== "system").map((one) => h("div", { class: `turn ${one.role}`, dir: "auto" }, h("span", { class: "who" }, one.role), one.content));
  const many = task.choices.length > 2;
  const why = reasons("What decided it? (optional)", EITHER);
  const comment = h("input", { type: "text", maxLength: 4000, placeholder: "Anything else? (optional)", "aria-label": "Comment" });
  const say = (what) => rate({ ...what, reasons: why.chosen(), ...(comment.value.trim() ? { comment: comment.value.trim() } : {}) });
  const ranks = task.choices.map((_, at) => h("select", { "aria-label": `Rank of reply ${at + 1}` }, task.choices.map((__, rank) => h("option", { value: rank }, rank ? String(rank + 1) : "1, the best"))));
  const send = h("button", { type: "button", class: "main", "data-key": "1", on: { click: () => say({ ranking: grouped(task, ranks) }) } }, "Send the ranking; equal ranks are ties", h("kbd", { "aria-hidden": "true" }, "1"));
  const sides = task.choices.map((choice, at) => h("section", { class: "side", "aria-label": `Reply ${at + 1}` },
    h("h2", {}, many ? `Reply ${at + 1}` : ["Left", "Right"][at]), h("div", { class: "words" }, rendered(choice.message.content ?? "")),
    many && h("label", { class: "row small" }, "Rank", ranks[at])));
  $("work").replaceChildren(
    h("section", { class: "card prompt", "aria-label": "Prompt" }, turns),
    h("div", { class: `pair ${many ? "many" : ""}` }, sides),
    h("div", { class: "why" }, why.element, comment),
    h("div", { class: "choice", role: "group", "aria-label": "Which reply is better?" }, many ? send : choices((preferred) => say({ comparison_id: task.comparison_id, preferred })),
      h("button", { type: "button", class: "quiet", "data-key": "5", on: { click: next } }, "Skip", h("kbd", { "aria-hidden": "true" }, "5"))));
}

/** The responses in groups of one rank, best first. */
const grouped = (task, ranks) => task.choices.map((_, rank) => task.choices.filter((__, at) => Number(ranks[at].value) === rank).map((choice) => choice.response_id)).filter((group) => group.length);

async function rate(body) {
  if (busy) return;
  busy = true;
  try {
    await post("/v1/comparisons", body);
    $("error").hidden = true;
    done += 1;
    $("done").textContent = `${done} rated in this tab`;
    next();
  } catch (error) {
    failed(error);
    busy = false;
  }
}

function failed(error) {
  $("error").hidden = false;
  $("error").textContent = error.message;
}

/** What the raters of this alias are to judge by, and then its first prompt. */
async function begin() {
  const record = await learnCriteria($("alias").value);
  $("guidelines").hidden = !record?.guidelines;
  $("guidelines").lastElementChild.textContent = record?.guidelines ?? "";
  next();
}

async function start() {
  try {
    const names = (await get("/v1/models")).data.map((model) => model.id).filter((name) => !name.includes(":"));
    $("alias").replaceChildren(...names.map((name) => h("option", { value: name }, name)));
    if (names.includes("heed")) $("alias").value = "heed";
    $("alias-field").hidden = names.length < 2;
  } catch (error) {
    failed(error);
  }
  begin();
}

$("alias").addEventListener("change", begin);
start();
