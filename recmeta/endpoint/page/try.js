// A visitor answers; the list, its reasons and its certainty follow.

import { call, open, say } from "./api.js";
import { curve, valueAt } from "./curve.js";
import { element, find, nameOf } from "./dom.js";

const LENGTH = 10, REASONS = 2, MOST_LEVELS = 11, WAIT_MS = 250;
const state = { model: null, asked: null, answers: [], unknown: [], disliked: new Set(), list: [], first: null, turn: 0 };

const graded = () => state.model.objective === "rating";
const body = () => ({
  interactions: state.answers.map(({ item, value }) =>
    graded() ? { item_id: item.item_id, value } : { item_id: item.item_id }),
});
const plural = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const signed = (x) => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(2);

async function start() {
  state.model = await call("/v1/model");
  find("version").textContent =
    `Version ${state.model.model_version} of the model, ${state.model.num_items.toLocaleString("en")} items. ` +
    "Your answers are not stored.";
  await refresh();
}

// Ask for list and question together; an answer that comes too late does not count.
async function refresh() {
  const turn = ++state.turn;
  const user = body();
  const [answer, next] = await Promise.all([
    call("/v1/recommendations", { ...user, top_k: LENGTH + state.disliked.size, max_reasons: REASONS }),
    call("/v1/questions", { ...user, unknown: state.unknown, count: 1 }),
  ]);
  if (turn !== state.turn) return;
  const wanted = answer.recommendations.filter((one) => !state.disliked.has(one.item_id));
  showList(wanted.slice(0, LENGTH).map((one, n) => ({ ...one, rank: n + 1 })));
  showQuestion(next.items[0] ?? null);
  showAnswers();
  showCurve();
}

function after(change) {
  change();
  find("asked").focus({ preventScroll: true });
  refresh().then(() => { find("problem").hidden = true; }, say);
}

// The question ------------------------------------------------------------------------------------

function levels() {
  const [low, high] = state.model.value_range;
  const whole = Number.isInteger(low) && Number.isInteger(high) && high - low < MOST_LEVELS;
  const step = whole ? 1 : (high - low) / 4;
  const count = Math.round((high - low) / step) + 1;
  return Array.from({ length: count }, (_, n) => low + n * step);
}

function valueButtons(item) {
  if (!graded()) {
    const liked = () => after(() => give(item, null));
    const disliked = () => after(() => dislike(item));
    return [
      element("button", { type: "button", class: "value yes", onclick: liked }, "I like it"),
      element("button", { type: "button", class: "value no", onclick: disliked }, "Not for me"),
    ];
  }
  return levels().map((value) => element("button", {
    type: "button",
    class: "value",
    "aria-label": `${nameOf(item)}: ${value} of ${state.model.value_range[1]}`,
    onclick: () => after(() => give(item, value)),
  }, String(Number(value.toFixed(2)))));
}

function give(item, value) {
  state.answers = [...state.answers.filter((a) => a.item.item_id !== item.item_id), { item, value }];
  state.unknown = state.unknown.filter((id) => id !== item.item_id);
}

// Clicks say nothing against an item: the list goes without it, and the model does not hear of it.
function dislike(item) {
  state.answers = state.answers.filter((a) => a.item.item_id !== item.item_id);
  state.unknown = [...state.unknown.filter((id) => id !== item.item_id), item.item_id];
  state.disliked.add(item.item_id);
}

function showQuestion(item) {
  state.asked = item;
  const number = state.answers.length + state.unknown.length + 1;
  find("number").textContent = `Question ${number}`;
  find("restart").hidden = number === 1;
  find("unknown").hidden = item === null;
  find("scale").hidden = item === null || !graded();
  find("values").replaceChildren(find("values").querySelector("legend"));
  if (item === null) {
    find("asked").textContent = "There is nothing left to ask.";
    return;
  }
  find("asked").textContent = graded() ? `How do you like ${nameOf(item)}?` : `Do you like ${nameOf(item)}?`;
  find("values").append(...valueButtons(item));
  find("scale-low").textContent = "not at all";
  find("scale-high").textContent = "very much";
}

// The list ----------------------------------------------------------------------------------------

function showList(list) {
  const before = new Map(state.list.map((one) => [one.item_id, one.rank]));
  const isFirst = state.list.length === 0;
  find("list").replaceChildren(...list.map((one) => row(one, before.get(one.item_id), isFirst)));
  state.list = list;
  find("order").hidden = list.length === 0;
  const sure = list.map((one) => one.uncertainty).filter((u) => u !== null);
  const mean = sure.length ? sure.reduce((a, b) => a + b, 0) / sure.length : null;
  if (state.first === null || state.answers.length === 0) state.first = mean;
  find("sure").textContent = certainty(mean);
  find("live").textContent =
    `The list follows ${plural(state.answers.length, "answer")}. ` +
    list.slice(0, 3).map((one) => `${one.rank}: ${nameOf(one)}`).join(", ");
}

