// The form of an approver set: says how many people are chosen, and lets no number ask for more people than there
// are, or than change the set.
const form = document.getElementById("approver-set");

function fit() {
  const people = new Set([...form.querySelectorAll("[name=keys]:checked")].map((key) => key.dataset.person)).size;
  document.getElementById("chosen").textContent = people === 1 ? "1 person" : `${people} people`;
  const threshold = Number(form.elements.threshold.value);
  const most = Math.max(1, people);
  for (const number of form.querySelectorAll("input[type=number]")) {
    number.max = number.name === "threshold" || threshold < 1 ? most : Math.min(most, threshold);
  }
  const alone = document.getElementById("alone");
  alone.hidden = people === 0 || threshold < people;
}

form?.addEventListener("input", fit);
if (form) fit();
