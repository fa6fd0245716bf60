// What the owner of the job wants to know.

import { call, element, find, open } from "./api.js";
import { whisker } from "./curve.js";

const percent = (share) => `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
const count = (n) => n.toLocaleString("en");
const when = (text) => (text ? new Date(text).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" }) : "");
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
  showSteps(found.steps);
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
  const indices = Object.entries(drift.stability_index).sort((a, b) => b[1] - a[1]);
  const verdict = drift.findings.length ? "Train anew: something has moved." : "Nothing has moved beyond what chance explains.";
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
    const told = version.promoted_at
      ? `Promoted ${when(version.promoted_at)} by ${version.promoted_by}: ${version.promoted_because}.`
      : version.decision ? `${version.decision[0].toUpperCase()}${version.decision.slice(1)}.` : "";
    const measured = version.value === null ? null : element("p", { class: "measured" },
      whisker(version.value, version.low, version.high, from, to),
      element("span", {}, `${version.metric} ${version.value.toFixed(4)}`),
      version.low === null ? null : element("span", { class: "hint" }, `${version.low.toFixed(4)} to ${version.high.toFixed(4)}`));
    const reasons = version.reasons.length ? element("details", {}, element("summary", {}, "What the gate found"),
      element("ul", {}, ...version.reasons.map((text) => element("li", {}, text)))) : null;
    return element("li", {}, name, measured, told ? element("p", { class: "hint" }, told) : null, reasons);
  }));
}

function showSteps(steps) {
  find("steps").replaceChildren(...steps.map((step) => element("tr", {},
    element("th", { scope: "row" }, step.step),
    element("td", {}, when(step.finished_at)),
    element("td", { class: "number" }, `${step.seconds.toFixed(1)} s`),
    element("td", { class: "counts" }, Object.entries(step.counts).map(([name, n]) => counted(n, name)).join(", ")))));
}

open(start);
