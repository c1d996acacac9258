// The dialog that starts an experiment: an alias, the adapter to try, and its share.

import { get } from "./api.js";
import { h } from "./dom.js";
import { short } from "./loopstate.js";

/** Ask what to try. ``start`` is given the body of POST /v1/experiments and may throw. */
export async function newExperiment(start) {
  const [aliases, adapters] = await Promise.all([get("/v1/aliases"), get("/v1/adapters")]);
  const alias = h("select", {}, aliases.data.map((one) => h("option", { value: one.name }, one.name)));
  const adapter = h("select", { required: true });
  const share = h("input", { type: "number", min: 0, max: 100, step: "any", value: "10", required: true });
  const name = h("input", { type: "text", required: true, pattern: "[a-z0-9][a-z0-9_.\\-]{0,63}", title: "small letters, digits, - _ .", placeholder: "shorter-replies" });
  const note = h("p", { class: "error", role: "alert", hidden: true });
  const fill = () => {
    const live = aliases.data.find((one) => one.name === alias.value)?.live ?? null;
    const free = adapters.data.filter((one) => one.alias === alias.value && one.id !== live && one.state !== "rejected").reverse();
    adapter.replaceChildren(...free.map((one) => h("option", { value: one.id }, `${short(one.id)} (${one.state})`)), ...(live ? [h("option", { value: "base" }, "base")] : []));
  };
  alias.addEventListener("change", fill);
  fill();
  const dialog = h("dialog", { "aria-label": "New experiment" });
  const submit = async (event) => {
    event.preventDefault();
    const live = aliases.data.find((one) => one.name === alias.value)?.live ?? null;
    const part = Number(share.value) / 100;
    try {
      await start({ name: name.value, alias: alias.value, arms: [{ name: "control", adapter: live, share: 1 - part }, { name: "candidate", adapter: adapter.value === "base" ? null : adapter.value, share: part }] });
      dialog.close();
    } catch (error) {
      note.hidden = false;
      note.textContent = error.message;
    }
  };
  dialog.append(h("form", { class: "make", on: { submit } }, h("h2", {}, "New experiment"),
    h("p", { class: "soft small" }, "The control is what is live now. While it runs, the loop tries no adapter of its own on this alias."),
    h("label", {}, "Name", name), h("label", {}, "Alias", alias), h("label", {}, "Adapter to try", adapter), h("label", {}, "Its share, %", share), note,
    h("div", { class: "row" }, h("button", { type: "button", on: { click: () => dialog.close() } }, "Cancel"), h("button", { class: "main" }, "Start"))));
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
}
