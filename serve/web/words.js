// A reply's text as elements: headings, paragraphs, lists, quotes, tables, fenced code, and what stands within a line.

import { h } from "./dom.js";

const FENCE = /^\s*```/;
const HEADING = /^(#{1,6})\s+(.+?)\s*#*$/;
const RULE = /^\s*([-*_])(?:\s*\1){2,}\s*$/;
const QUOTE = /^\s*>\s?/;
const ITEM = /^(\s*)([-*•+]|(\d{1,9})[.)])\s+(.*)$/;
const DASHES = /^\s*\|?\s*:?-+:?\s*(?:\|\s*:?-+:?\s*)*\|?\s*$/;
const INLINE = /(`[^`\n]+`|\*\*[^*\n]+\*\*|(?<![*\w])\*[^*\s][^*\n]*\*(?!\w)|~~[^~\n]+~~|\[[^\]\n]+\]\(https?:\/\/[^\s()]+\)|https?:\/\/[^\s<>()]*[^\s<>().,;:!?'"])/;

/** The elements of ``text``. Never HTML: what a model wrote can only become text. */
export function rendered(text) {
  const lines = text.split("\n");
  const blocks = [];
  while (lines.length) {
    if (!lines[0].trim()) lines.shift();
    else blocks.push(block(lines));
  }
  return blocks;
}

/** The first block of ``lines``, which are taken away. */
function block(lines) {
  const heading = HEADING.exec(lines[0]);
  if (FENCE.test(lines[0])) return fenced(lines);
  if (heading && lines.shift()) return h(`h${Math.min(6, heading[1].length + 2)}`, { dir: "auto" }, inline(heading[2]));
  if (RULE.test(lines[0]) && lines.shift()) return h("hr");
  if (QUOTE.test(lines[0])) return h("blockquote", { dir: "auto" }, rendered(taken(lines, (line) => QUOTE.test(line)).map((line) => line.replace(QUOTE, "")).join("\n")));
  if (ITEM.test(lines[0])) return list(lines);
  if (begins(lines, 0)) return table(lines);
  const said = [lines.shift(), ...taken(lines, (line, at) => line.trim() && !begins(lines, at))];
  return h("p", { dir: "auto" }, inline(said.join("\n").trim()));
}

/** Whether another block than a paragraph begins at a line. */
function begins(lines, at) {
  const line = lines[at];
  return [FENCE, HEADING, RULE, QUOTE, ITEM].some((one) => one.test(line)) || (line.includes("|") && DASHES.test(lines[at + 1] ?? "") && lines[at + 1].includes("|"));
}

/** Take the lines off the front for which ``wanted`` holds. */
function taken(lines, wanted) {
  const end = lines.findIndex((line, at) => !wanted(line, at));
  return lines.splice(0, end < 0 ? lines.length : end);
}

function fenced(lines) {
  lines.shift();
  const code = taken(lines, (line) => !FENCE.test(line));
  lines.shift();
  return h("pre", { tabIndex: 0 }, h("code", {}, code.join("\n")));
}

/** A list: each item holds its line, those that are indented under it, and the lines that merely go on. */
function list(lines) {
  const [, indent, , number] = ITEM.exec(lines[0]);
  const made = number ? h("ol", { start: Number(number), dir: "auto" }) : h("ul", { dir: "auto" });
  for (;;) {
    const item = ITEM.exec(lines[0] ?? "");
    if (!item || item[1].length > indent.length + 1 || Boolean(item[3]) !== Boolean(number)) return made;
    lines.shift();
    const inside = taken(lines, (line, at) => goesOn(lines, at, indent.length));
    const parts = rendered([item[4], ...inside.map((line) => line.slice(Math.min(line.search(/\S|$/), indent.length + 2)))].join("\n"));
    made.append(h("li", { dir: "auto" }, parts.length && parts[0].localName === "p" ? [...parts[0].childNodes, ...parts.slice(1)] : parts));
    while (lines.length && !lines[0].trim()) lines.shift();
  }
}

function goesOn(lines, at, indent) {
  const line = lines[at];
  if (!line.trim()) return /^\s{2,}\S/.test(lines[at + 1] ?? "") && lines[at + 1].search(/\S/) > indent + 1;
  return line.search(/\S/) > indent + 1 || !(begins(lines, at) || !lines[at - 1]?.trim() && at > 0);
}

function table(lines) {
  const cells = (line) => line.trim().replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim());
  const head = cells(lines.shift());
  lines.shift();
  const rows = taken(lines, (line) => line.includes("|")).map((line) => h("tr", {}, cells(line).slice(0, head.length).map((cell) => h("td", { dir: "auto" }, inline(cell)))));
  return h("div", { class: "scroll", tabIndex: 0 }, h("table", {}, h("thead", {}, h("tr", {}, head.map((cell) => h("th", { scope: "col", dir: "auto" }, inline(cell))))), h("tbody", {}, rows)));
}

function inline(text) {
  return text.split(INLINE).filter(Boolean).map((part) => {
    const link = /^(?:\[(.+)\]\()?(https?:\/\/[^\s()]+)\)?$/.exec(part);
    if (link) return h("a", { href: link[2], target: "_blank", rel: "noopener noreferrer nofollow", title: link[2] }, link[1] ?? link[2]);
    if (!INLINE.test(part)) return part;
    if (part.startsWith("`")) return h("code", {}, part.slice(1, -1));
    if (part.startsWith("**")) return h("strong", {}, inline(part.slice(2, -2)));
    if (part.startsWith("~~")) return h("del", {}, inline(part.slice(2, -2)));
    return h("em", {}, inline(part.slice(1, -1)));
  });
}

/** A writer that draws what it is given at most once a frame, and only what changed, so that a selection in what
 * stands already survives; ``end`` draws the last of it.
 */
export function writer(place) {
  let text = "";
  let drawing = 0;
  const draw = () => {
    drawing = 0;
    place.classList.toggle("waiting", !text);
    const blocks = rendered(text);
    const same = blocks.findIndex((one, at) => !place.children[at]?.isEqualNode(one));
    const kept = same < 0 ? blocks.length : same;
    while (place.children.length > kept) place.lastChild.remove();
    place.append(...blocks.slice(kept));
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
