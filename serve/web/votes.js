// The thumbs under a reply: vote, change it, take it back, say why, say what would have been right.

import { call, post } from "./api.js";
import { BAD, GOOD, reasons } from "./criteria.js";
import { h, icon } from "./dom.js";

/** The bar under one reply. ``text`` gives the reply, for copying and as a start for a correction; ``standing`` is
 * the rating that was given before.
 */
export function voteBar(responseId, text, standing = null) {
  let rating = null;
  let busy = false;
  const note = h("span", { class: "note", role: "status" });
  const place = h("div");
  const up = thumb("up", "Good reply", () => press("up"));
  const down = thumb("down", "Bad reply", () => press("down"));
  const why = h("button", { class: "quiet small", type: "button", hidden: true, "aria-expanded": "false", on: { click: () => (place.firstChild ? close() : open()) } }, "Say why");
  const copy = h("button", { class: "quiet", type: "button", "aria-label": "Copy the reply", title: "Copy", on: { click: copied } }, icon("copy"));

  async function copied() {
    try {
      await navigator.clipboard.writeText(text()); // there is no clipboard on plain HTTP from another machine
      tell("Copied");
    } catch {
      tell("The browser does not allow it", "bad");
    }
  }

  function tell(words, kind = "") {
    note.className = `note ${kind}`;
    note.textContent = words;
  }

  function show(now) {
    rating = now;
    up.setAttribute("aria-pressed", String(now === "up"));
    down.setAttribute("aria-pressed", String(now === "down"));
    why.hidden = now === null;
    if (now === null) close();
  }

  function close() {
    if (place.contains(document.activeElement)) why.focus();
    place.replaceChildren();
    why.setAttribute("aria-expanded", "false");
  }

  function open() {
    place.replaceChildren(details(rating, text, (more) => say(rating, more), close, () => report(responseId, tell)));
    why.setAttribute("aria-expanded", "true");
    place.firstChild.scrollIntoView({ block: "nearest" });
  }

  async function press(wanted) {
    if (busy) return;
    if (rating === wanted) return say(null);
    close();
    if ((await say(wanted)) && wanted === "down") open();
  }

  /** Send it; what stood before is shown again when that fails. */
  async function say(wanted, more = {}) {
    const before = rating;
    busy = true;
    show(wanted);
    try {
      const answer = wanted === null
        ? await (await call("DELETE", `/v1/feedback/${responseId}`)).json()
        : await post("/v1/feedback", { response_id: responseId, rating: wanted, ...more });
      told(answer, Object.keys(more).length > 0);
      return true;
    } catch (error) {
      show(before);
      tell(error.status === 410 ? "The time to vote on this reply is over." : error.message, "bad");
      return false;
    } finally {
      busy = false;
    }
  }

  function told(answer, explained) {
    if (answer.status === "spooled") tell("Kept on this machine; it is counted once the store is back", "warn");
    else if (answer.rating === null) tell("Taken back");
    else tell(explained ? "Thank you. Stored" : "Stored");
  }

  show(standing);
  return h("div", { class: "feedback" }, h("div", { class: "votes", role: "group", "aria-label": "Vote on this reply" }, up, down, copy, why, note), place);
}

function thumb(kind, label, run) {
  return h("button", { class: `quiet ${kind}`, type: "button", "aria-label": label, title: label, "aria-pressed": "false", on: { click: run } }, icon(kind));
}

/** The form with reasons, a comment and, for a thumb down, what should have been said. */
function details(rating, text, send, close, report) {
  const why = rating === "up" ? reasons("What was good?", GOOD) : reasons("What was wrong?", BAD);
  const comment = h("input", { type: "text", maxLength: 4000, placeholder: "Anything else? (optional)", "aria-label": "Comment" });
  const correction = h("textarea", { rows: 3, maxLength: 32000, placeholder: "Write the reply you would have wanted", dir: "auto", "aria-label": "What should it have said?" });
  const submit = async (event) => {
    event.preventDefault();
    const said = { reasons: why.chosen(), ...(comment.value.trim() ? { comment: comment.value.trim() } : {}) };
    if (rating === "down" && correction.value.trim()) said.correction = correction.value.trim();
    if (await send(said)) close();
  };
  return h("form", { class: "why", on: { submit, keydown: (event) => event.key === "Escape" && close() } },
    why.element,
    comment,
    rating === "down" && h("div", { class: "field" }, h("span", { class: "name row" }, "What should it have said?", h("button", { class: "quiet small", type: "button", on: { click: () => { correction.value = text(); correction.focus(); } } }, "Start from the reply")), correction),
    h("div", { class: "row" }, h("button", { class: "main" }, "Send"), h("button", { type: "button", on: { click: close } }, "Not now"),
      rating === "down" && h("button", { class: "quiet danger small", type: "button", on: { click: report } }, "Report as unsafe")));
}

async function report(responseId, tell) {
  try {
    const answer = await post("/v1/reports", { response_id: responseId, kind: "unsafe" });
    tell(answer.status === "spooled" ? "The report is kept on this machine until the store is back" : "Reported. People will look at it, and training leaves it out until then");
  } catch (error) {
    tell(error.message, "bad");
  }
}
