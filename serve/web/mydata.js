// What is held about me, and forgetting it.

import { ask, get } from "./api.js";
import { $, confirmed, h } from "./dom.js";
import { ago } from "./loopstate.js";

const LISTED = 100; // the most replies that GET /v1/me?recent=true tells of

$("mine").addEventListener("click", async () => {
  const place = h("div", { class: "stack" }, h("h2", {}, "My data"), h("p", { class: "soft" }, "Looking…"));
  const dialog = h("dialog", { "aria-label": "My data", on: { close: () => dialog.remove() } }, place);
  document.body.append(dialog);
  dialog.showModal();
  try {
    show(place, dialog, await get("/v1/me?recent=true"));
  } catch (error) {
    place.lastChild.replaceWith(h("p", { class: "error", role: "alert" }, error.message));
    place.append(closing(dialog));
  }
});

const closing = (dialog, ...before) => h("div", { class: "row" }, before, h("button", { type: "button", class: "main", on: { click: () => dialog.close() } }, "Close"));
const counted = (count, one, many) => `${count}${count === LISTED ? " or more" : ""} ${count === 1 ? one : many}`;

function show(place, dialog, held) {
  const voted = held.responses.filter((one) => one.rating);
  place.replaceWith(h("div", { class: "stack" },
    h("h2", {}, "My data"),
    h("p", {}, "Heed knows this browser as ", h("code", {}, held.subject), `. It holds ${counted(held.responses.length, "reply", "replies")} to you and ${counted(voted.length, "vote", "votes")} on them.`),
    voted.length > 0 && h("ul", { class: "held small", tabIndex: 0, "aria-label": "My votes" }, voted.map(line)),
    h("p", { class: "soft small" }, "Forgetting removes your prompts, replies and votes from every store, and keeps them out of training from then on."),
    closing(dialog, h("button", { class: "danger", type: "button", on: { click: (event) => forgetMe(event.target) } }, "Forget me"))));
}

/** One vote: when, what, and why. */
function line(one) {
  const why = [one.reasons.join(", "), one.comment && `“${one.comment}”`, one.correction && `better: “${one.correction}”`].filter(Boolean).join("; ");
  return h("li", { dir: "auto" }, h("strong", {}, one.rating === "up" ? "good" : "bad"), ` ${ago(one.time)}`, why && `: ${why}`);
}

async function forgetMe(button) {
  if (!(await confirmed("Forget me?", "All you said and were answered is removed. This cannot be undone.", "Forget me", "danger"))) return;
  const note = h("p", { role: "status" }, "Asking…");
  button.closest(".stack").append(note);
  button.disabled = true;
  try {
    let receipt = await ask("DELETE", "/v1/me");
    document.dispatchEvent(new Event("forgotten"));
    while (receipt.status !== "done" && note.isConnected) {
      const clean = Object.entries(receipt.stores ?? {}).filter(([, when]) => when).map(([store]) => store);
      note.textContent = `Under way. Clean so far: ${clean.join(", ") || "nothing yet"}. Receipt ${receipt.id}.`;
      await new Promise((resolve) => setTimeout(resolve, 2000));
      receipt = await get(`/v1/me/receipts/${receipt.id}`);
    }
    note.textContent = `Done: every store is clean. Receipt ${receipt.id}.`;
  } catch (error) {
    note.textContent = error.message;
    button.disabled = false;
  }
}
