// Answers the calls of the page on this device: the model's graph runs in the browser, and nothing
// that the visitor answers is sent. It stands in the place of the endpoint's file of this name.

import { find } from "./dom.js";

const RUNTIME = new URL("onnxruntime-web/", document.baseURI);
const MOST_FOUND = 5;
let about, ort, session, places, byPopularity, names;
let turn = Promise.resolve(); // a session answers one call at a time

async function load() {
  [about, ort] = await Promise.all([file("model.json").then((found) => found.json()), runtime()]);
  if (about.format !== 1) throw new Error(`model.json has format ${about.format}; this page reads format 1.`);
  ort.env.wasm.wasmPaths = RUNTIME.href;
  ort.env.wasm.numThreads = 1; // several need headers that not every server sends
  const graph = await (await file(about.graph)).arrayBuffer();
  session = await ort.InferenceSession.create(new Uint8Array(graph), { executionProviders: ["wasm"] });
  const { item_id, title, num_users } = about.items;
  places = new Map(item_id.map((id, place) => [id, place]));
  names = item_id.map((id, place) => (title[place] ?? id).toLowerCase());
  byPopularity = [...item_id.keys()].sort((a, b) => num_users[b] - num_users[a] || a - b);
}

async function file(name) {
  const found = await fetch(new URL(name, document.baseURI));
  if (!found.ok) throw new Error(`${name} is not beside this page (${found.status}).`);
  return found;
}

async function runtime() {
  try {
    return await import(new URL("ort.wasm.min.mjs", RUNTIME).href);
  } catch {
    throw new Error(
      "ONNX Runtime Web is not beside this page: put ort.wasm.min.mjs, ort-wasm-simd-threaded.mjs and " +
      "ort-wasm-simd-threaded.wasm of the npm package onnxruntime-web into the folder onnxruntime-web.");
  }
}

const item = (place) => ({ item_id: about.items.item_id[place], title: about.items.title[place] });
const whole = (numbers) => new ort.Tensor("int64", BigInt64Array.from(numbers, BigInt), [numbers.length]);

// Of the profile nothing is known: the page does not ask for it.
function unknownProfile() {
  return Object.fromEntries(about.profile.map((field) => [
    field.input,
    field.kind === "numeric"
      ? new ort.Tensor("float32", Float32Array.of(NaN), [1])
      : whole(new Array(field.kind === "multi" ? field.width : 1).fill(0)),
  ]));
}

async function recommend({ interactions, top_k }) {
  const rows = interactions.filter((one) => places.has(one.item_id));
  const given = {
    ...unknownProfile(),
    item: whole(rows.map((one) => places.get(one.item_id))),
    mask: new ort.Tensor("bool", new Uint8Array(rows.length).fill(1), [rows.length]),
    top_k: whole([top_k]),
  };
  if (about.objective === "rating") {
    given.value = new ort.Tensor("float32", Float32Array.from(rows, (one) => one.value), [rows.length]);
  }
  const found = await session.run(given, ["top_item", "top_score"]);
  const scores = [...found.top_score.data].filter(Number.isFinite);
  return {
    recommendations: scores.map((score, n) => ({
      ...item(Number(found.top_item.data[n])),
      rank: n + 1,
      relative_likelihood: Math.exp(score - scores[0]),
      score: null,
      uncertainty: null,
      reasons: [],
    })),
  };
}

function ask({ interactions, unknown, count }) {
  const known = new Set([...interactions.map((one) => one.item_id), ...unknown]);
  const open = byPopularity.filter((place) => !known.has(about.items.item_id[place]));
  return { items: open.slice(0, count).map(item) };
}

function search(query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = byPopularity.filter((place) => words.every((word) => names[place].includes(word)));
  return { items: fits.slice(0, MOST_FOUND).map(item) };
}

function described() {
  return {
    model_version: about.model_version,
    objective: about.objective,
    num_items: about.items.item_id.length,
    value_range: about.scale && [about.scale.lowest, about.scale.highest],
  };
}

export async function call(path, body) {
  const url = new URL(path, document.baseURI);
  if (url.pathname === "/v1/recommendations") {
    turn = turn.catch(() => {}).then(() => recommend(body));
    return turn;
  }
  if (url.pathname === "/v1/questions") return ask(body);
  if (url.pathname === "/v1/items") return search(url.searchParams.get("query"));
  return described();
}

export async function open(start) {
  try {
    await load();
    await start();
    find("work").hidden = false;
    find("loading").hidden = true;
  } catch (error) {
    find("loading").hidden = true;
    say(error);
  }
}

export function say(error) {
  const box = find("problem");
  box.textContent = error.message;
  box.hidden = false;
}
