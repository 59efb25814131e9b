// Break-glass pages: clocks that run, and a form that shows only what can be asked together.

// --- clocks: <… data-until="ISO time"> shows the time left. The portal's clock counts, not this device's:
// the page says in data-now when it was made.

const made = Date.parse(document.querySelector("[data-now]")?.dataset.now ?? "");
const ahead = Number.isFinite(made) ? Date.now() - made : 0; // milliseconds, the way here included

const two = (number) => String(number).padStart(2, "0");

function left(until) {
  const seconds = Math.max(0, Math.round((Date.parse(until) - (Date.now() - ahead)) / 1000));
  const minutes = Math.floor(seconds / 60);
  if (seconds === 0) return "time is over";
  if (minutes >= 60) return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(seconds % 60)} left`;
  return `${minutes}:${two(seconds % 60)} left`;
}

function tick() {
  for (const clock of document.querySelectorAll("[data-until]")) {
    const words = left(clock.dataset.until);
    if (clock.textContent !== words) clock.textContent = words;
  }
}

tick();
setInterval(tick, 1000);
document.addEventListener("htmx:afterSwap", tick);

// --- the form

const form = document.getElementById("ask-access");

function fit() {
  const emergency = form.elements.kind.value === "emergency";
  for (const one of form.querySelectorAll("[data-ordinary]")) {
    one.disabled = emergency;
    if (emergency) one.checked = false;
  }
  const minutes = form.elements.minutes;
  if (minutes.selectedOptions[0]?.disabled) minutes.value = [...minutes.options].findLast((one) => !one.disabled).value;

  const box = (scope) => form.querySelector(`[name=scopes][value="${scope}"]`);
  if (box("workspace:write").checked) box("workspace:read").checked = true;
  const chosen = [...form.querySelectorAll("[name=scopes]:checked")];
  document.getElementById("where").hidden = !chosen.some((one) => "paths" in one.dataset);
  const [some, whole] = form.querySelectorAll("[name=whole]");
  if (box("exec").checked) whole.checked = true;
  some.disabled = box("exec").checked;
  form.elements.paths.disabled = whole.checked;

  const needs = emergency
    ? Number(form.querySelector("[name=kind][value=emergency]").dataset.needs)
    : Math.max(0, ...chosen.map((one) => Number(one.dataset.needs)));
  const words = document.getElementById("needs");
  words.dataset.able ??= words.textContent;
  words.textContent = needs
    ? `Needs ${needs === 1 ? "one approval" : `${needs} approvals`}. ${words.dataset.able}`
    : words.dataset.able;
}

if (form) {
  form.addEventListener("change", fit);
  fit();
}
