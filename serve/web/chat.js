// The chat page: a conversation, its replies as they stream, and what becomes of them.

import { call, events, get } from "./api.js";
import { $, h, icon } from "./dom.js";
import { doubt, ready } from "./ready.js";
import { choose, columns, compare } from "./sides.js";
import { learnCriteria, voteBar } from "./votes.js";
import { writer } from "./words.js";

const log = $("log");
const composer = $("composer");
const text = $("text");
const send = $("send");
const sides = $("sides");
const learn = $("learn");
const alias = $("alias");
const welcome = $("welcome");

let messages = [];
let running = null; // the AbortController of the turn being answered

/** One turn: the user's message is in ``messages`` already. */
async function answer() {
  const mine = messages;
  const turn = (running = new AbortController());
  working(true);
  const draw = sides.checked ? both : single;
  try {
    await ready();
    if (!turn.signal.aborted) await draw(mine, turn.signal);
  } finally {
    if (running === turn) {
      running = null;
      working(false);
    }
  }
}

async function single(mine, signal) {
  const words = h("div", { class: "words" });
  const place = h("article", { class: "said reply", "aria-label": "Reply", "aria-busy": "true" }, words);
  add(place);
  const written = writer(words);
  let id = null;
  let failure = null;
  try {
    const body = { model: alias.value, messages: mine, stream: true, ...(learn.checked ? {} : { store: false }) };
    const response = await call("POST", "/v1/chat/completions", body, { signal });
    for await (const chunk of events(response)) {
      id = chunk.id;
      written.add(chunk.choices[0]?.delta?.content ?? "");
      follow();
    }
  } catch (error) {
    failure = error;
  }
  written.end();
  place.setAttribute("aria-busy", "false");
  if (written.text) {
    mine.push({ role: "assistant", content: written.text });
    const stored = learn.checked && id;
    place.append(stored ? voteBar(id, () => written.text) : h("p", { class: "soft small" }, "Not kept, so it cannot be voted on."));
  }
  ended(place, failure, Boolean(written.text));
}

async function both(mine, signal) {
  const drawn = columns();
  add(drawn.element);
  document.querySelector("main").classList.add("wide");
  let failure = null;
  try {
    const { id, texts } = await compare(alias.value, mine, drawn, signal);
    const at = mine.length;
    mine[at] = { role: "assistant", content: texts[0] };
    choose(id, texts, drawn, (chosen) => {
      mine[at] = { role: "assistant", content: chosen };
      text.focus();
    });
  } catch (error) {
    failure = error;
  }
  ended(drawn.element, failure, false);
}

/** Say what went wrong, and offer to try again when nothing came of the turn. */
function ended(place, failure, said) {
  if (failure === null) return follow();
  if (failure.name === "AbortError") {
    if (!said) place.remove();
    return undefined;
  }
  if (failure.status === 503 || failure.status === 502 || failure.code === "unreachable") doubt();
  const wait = failure.retryAfter ? ` Try again in ${failure.retryAfter} s.` : "";
  const again = h("button", { type: "button", on: { click: () => { place.remove(); answer(); } } }, icon("again"), "Try again");
  place.append(h("div", { class: "row" }, h("p", { class: "error", role: "alert" }, failure.message + wait), said ? null : again));
  return follow();
}

function add(element) {
  welcome.hidden = true;
  log.append(element);
  follow(true);
}

/** Keep the newest words in view, unless the reader has scrolled up. */
function follow(always = false) {
  const page = document.scrollingElement;
  if (always || page.scrollHeight - page.scrollTop - page.clientHeight < 160) page.scrollTop = page.scrollHeight;
}

function working(busy) {
  send.replaceChildren(icon(busy ? "stop" : "send"));
  send.setAttribute("aria-label", busy ? "Stop" : "Send");
  sides.disabled = busy;
}

function say(words) {
  if (!words || running) return;
  messages.push({ role: "user", content: words });
  add(h("div", { class: "said user" }, words));
  text.value = "";
  answer();
}

function fresh() {
  running?.abort();
  messages = [];
  log.replaceChildren();
  welcome.hidden = false;
  document.querySelector("main").classList.toggle("wide", sides.checked);
  text.focus();
}

async function aliases() {
  try {
    const { data } = await get("/v1/models");
    const names = data.map((model) => model.id).filter((name) => !name.includes(":")); // pinned ones would unblind
    if (names.length) alias.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
    if (names.includes("heed")) alias.value = "heed";
    $("alias-field").hidden = names.length < 2;
    await learnCriteria(alias.value);
  } catch {
    setTimeout(aliases, 3000);
  }
}

composer.addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) running.abort();
  else say(text.value.trim());
});
text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  say(text.value.trim());
});
for (const button of document.querySelectorAll(".ask")) button.addEventListener("click", () => say(button.textContent));
sides.addEventListener("change", () => {
  learn.disabled = sides.checked; // a comparison that is not kept would be for nothing
  if (sides.checked) learn.checked = true;
  document.querySelector("main").classList.toggle("wide", sides.checked || log.querySelector(".pair") !== null);
});
alias.addEventListener("change", () => { fresh(); learnCriteria(alias.value); });
$("new").addEventListener("click", fresh);
working(false);
aliases();
text.focus();
