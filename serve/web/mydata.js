// What is held about me, and forgetting it.

import { ask, get } from "./api.js";
import { $, confirmed, h } from "./dom.js";

$("mine").addEventListener("click", async () => {
  const place = h("div", { class: "stack" }, h("h2", {}, "My data"), h("p", { class: "soft" }, "Looking…"));
  const dialog = h("dialog", { "aria-label": "My data", on: { close: () => dialog.remove() } }, place);
  document.body.append(dialog);
  dialog.showModal();
  try {
    show(place, dialog, await get("/v1/me"));
  } catch (error) {
    place.lastChild.replaceWith(h("p", { class: "error" }, error.message));
  }
});

function show(place, dialog, held) {
  const votes = held.responses.filter((one) => one.rating).length;
  const forget = h("button", { class: "danger", type: "button", on: { click: () => forgetMe(place) } }, "Forget me");
  place.replaceChildren(
    h("h2", {}, "My data"),
    h("p", {}, `Heed knows this browser as ${held.subject}. It holds ${held.responses.length} of your newest replies and ${votes} votes on them.`),
    h("p", { class: "soft small" }, "Forgetting removes your prompts, replies and votes from every store, and keeps them out of training from then on."),
    h("div", { class: "row" }, forget, h("button", { type: "button", class: "main", on: { click: () => dialog.close() } }, "Close")));
}

async function forgetMe(place) {
  if (!(await confirmed("Forget me?", "All you said and were answered is removed. This cannot be undone.", "Forget me"))) return;
  const note = h("p", { role: "status" }, "Asking…");
  place.append(note);
  try {
    let receipt = await ask("DELETE", "/v1/me");
    while (receipt.status !== "done" && note.isConnected) {
      const clean = Object.entries(receipt.stores ?? {}).filter(([, when]) => when).map(([store]) => store);
      note.textContent = `Under way. Clean so far: ${clean.join(", ") || "nothing yet"}. Receipt ${receipt.id}.`;
      await new Promise((resolve) => setTimeout(resolve, 2000));
      receipt = await get(`/v1/me/receipts/${receipt.id}`);
    }
    note.textContent = `Done: every store is clean. Receipt ${receipt.id}.`;
  } catch (error) {
    note.textContent = error.message;
  }
}
