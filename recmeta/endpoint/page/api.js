// Calls of the API, with the key that the visitor gave; it is kept until the tab is closed. A page
// that is exported has another file of this name, which answers the same calls on the device.

import { find } from "./dom.js";

let KEY = "recmeta-key";

// The owner's page keeps a key of its own: the two need not be the same.
export function useKey(name) {
  KEY = name;
}

export class ApiError extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export async function call(path, body) {
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new ApiError(0, "The server cannot be reached. Is it still running?");
  }
  if (answer.ok) return answer.json();
  let detail = answer.statusText;
  try {
    detail = (await answer.json()).detail;
  } catch {
    // not a problem of ours: a proxy's page, perhaps
  }
  throw new ApiError(answer.status, detail);
}

// Run a page: ask for a key where one is needed, say what went wrong elsewhere.
export async function open(start) {
  const form = find("key");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, find("key-text").value.trim());
    await attempt(start, "That key was not accepted.");
  });
  await attempt(start, "");
}

async function attempt(start, refusal) {
  try {
    await start();
    find("key").hidden = true;
    find("problem").hidden = true;
    find("work").hidden = false;
  } catch (error) {
    if (error.status === 401 || error.status === 403) {
      find("key").hidden = false;
      find("key-said").textContent = error.status === 403 ? sentence(error.message) : refusal;
      find("key-text").focus();
    } else {
      say(error);
    }
  }
}

const sentence = (text) => text[0].toUpperCase() + text.slice(1);

export function say(error) {
  const box = find("problem");
  box.textContent = error instanceof ApiError ? error.message : `Something went wrong: ${error}`;
  box.hidden = false;
}
