// The conversation of this tab: what was said and answered, kept over a reload and no longer than the tab.

const STORE = "heed-chat";

// A turn: {said, kept} and once answered either {text, id} or {text, sides: {id, texts, preferred}}.
let turns = [];

/** A new turn at the end. ``kept`` false: it is forgotten with the page. */
export function begin(said, kept) {
  const turn = { said, kept };
  turns.push(turn);
  return turn;
}

/** The messages that ask for a turn's reply: the answered ones before it, and its own. */
export function messagesFor(turn) {
  const before = turns.slice(0, turns.indexOf(turn)).filter((one) => one.text);
  return [...before.flatMap((one) => [user(one), { role: "assistant", content: one.text }]), user(turn)];
}

const user = (turn) => ({ role: "user", content: turn.said });

/** Take back a turn that has no reply. */
export function drop(turn) {
  turns = turns.filter((one) => one !== turn);
}

/** Start over. */
export function clear() {
  turns = [];
  sessionStorage.removeItem(STORE);
}

/** Write down what is to survive a reload, for the alias that answers. */
export function save(alias) {
  const kept = turns.filter((one) => one.kept && one.text);
  try {
    sessionStorage.setItem(STORE, JSON.stringify({ alias, turns: kept }));
  } catch {
    sessionStorage.removeItem(STORE); // over the browser's quota: then a reload begins anew
  }
}

/** Take up what was saved: the alias it was said to, and its turns. */
export function restore() {
  const found = JSON.parse(sessionStorage.getItem(STORE)) ?? { alias: null, turns: [] };
  turns = found.turns;
  return found;
}
