// The API's page: every route of openapi.json with its parameters, its body and its answer.

import { get } from "./api.js";
import { $, h } from "./dom.js";
import "./ready.js";

const DEEPEST = 6; // levels of a body that are drawn

/** One card a subject, in the order in which the document names them. */
function draw(api) {
  const subjects = new Map();
  for (const [path, verbs] of Object.entries(api.paths)) {
    for (const [verb, route] of Object.entries(verbs)) {
      const subject = route.tags?.[0] ?? "other";
      subjects.set(subject, [...(subjects.get(subject) ?? []), drawRoute(api, verb, path, route)]);
    }
  }
  return [...subjects].map(([subject, routes]) => h("section", { class: "card" }, h("h2", {}, subject), routes));
}

function drawRoute(api, verb, path, route) {
  const asked = schemaOf(route.requestBody);
  const [status, answer] = Object.entries(route.responses).find(([code]) => code.startsWith("2")) ?? [];
  const told = schemaOf(answer);
  return h("details", {},
    h("summary", {}, h("span", { class: `verb mono ${verb}` }, verb.toUpperCase()), h("code", {}, path), h("span", { class: "soft small" }, route.summary)),
    h("div", { class: "inside" },
      route.description && h("p", {}, route.description),
      route.parameters?.length > 0 && parameters(api, route.parameters),
      asked && code("Body", written(api, asked)),
      status && (told && Object.keys(told).length ? code(`Answer, ${status}`, written(api, told)) : h("p", { class: "small soft" }, `Answers ${status}.`))));
}

const schemaOf = (part) => part?.content?.["application/json"]?.schema;
const code = (title, text) => h("div", {}, h("h3", {}, title), h("pre", { tabIndex: 0 }, h("code", {}, text)));

function parameters(api, all) {
  return h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, ["parameter", "in", "type"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, all.map((one) => h("tr", {}, h("td", { class: "mono" }, one.name), h("td", {}, `${one.in}${one.required ? "" : ", optional"}`), h("td", { class: "mono" }, written(api, one.schema)))))));
}

/** A schema in one notation: names with ``?`` where they may be left out, types, alternatives. */
function written(api, schema, depth = 0) {
  if (!schema || depth > DEEPEST) return "…";
  if (schema.$ref) return written(api, schema.$ref.slice(2).split("/").reduce((part, name) => part[name], api), depth);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const either = schema.anyOf ?? schema.oneOf ?? schema.allOf;
  if (either) return [...new Set(either.map((one) => written(api, one, depth)))].join(" | ");
  if (schema.type === "array") return `[${written(api, schema.items, depth)}, …]`;
  if (schema.properties) return fields(api, schema, depth + 1);
  return schema.type ?? "any";
}

function fields(api, schema, depth) {
  const pad = "  ".repeat(depth);
  const rows = Object.entries(schema.properties).map(([name, one]) => `${pad}"${name}"${schema.required?.includes(name) ? "" : "?"}: ${written(api, one, depth)}`);
  return `{\n${rows.join(",\n")}\n${pad.slice(2)}}`;
}

try {
  $("routes").replaceChildren(...draw(await get("/openapi.json")));
} catch (error) {
  $("error").hidden = false;
  $("error").textContent = error.message;
}
