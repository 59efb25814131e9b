// The form of an approver set: says how many people are chosen, and lets no number ask for more.
const form = document.getElementById("approver-set");

function fit() {
  const people = new Set([...form.querySelectorAll("[name=keys]:checked")].map((key) => key.dataset.person)).size;
  document.getElementById("chosen").textContent = people === 1 ? "1 person" : `${people} people`;
  for (const number of form.querySelectorAll("input[type=number]")) number.max = Math.max(1, people);
  const alone = document.getElementById("alone");
  alone.hidden = people === 0 || Number(form.elements.threshold.value) < people;
}

form?.addEventListener("input", fit);
if (form) fit();
