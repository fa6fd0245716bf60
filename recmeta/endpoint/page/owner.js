// What the owner of the job wants to know.

import { call, open, useKey } from "./api.js";
import { bars, lines } from "./chart.js";
import { whisker } from "./curve.js";
import { element, find } from "./dom.js";

const percent = (share) => `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
const count = (n) => n.toLocaleString("en");
const when = (text) => (text ? new Date(text).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }) : "");
const day = (text) => new Date(text).toLocaleDateString("en-GB", { day: "numeric", month: "short" });
const words = (text) => text.replaceAll("_", " ");
const counted = (n, name) => `${count(n)} ${n === 1 ? words(name).replace(/s\b/g, "") : words(name)}`;

async function start() {
  const [found, model] = await Promise.all([call("/v1/workspace"), call("/v1/model")]);
  const last = found.steps.map((step) => step.finished_at).sort().at(-1);
  find("summary").textContent =
    `Version ${model.model_version} is the champion` + (last ? `; the last step finished on ${when(last)}.` : ".");
  showCoverage(found.coverage);
  showDrift(found.drift);
  showVersions(found.versions);
  showHistory(found);
  showSteps(found.steps);
}

function showHistory({ versions, history, latency }) {
  const { volumes, drift, published } = history;
  const oldestFirst = [...versions].reverse();
  const charts = [
    ...accuracy(oldestFirst.filter((v) => v.value !== null), (v) => v, "Accuracy on ratings, by version"),
    ...accuracy(oldestFirst.filter((v) => v.lists), (v) => v.lists, "Lists, by version"),
  ];
  if (volumes.some((v) => v.new || v.quarantined)) {
    const counts = [{ name: "new rows", values: volumes.map((v) => v.new) }, { name: "in the quarantine", values: volumes.map((v) => v.quarantined) }].filter((one) => one.values.some(Boolean));
    charts.push(card("Volume of each log", counts, bars("New rows of each log, and rows in the quarantine", volumes.map((v) => day(v.at)), counts)));
  }
  if (published.length) {
    const counts = [{ name: "users with a list", values: published.map((p) => p.users) }];
    charts.push(card("Lists published, by day", counts, bars("Users with a list, by day", published.map((p) => day(p.at)), counts)));
  }
  if (drift.length) {
    const names = drift.map((d) => day(d.at));
    const largest = [{ name: "largest stability index", points: drift.map((d) => ({ value: d.largest })) }];
    charts.push(card("Drift", largest, lines("Largest population stability index of each report; 0.25 is too much", names, largest, { limit: 0.25, fromZero: true }), "Above the dashed line something has moved."));
    const live = drift.filter((d) => d.model_mae !== null);
    if (live.length) {
      const errors = [{ name: "the champion", points: live.map((d) => ({ value: d.model_mae })) }, { name: "the item mean", points: live.map((d) => ({ value: d.item_mean_mae })) }];
      charts.push(card("Error on each day's ratings", errors, lines("Mean absolute error on each day's ratings, of the champion and of the item mean", live.map((d) => day(d.at)), errors)));
    }
  }
  if (latency.requests) charts.push(latencies(latency));
  find("history").replaceChildren(...charts);
}

const NAMES = { mae: "Mean absolute error", rmse: "Root mean squared error", log_loss: "Log loss", auc: "AUC" };

// What people call a metric, such as nDCG@10 for ndcg@10; full_ is of lists out of all items.
function called(metric) {
  const [, whole, name] = /^(full_)?(.*)$/.exec(metric);
  return (NAMES[name] ?? name.replace("ndcg", "nDCG")) + (whole ? ", out of the whole catalogue" : "");
}

function accuracy(versions, of, title) {
  if (!versions.length) return [];
  const metric = of(versions.at(-1)).metric, name = called(metric);
  const same = versions.filter((v) => of(v).metric === metric);
  const series = [{ name, points: same.map(of) }];
  return [card(title, [], lines(`${name} of each version, with 95 % intervals`, same.map((v) => `v${v.version}`), series), `${name}, with 95 % intervals`)];
}

function latencies({ seconds, counts, requests }) {
  const quantile = (share) => {
    let below = 0;
    const place = counts.findIndex((n) => (below += n) >= share * requests);
    return place < seconds.length ? `${(seconds[place] * 1000).toLocaleString("en")} ms` : `more than ${seconds.at(-1)} s`;
  };
  const last = counts.findLastIndex((n) => n > 0), first = counts.findIndex((n) => n > 0);
  const names = counts.map((_, n) => (n < seconds.length ? `≤${seconds[n] * 1000}` : "more"));
  const stacks = [{ name: "lists", values: counts.slice(first, last + 1) }];
  const said = `${count(requests)} ${requests === 1 ? "list" : "lists"} since the server started; half of them within ${quantile(0.5)}, 99 % within ${quantile(0.99)}`;
  return card("Time of a list, in milliseconds", [], bars(said, names.slice(first, last + 1), stacks), `${said}.`);
}

function card(title, series, chart, hint) {
  const legend = series.length > 1 ? element("p", { class: "legend" }, ...series.map((one, n) => element("span", { class: `key series-${n}` }, one.name))) : null;
  const kind = chart.querySelector("rect") ? "card bars" : "card";
  return element("section", { class: kind }, element("h2", { class: "small" }, title), legend, chart,
    hint ? element("p", { class: "hint" }, hint) : null);
}

function showCoverage(coverage) {
  if (!coverage) {
    find("coverage").replaceChildren(element("p", { class: "hint" }, "No lists were made yet."));
    return;
  }
  const figures = [
    [count(coverage.users), "users have a list"],
    [percent(coverage.full_lists), "of the lists are full"],
    [percent(coverage.items / coverage.catalogue), `of the catalogue is recommended to somebody (${count(coverage.items)} of ${count(coverage.catalogue)} items)`],
    [percent(coverage.top_share), "of the lists have the most recommended item"],
  ];
  find("coverage").replaceChildren(...figures.map(([number, text]) =>
    element("div", {}, element("dt", {}, text), element("dd", {}, number))));
}

function showDrift(drift) {
  const box = find("drift");
  if (!drift) {
    box.replaceChildren(element("p", { class: "hint" }, "No drift report yet: the daily job writes one."));
    return;
  }
  const indices = Object.entries(drift.stability_index).filter(([, value]) => value >= 0.0005).sort((a, b) => b[1] - a[1]);
  const verdict = drift.findings.length ? "Train again: something has moved." : "Nothing has moved beyond what chance explains.";
  box.replaceChildren(
    element("p", { class: drift.findings.length ? "verdict bad" : "verdict good" }, verdict),
    element("p", { class: "hint" }, `${drift.day}, version ${drift.model_version}`),
    element("ul", { class: "findings" }, ...drift.findings.map((text) => element("li", {}, text))),
    element("dl", { class: "indices" }, ...indices.map(([name, value]) =>
      element("div", {}, element("dt", {}, words(name)), element("dd", {}, value.toFixed(3))))));
}

function showVersions(versions) {
  const ends = versions.flatMap((v) => [v.low ?? v.value, v.high ?? v.value]).filter((v) => v !== null);
  const from = Math.min(...ends), to = Math.max(...ends);
  find("versions").replaceChildren(...versions.map((version) => {
    const name = element("p", { class: "version" }, element("b", {}, `Version ${version.version}`),
      ...version.aliases.map((alias) => element("span", { class: `alias ${alias}` }, alias)));
    const promoted = version.promoted_at
      ? `Promoted ${when(version.promoted_at)} by ${version.promoted_by}: ${version.promoted_because}.`
      : version.decision ? `${version.decision[0].toUpperCase()}${version.decision.slice(1)}.` : "";
    const measured = version.value === null ? null : element("p", { class: "measured" },
      whisker(version.value, version.low, version.high, from, to),
      element("span", {}, `${called(version.metric)} ${version.value.toFixed(4)}`),
      version.low === null ? null : element("span", { class: "hint" }, `${version.low.toFixed(4)} to ${version.high.toFixed(4)}`));
    const reasons = version.reasons.length ? element("details", {}, element("summary", {}, "What the gate found"),
      element("ul", {}, ...version.reasons.map((text) => element("li", {}, text)))) : null;
    return element("li", {}, name, measured, promoted ? element("p", { class: "hint" }, promoted) : null, reasons);
  }));
}

function showSteps(steps) {
  find("steps").replaceChildren(...steps.map((step) => element("tr", {},
    element("th", { scope: "row" }, step.step),
    element("td", {}, when(step.finished_at)),
    element("td", { class: "number" }, `${step.seconds.toFixed(1)} s`),
    element("td", { class: "counts" }, Object.entries(step.counts).filter(([, n]) => n).map(([name, n]) => counted(n, name)).join(", ")))));
}

useKey("recmeta-owner-key");
open(start);
