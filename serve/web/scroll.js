// Follows the newest words, until the reader scrolls up to read; a button leads back.

import { $ } from "./dom.js";

const NEAR = 48; // pixels from the end that still count as being there
let follows = true;
let last = 0; // where the page stood when it was last scrolled

const gap = () => {
  const page = document.scrollingElement;
  return page.scrollHeight - page.scrollTop - page.clientHeight;
};

/** Show the end, if the reader is there; ``always`` wherever the reader is. */
export function follow(always = false) {
  follows ||= always;
  if (follows) document.scrollingElement.scrollTop = document.scrollingElement.scrollHeight;
  $("newest").hidden = follows;
}

function moved() {
  const now = document.scrollingElement.scrollTop;
  const up = now < last;
  last = now;
  if (gap() <= 1) follows = true;
  else if (up) follows = false;
  else follows ||= gap() < NEAR;
  $("newest").hidden = follows;
}

addEventListener("scroll", moved, { passive: true });
addEventListener("wheel", (event) => { if (event.deltaY < 0) follows = false; }, { passive: true }); // at once: a scroll is told late

new ResizeObserver(() => {
  if (document.querySelector('#log [aria-busy="true"]')) follow();
}).observe($("log"));

$("newest").addEventListener("click", () => follow(true));
