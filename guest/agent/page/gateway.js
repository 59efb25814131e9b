// The gateway: its state, start and stop, and which model it asks.
"use strict";

const GATEWAY_STATES = {
  off: "Off", starting: "Starting", ready: "Ready", stopping: "Stopping", failed: "Not running",
};
const MODEL_FIELDS = ["base-url", "model-name", "api", "secret"];
let gatewayLooking = 0;

function gatewayFacts(told) {
  if (told.reason) return told.reason;
  if (!told.agents) return "Agents are off. An owner agrees to them on the portal's members page.";
  if (told.state === "starting") return "This takes from ten seconds to some minutes.";
  if (told.state !== "ready") return "It starts when it is opened or used.";
  if (told.always_on) return "Always on, as an owner has agreed.";
  return `It stops after ${lasting(told.idle_seconds_left)} without use.`;
}

function gatewayModel(model) {
  if (model === null) return "No model is chosen: it cannot answer yet.";
  if (model === "rehearsal") return "It asks the rehearsal model, which only repeats what it is told.";
  const key = model.secret ? `with the secret ${model.secret}` : "without a key";
  return `It asks ${model.name} at ${model.base_url}, ${key}.`;
}

async function openGateway() {
  const told = await call("GET", "/v1/gateway");
  const up = ["starting", "ready"].includes(told.state);
  $("gateway-state").textContent = GATEWAY_STATES[told.state] || told.state;
  $("gateway-state").className = told.state;
  $("gateway-facts").textContent = gatewayFacts(told);
  $("gateway-model").textContent = gatewayModel(told.model);
  $("gateway-open").hidden = told.state !== "ready";
  $("gateway-start").hidden = up || told.state === "stopping" || !told.agents;
  $("gateway-stop").hidden = !up;
  $("gateway-choose").hidden = me === null || me.role !== "owner";
  clearTimeout(gatewayLooking);
  const soon = ["starting", "stopping"].includes(told.state);
  if (me !== null) gatewayLooking = setTimeout(lookAtGateway, soon ? 3000 : 30000);
  return told;
}

function lookAtGateway() {
  if (me !== null && !document.hidden) quietly(openGateway);
}

function showModel(model) {
  const kind = model === null ? "none" : model === "rehearsal" ? "rehearsal" : "own";
  $("model-kind").value = kind;
  const own = kind === "own" ? model : { base_url: "", name: "", api: "openai-completions", secret: null };
  $("base-url").value = own.base_url;
  $("model-name").value = own.name;
  $("api").value = own.api;
  $("secret").value = own.secret || "";
  $("model-own").hidden = kind !== "own";
}

function chosenModel() {
  const kind = $("model-kind").value;
  if (kind !== "own") return kind === "none" ? null : kind;
  const [url, name, api, secret] = MODEL_FIELDS.map((field) => $(field).value.trim());
  return { base_url: url, name, api, secret: secret || null };
}

document.addEventListener("signed-in", () => quietly(openGateway));
document.addEventListener("signed-out", () => clearTimeout(gatewayLooking));
document.addEventListener("visibilitychange", lookAtGateway);
document.addEventListener("DOMContentLoaded", () => {
  for (const deed of ["start", "stop"]) {
    $(`gateway-${deed}`).addEventListener("click", () => act($(`gateway-${deed}`), async () => {
      await call("POST", `/v1/gateway/${deed}`);
      await openGateway();
    }));
  }
  $("gateway-choose").addEventListener("click", () => act($("gateway-choose"), async () => {
    showModel((await call("GET", "/v1/gateway/model")).model);
    $("model-form").hidden = !$("model-form").hidden;
  }));
  $("model-kind").addEventListener("change", () => { $("model-own").hidden = $("model-kind").value !== "own"; });
  $("model-form").addEventListener("submit", (event) => {
    event.preventDefault();
    act($("model-save"), async () => {
      await call("PUT", "/v1/gateway/model", { model: chosenModel() });
      $("model-form").hidden = true;
      await openGateway();
    });
  });
});
