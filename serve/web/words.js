// A reply's text as elements: paragraphs, lists, fenced code, and within a line code, bold and italics.

import { h } from "./dom.js";

const INLINE = /(`[^`\n]+`|\*\*[^*\n]+\*\*|(?<![*\w])\*[^*\s][^*\n]*\*(?!\w))/;

/** The elements of ``text``. Never HTML: what a model wrote can only become text. */
export function rendered(text) {
  const blocks = [];
  const fenced = text.split(/^```[^\n]*\n?/m);
  fenced.forEach((part, index) => {
    if (index % 2) blocks.push(h("pre", {}, h("code", {}, part.replace(/\n$/, ""))));
    else blocks.push(...paragraphs(part));
  });
  return blocks;
}

function paragraphs(text) {
  return text.split(/\n{2,}/).map((part) => part.replace(/^\n+|\s+$/g, "")).filter(Boolean).flatMap(block);
}

function block(text) {
  const lines = text.split("\n");
  const first = lines.findIndex((line) => bullet(line) !== null);
  if (first < 0) return [h("p", {}, ...inline(text))];
  const made = first ? [h("p", {}, ...inline(lines.slice(0, first).join("\n")))] : [];
  const numbered = /^\s*\d/.test(lines[first]);
  const list = h(numbered ? "ol" : "ul");
  for (const line of lines.slice(first)) {
    const item = bullet(line);
    if (item !== null) list.append(h("li", {}, ...inline(item)));
    else list.lastChild.append("\n", ...inline(line.trim()));
  }
  return [...made, list];
}

function bullet(line) {
  const found = /^\s*(?:[-*•]|\d+[.)])\s+(.*)$/.exec(line);
  return found ? found[1] : null;
}

function inline(text) {
  return text.split(INLINE).filter(Boolean).map((part) => {
    if (part.length > 2 && part.startsWith("`") && part.endsWith("`")) return h("code", {}, part.slice(1, -1));
    if (part.length > 4 && part.startsWith("**") && part.endsWith("**")) return h("strong", {}, part.slice(2, -2));
    if (part.length > 2 && part.startsWith("*") && part.endsWith("*")) return h("em", {}, part.slice(1, -1));
    return part;
  });
}

/** A writer that draws what it is given at most once a frame; ``end`` draws the last of it. */
export function writer(place) {
  let text = "";
  let drawing = 0;
  const draw = () => {
    drawing = 0;
    place.classList.toggle("waiting", !text);
    place.replaceChildren(...rendered(text));
  };
  place.classList.add("waiting", "streaming");
  return {
    get text() { return text; },
    add(more) {
      text += more;
      drawing ||= requestAnimationFrame(draw);
    },
    end() {
      cancelAnimationFrame(drawing);
      draw();
      place.classList.remove("waiting", "streaming");
    },
  };
}
