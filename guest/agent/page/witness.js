// The portal's record as this machine has witnessed it. Needs page.js.
"use strict";

let witnessed = null;
const moment = (seconds) => new Date(seconds * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });
const REFUSED = {
  smaller: "it showed fewer entries",
  forked: "it showed other entries in the same number",
  proof: "it could not show that it extends the earlier one",
};

async function openRecord() {
  witnessed = await call("GET", "/v1/witness");
  $("no-checkpoint").hidden = Boolean(witnessed.root);
  $("checkpoint").hidden = $("checkpoint-keep").hidden = !witnessed.root;
  if (witnessed.root) {
    $("checkpoint-size").textContent = witnessed.size.toLocaleString();
    $("checkpoint-at").textContent = moment(witnessed.at);
    $("checkpoint-root").textContent = `${pieces(witnessed.root.slice(0, 16))}…`;
    $("checkpoint-root").title = witnessed.root;
  }
  $("other-log").hidden = !witnessed.other_log_offered;
  const { contradictions, doubts, unseen } = witnessed;
  list("contradicted", "contradictions", contradictions);
  list("doubted", "doubts", doubts);
  $("evidence").hidden = contradictions.length + doubts.length === 0;
  $("record").classList.toggle("alarm", unseen > 0 || witnessed.other_log_offered);
  $("contradictions-seen").hidden = unseen === 0 || me.role !== "owner";
}

function list(around, name, refused) {
  $(around).hidden = refused.length === 0;
  $(name).replaceChildren(...refused.map((one) => {
    const line = document.createElement("li");
    line.textContent = `${moment(one.at)}, when this machine held ${one.held.toLocaleString()} entries: ${REFUSED[one.reason] || one.reason}`;
    return line;
  }));
}

// A data URL would need a wider policy than this page has; a blob made here is same-origin.
function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

document.addEventListener("signed-in", () => quietly(openRecord));
document.addEventListener("DOMContentLoaded", () => {
  $("checkpoint-save").addEventListener("click", () => save(`checkpoint-${witnessed.size}.txt`, witnessed.note));
  $("contradictions-save").addEventListener("click", () => {
    const { log, note, contradictions, doubts } = witnessed;
    save("contradictions.json", JSON.stringify({ log, held: note, shown: contradictions, doubts }, null, 1));
  });
  $("contradictions-seen").addEventListener("click", () => act($("contradictions-seen"), async () => {
    await call("POST", "/v1/witness/seen");
    await openRecord();
  }));
});