function certainty(mean) {
  if (mean === null) return state.answers.length ? `After ${plural(state.answers.length, "answer")}.` : "What suits most people.";
  const said = `Give or take ${mean.toFixed(2)}`;
  if (state.answers.length === 0) return `What suits most people. ${said}.`;
  const first = state.first.toFixed(2);
  return first === mean.toFixed(2) ? `${said}.` : `${said}; it was ${first} before your answers.`;
}

function row(one, before, isFirst) {
  const item = element("li", { class: isFirst ? "" : "changed" });
  item.append(
    element("span", { class: "rank", "aria-hidden": "true" }, String(one.rank)),
    element("div", { class: "what" },
      element("p", { class: "title" }, nameOf(one), move(one, before, isFirst)),
      why(one.reasons)),
    score(one));
  return item;
}

function move(one, before, isFirst) {
  if (isFirst || before === one.rank) return null;
  if (before === undefined) return element("span", { class: "move new" }, "new");
  const up = before > one.rank;
  return element("span", { class: `move ${up ? "up" : "down"}`, title: `was ${before}` },
    element("span", { "aria-hidden": "true" }, `${up ? "↑" : "↓"}${Math.abs(before - one.rank)}`),
    element("span", { class: "visually-hidden" }, `was ${before}`));
}

function why(reasons) {
  if (!reasons.length) return null;
  const parts = reasons.map((reason) => element("span", { class: `reason ${reason.effect < 0 ? "less" : "more"}` },
    element("b", {}, signed(reason.effect)),
    ` ${nameOf({ item_id: reason.because_item, title: reason.title })}`));
  return element("p", { class: "why" }, element("span", { class: "visually-hidden" }, "Because of "), ...parts);
}

// The bar is what the list is ordered by; a rating beside it is what the person may think of it.
function score(one) {
  const box = element("div", { class: "score" });
  if (graded() && one.score !== null) {
    const u = one.uncertainty;
    box.append(element("b", {}, one.score.toFixed(2)));
    if (u !== null) box.append(element("span", { class: "plus" }, `±\u202f${u.toFixed(2)}`));
  }
  box.append(bar(Math.min(1, one.relative_likelihood)));
  return box;
}

function bar(value) {
  const made = element("span", { class: "bar", "aria-hidden": "true" });
  made.style.setProperty("--value", value);
  made.append(element("span", { class: "fill" }));
  return made;
}

// Answers and the curve ---------------------------------------------------------------------------

function showAnswers() {
  find("answers-card").hidden = state.answers.length === 0;
  find("answers").replaceChildren(...state.answers.map(({ item, value }) => element("li", {},
    element("span", {}, nameOf(item)),
    value === null ? null : element("b", {}, String(Number(value.toFixed(2)))),
    element("button", {
      type: "button",
      class: "quiet",
      "aria-label": `Take back the answer about ${nameOf(item)}`,
      onclick: () => after(() => { state.answers = state.answers.filter((a) => a.item !== item); }),
    }, "×"))));
}

const SAID = {
  mae: "ratings are off by",
  rmse: "the root mean squared error is",
  "full_ndcg@10": "the quality of a list (nDCG@10, from 0 to 1) is",
};

function showCurve() {
  const found = state.model.curve;
  find("curve-card").hidden = !found || found.points.length < 2;
  if (find("curve-card").hidden) return;
  const n = state.answers.length;
  const value = valueAt(found.points, n).toFixed(found.metric.startsWith("full_") ? 3 : 2);
  const said = SAID[found.metric] ?? `${found.metric} is`;
  const text = `With ${plural(n, "answer")}, ${said} ${value} on average, measured on people the model had never met.`;
  find("curve-said").textContent = text;
  find("curve").replaceChildren(curve(found, n, text));
}

// Search ------------------------------------------------------------------------------------------

let waiting = null, searched = 0;

async function search() {
  const query = find("query").value.trim();
  const turn = ++searched;
  if (!query) {
    find("found").replaceChildren();
    find("found-said").textContent = "";
    return;
  }
  const { items } = await call(`/v1/items?limit=5&query=${encodeURIComponent(query)}`);
  if (turn !== searched) return;
  find("found-said").textContent = items.length ? "" : `No title matches “${query}”.`;
  find("found").replaceChildren(...items.map((item) => {
    const buttons = valueButtons(item);
    for (const button of buttons) {
      button.addEventListener("click", () => {
        find("query").value = "";
        search();
      });
    }
    return element("li", {}, element("span", {}, nameOf(item)), element("span", { class: "values", role: "group", "aria-label": `Your rating of ${nameOf(item)}` }, ...buttons));
  }));
}

find("query").addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => search().catch(say), WAIT_MS);
});
find("find").addEventListener("submit", (event) => {
  event.preventDefault();
  search().catch(say);
});
find("unknown").addEventListener("click", () => after(() => { state.unknown.push(state.asked.item_id); }));
find("restart").addEventListener("click", () => after(() => {
  state.answers = [];
  state.unknown = [];
  state.disliked.clear();
  state.list = [];
}));
open(start);
