// Break-glass as members see it: who is let in now, an owner's end of it, and the machine's own receipts.

const DEEDS = {
  "GET /v1/break-glass/status": "looked at the machine's status",
  "GET /v1/break-glass/logs": "listed the logs",
  "GET /v1/break-glass/logs/read": "read the log",
  "GET /v1/break-glass/list": "listed the folder",
  "GET /v1/break-glass/files": "read the file",
  "PUT /v1/break-glass/files": "wrote the file",
  "DELETE /v1/break-glass/files": "deleted",
  "POST /v1/break-glass/folders": "made the folder",
  "POST /v1/break-glass/exec": "ran the command",
};
const ALLOWED = {
  status: "see the machine's status",
  "logs:read": "read logs, and members' commands with their output",
  "workspace:read": "read files",
  "workspace:write": "change files",
  exec: "run commands",
};
const WHY_ENDED = {
  done: "by the operator",
  owner: "by an owner",
  portal: "by the portal: revoked, or its time was over",
  expired: "its time was over",
  suspended: "access to the machine was closed",
  closed: "an owner closed this way in",
  owner_missing: "an owner now signs each ticket",
  wrong_set: "the approvers changed",
};
const WAYS = { closed: "nobody", approvers: "whom approvers let in", owner: "whom approvers and an owner let in" };
let grantsLooking = 0;
let approvers = {}; // their names, by the set that is in force here

const called = (people) => people.map((person) => approvers[person] || person).join(", ");
const place = (path) => path || "the whole workspace";
const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

function about(detail) {
  if (detail.argv) return seen(`${detail.argv.map(quoted).join(" ")}${detail.cwd ? ` in ${detail.cwd}` : ""}`);
  const path = detail.path === undefined ? "" : `${place(detail.path)}${detail.recursive === "1" ? ", with all in it" : ""}`;
  return seen(path || detail.name || "");
}

const SAID = {
  granted: (detail) => [`Access begins, until ${moment(detail.until)}`, `approved by ${called(detail.people)}`],
  session: () => ["The operator signed in", "with the passkey that asked"],
  access: (detail) => [`The operator ${DEEDS[`${detail.method} ${detail.route}`] || `asked ${detail.method} ${detail.route}`}`, about(detail)],
  refused: (detail) => [`Refused: ${detail.code}`, about(detail)],
  ended: (detail) => ["Access ended", WHY_ENDED[detail.code] || detail.code],
};

function outcomeOf(detail) {
  const parts = [detail.status === 499 ? "cut off" : detail.status < 400 ? "served" : `not served (${detail.status})`];
  if (Number.isInteger(detail.exit_code)) parts.push(`exit code ${detail.exit_code}`);
  if (Number.isInteger(detail.removed)) parts.push(`${detail.removed.toLocaleString()} removed`);
  if (Number.isInteger(detail.bytes)) parts.push(`${detail.bytes.toLocaleString()} bytes`);
  return parts.join(", ");
}

async function openGrants() {
  const told = await call("GET", "/v1/grants");
  approvers = told.names;
  $("access").hidden = told.grants.length === 0;
  $("grants").replaceChildren(...told.grants.map(grantBox));
  $("ask-owner-grants").hidden = me === null || me.role === "owner";
  $("way-in").textContent = wayIn(told);
  $("no-receipts").hidden = told.receipts.length > 0;
  $("receipts").hidden = $("receipts-keep").hidden = told.receipts.length === 0;
  $("receipts-part").hidden = told.receipts.length === told.newest;
  fill("receipts", receiptRows(told.receipts));
  clearTimeout(grantsLooking);
  if (me !== null) grantsLooking = setTimeout(lookAtGrants, told.grants.length > 0 ? 5000 : 30000);
}

// What this machine holds to, whatever the portal says.
function wayIn({ policy, terms }) {
  if (policy === null) return "This machine knows no approvers, so there is no way in for operators.";
  const { ordinary, emergency } = terms || { ordinary: "approvers", emergency: "approvers" };
  const version = terms ? `terms ${terms.version}` : "no terms of an owner's are known here";
  return `This machine opens to ${WAYS[ordinary]}; in an emergency to ${WAYS[emergency]} (${version}).`;
}

// The newest first; how an access went stands beside it.
function receiptRows(receipts) {
  const accesses = new Set(receipts.filter((one) => one.event === "access").map((one) => one.token));
  const outcomes = new Map(receipts.filter((one) => one.event === "outcome").map((one) => [one.token, one.detail]));
  const shown = receipts.filter((one) => one.event !== "outcome" || !accesses.has(one.token));
  return shown.reverse().map((one) => {
    const [what, more] = SAID[one.event]?.(one.detail) || ["An access went", ""];
    const went = one.event === "outcome" ? one.detail : one.event === "access" ? outcomes.get(one.token) : null;
    return [[String(one.seq), "number"], [moment(one.at), "asked"], [one.ticket.slice(0, 8), "fingerprint"],
      [what, `what ${one.event}`], [more, "title"], [went ? outcomeOf(went) : one.event === "access" ? "under way" : "", "facts"]];
  });
}

function lookAtGrants() {
  if (me !== null && !document.hidden) quietly(openGrants);
}

function grantBox(grant) {
  const made = document.createElement("div");
  made.className = "grant row";
  const [words, deeds] = [document.createElement("div"), document.createElement("div")];
  const line = (text, tag = "p") => {
    const one = document.createElement(tag);
    one.textContent = text;
    words.append(one);
  };
  const { ticket } = grant;
  line(`${ticket.requester.name}${ticket.kind === "emergency" ? ", in an emergency" : ""}: ${lasting(grant.seconds_left)} left`, "h3");
  line(ticket.reason);
  line(`May ${ticket.scopes.map((scope) => ALLOWED[scope] || scope).join(", ")}${ticket.paths.length ? `, in ${ticket.paths.map(place).join(", ")}` : ""}.`);
  line(`Approved by ${called(grant.people)}. Ticket ${ticket.ticket}`);
  words.lastChild.className = "facts";
  if (me !== null && me.role === "owner") {
    deeds.append(button("End this access now", async () => {
      await call("POST", "/v1/grants/stop", { ticket: ticket.ticket });
      await openGrants();
      say("The access has ended. This ticket opens nothing again.");
    }));
    deeds.lastChild.className = "end";
  }
  made.append(words, deeds);
  return made;
}

async function saveReceipts() {
  const lines = [];
  let head = "";
  for (let after = 0, newest = 1; after < newest;) {
    const told = await call("GET", at("/v1/grants", { after }));
    if (told.receipts.length === 0) break;
    lines.push(...told.receipts.map(canonical));
    ({ newest, head } = told);
    after = told.receipts.at(-1).seq;
  }
  save("receipts.jsonl", `${lines.join("\n")}\n`);
  save("receipts-head.txt", head);
}

document.addEventListener("signed-in", () => quietly(openGrants));
document.addEventListener("signed-out", () => {
  clearTimeout(grantsLooking);
  $("grants").replaceChildren();
});
document.addEventListener("visibilitychange", lookAtGrants);
document.addEventListener("DOMContentLoaded", () => {
  $("receipts-save").addEventListener("click", () => act($("receipts-save"), saveReceipts));
});
