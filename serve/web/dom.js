// Elements without innerHTML: what people and models wrote is only ever text.

const SVG = "http://www.w3.org/2000/svg";

const ICONS = {
  up: "M7 21H4.5a1.5 1.5 0 0 1-1.5-1.5v-7A1.5 1.5 0 0 1 4.5 11H7m0 10V11m0 10h9.3a2.5 2.5 0 0 0 2.47-2.1l1.2-7A2.5 2.5 0 0 0 17.5 9H13.5V5.5A2.5 2.5 0 0 0 11 3l-4 8",
  down: "M17 3h2.5A1.5 1.5 0 0 1 21 4.5v7a1.5 1.5 0 0 1-1.5 1.5H17m0-10v10m0-10H7.7a2.5 2.5 0 0 0-2.47 2.1l-1.2 7A2.5 2.5 0 0 0 6.5 15h4v3.5A2.5 2.5 0 0 0 13 21l4-8",
  send: "M12 19V5m-6.5 6.5L12 5l6.5 6.5",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  again: "M20 12a8 8 0 1 1-2.34-5.66M20 3v4.5h-4.5",
  plus: "M12 5v14M5 12h14",
  newest: "M12 5v14m6.5-6.5L12 19l-6.5-6.5",
};

/** An element: h("p", {class: "soft", on: {click: f}}, "text", child, …); null children are left out. */
export function h(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, run] of Object.entries(value)) made.addEventListener(event, run);
    else if (name === "class") made.className = value;
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** A line drawing of 24 units, hidden from readers: its button carries the name. */
export function icon(name) {
  const drawn = shape("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" });
  drawn.append(shape("path", { d: ICONS[name], fill: name === "stop" ? "currentColor" : "none", stroke: "currentColor", "stroke-width": "1.8", "stroke-linecap": "round", "stroke-linejoin": "round" }));
  return drawn;
}

/** An SVG element with attributes. */
export function shape(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** The element with this id, which the page is known to have. */
export const $ = (id) => document.getElementById(id);

/** Ask before something that cannot be taken back lightly; true when confirmed. ``kind`` "danger": it destroys. */
export function confirmed(title, text, action, kind = "main") {
  return new Promise((resolve) => {
    const dialog = h("dialog", { "aria-label": title });
    const form = h("form", { method: "dialog" }, h("h2", {}, title), h("p", { class: "soft" }, text),
      h("div", { class: "row" }, h("button", { value: "no" }, "Cancel"), h("button", { value: "yes", class: `main ${kind}` }, action)));
    dialog.append(form);
    dialog.addEventListener("close", () => { resolve(dialog.returnValue === "yes"); dialog.remove(); });
    document.body.append(dialog);
    dialog.showModal();
  });
}
