// The chat page: a conversation, its replies as they stream, and what becomes of them.

import { call, events, get } from "./api.js";
import { learnCriteria } from "./criteria.js";
import { $, h, icon } from "./dom.js";
import { doubt, ready } from "./ready.js";
import { follow } from "./scroll.js";
import { choose, columns, compare } from "./sides.js";
import { begin, clear, drop, messagesFor, restore, save } from "./turns.js";
import { voteBar } from "./votes.js";
import { rendered, writer } from "./words.js";

const log = $("log");
const text = $("text");
const send = $("send");
const sides = $("sides");
const learn = $("learn");
const alias = $("alias");

let running = null; // the AbortController of the turn being answered

/** Answer one turn, side by side when its two replies are asked for. */
async function answer(turn) {
  const mine = (running = new AbortController());
  working(true);
  try {
    await (turn.paired ? both : single)(turn, mine.signal);
  } finally {
    if (running === mine) {
      running = null;
      working(false);
      follow();
    }
  }
}

async function single(turn, signal) {
  const words = h("div", { class: "words" });
  const place = reply(words);
  add(place);
  const written = writer(words);
  let id = null;
  let failure = null;
  try {
    await ready(signal);
    const body = { model: alias.value, messages: messagesFor(turn), stream: true, ...(turn.kept ? {} : { store: false }) };
    const response = await call("POST", "/v1/chat/completions", body, { signal });
    for await (const chunk of events(response)) {
      id = chunk.id;
      written.add(chunk.choices[0]?.delta?.content ?? "");
    }
  } catch (error) {
    failure = error;
  }
  written.end();
  if (written.text) {
    Object.assign(turn, { text: written.text, id });
    place.append(under(turn));
  }
  ended(place, turn, failure);
}

const reply = (words) => h("article", { class: "said reply", "aria-label": "Reply", "aria-busy": "true" }, words);
const under = (turn, rating) => (turn.kept && turn.id ? voteBar(turn.id, () => turn.text, rating) : h("p", { class: "soft small" }, "Not kept, so it cannot be voted on."));

async function both(turn, signal) {
  const drawn = columns();
  add(drawn.element);
  let failure = null;
  try {
    await ready(signal);
    const { id, texts } = await compare(alias.value, messagesFor(turn), drawn, signal);
    Object.assign(turn, { text: texts[0], sides: { id, texts, preferred: null } });
    offer(turn, drawn);
    if (document.activeElement === document.body || document.activeElement === text && !text.value) drawn.element.querySelector(".choice button").focus({ preventScroll: true });
  } catch (error) {
    failure = error;
  }
  ended(drawn.element, turn, failure);
}

/** The choice between a turn's two replies; the conversation goes on from the one that was chosen. */
function offer(turn, drawn) {
  choose(turn.sides, drawn, (preferred) => {
    turn.sides.preferred = preferred;
    turn.text = turn.sides.texts[preferred === 1 ? 1 : 0];
    save(alias.value);
    text.focus();
  });
}

/** Keep what was answered; say what went wrong, and offer to try again. A turn that was stopped before its first
 * word goes back into the message box.
 */
function ended(place, turn, failure) {
  place.setAttribute("aria-busy", "false");
  if (turn.text) save(alias.value);
  if (failure === null) return tell(turn.sides ? "Two replies are there. Which is better?" : `Reply: ${turn.text}`);
  if (failure.name === "AbortError") return turn.text ? tell("Stopped.") : undo(place, turn);
  if (failure.status === 503 || failure.status === 502 || failure.code === "unreachable") doubt();
  const wait = failure.retryAfter ? ` Try again in ${failure.retryAfter} s.` : "";
  const again = h("button", { type: "button", class: "again", on: { click: () => { place.remove(); delete turn.text; answer(turn); } } }, icon("again"), "Try again");
  place.append(h("div", { class: "row" }, h("p", { class: "error", role: "alert" }, failure.message + wait), again));
  return undefined;
}

function undo(place, turn) {
  if (!place.isConnected) return; // a new chat was begun
  place.previousElementSibling.remove();
  place.remove();
  drop(turn);
  text.value ||= turn.said;
  $("welcome").hidden = log.childElementCount > 0;
}

/** To those who listen: once a reply is there, never word by word. */
function tell(words) {
  $("told").textContent = words;
}

function add(element) {
  $("welcome").hidden = true;
  log.append(element);
  follow(true);
}

function working(busy) {
  send.replaceChildren(icon(busy ? "stop" : "send"));
  send.setAttribute("aria-label", busy ? "Stop" : "Send");
  send.title = busy ? "Stop (Esc)" : "Send (Enter)";
  sides.disabled = busy;
  if (busy) tell("The reply is being written.");
}

const bubble = (words) => h("div", { class: "said user", dir: "auto" }, words);

function say(words) {
  if (!words || running) return;
  for (const button of log.querySelectorAll(".again")) button.remove(); // of turns that are past now
  const turn = Object.assign(begin(words, learn.checked), { paired: sides.checked });
  add(bubble(words));
  text.value = "";
  answer(turn);
}

function fresh() {
  running?.abort();
  clear();
  log.replaceChildren();
  $("welcome").hidden = false;
  text.focus();
}

/** What this tab said before a reload, with the votes on it as the gateway holds them. */
async function resume() {
  const { alias: spoken, turns } = restore();
  if (!turns.length) return;
  const held = await get("/v1/me?recent=true").then((me) => new Map(me.responses.map((one) => [one.response_id, one.rating])), () => new Map());
  if (running || log.childElementCount) return;
  if ([...alias.options].some((one) => one.value === spoken)) alias.value = spoken;
  for (const turn of turns) {
    add(bubble(turn.said));
    if (!turn.sides) add(settled(reply(h("div", { class: "words" }, rendered(turn.text))), under(turn, held.get(turn.id))));
    else {
      const drawn = columns(turn.sides.texts);
      add(settled(drawn.element));
      offer(turn, drawn);
    }
  }
}

function settled(place, ...more) {
  place.setAttribute("aria-busy", "false");
  place.append(...more);
  return place;
}

async function aliases() {
  try {
    const { data } = await get("/v1/models");
    const names = data.map((model) => model.id).filter((name) => !name.includes(":")); // pinned ones would unblind
    if (names.length) alias.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
    if (names.includes("heed")) alias.value = "heed";
    $("alias-field").hidden = names.length < 2;
  } catch {
    setTimeout(aliases, 3000);
    return;
  }
  await learnCriteria(alias.value);
  await resume();
}

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if (running) running.abort();
  else say(text.value.trim());
});
text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  say(text.value.trim());
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && running && !document.querySelector("dialog[open]")) running.abort();
});
for (const button of document.querySelectorAll(".ask")) button.addEventListener("click", () => say(button.textContent));
sides.addEventListener("change", () => {
  learn.disabled = sides.checked; // a comparison that is not kept would be for nothing
  if (sides.checked) learn.checked = true;
});
alias.addEventListener("change", () => { fresh(); learnCriteria(alias.value); });
$("new").addEventListener("click", fresh);
document.addEventListener("forgotten", fresh);
$("new").replaceChildren(icon("plus"), h("span", {}, "New chat"));
$("newest").append(icon("newest"));
working(false);
aliases();
text.focus();
