// The guest's own page: signs in with a passkey over the guest's nonce, and shows what the guest answers.
// Whatever comes from the guest is put in as text, never as markup.

let me = null;

async function signIn() {
  const challenge = await call("POST", "/v1/sessions/challenge");
  const asked = { nonce: challenge.nonce, runtime_id: challenge.runtime_id };
  const signature = await assertion("member session v1", asked);
  await call("POST", "/v1/sessions", { signature: { ...signature, nonce: challenge.nonce } });
}

// The workspace: one folder at a time.

let folder = "";
let next = "";
const below = (name) => (folder ? `${folder}/${name}` : name);

async function openFolder(path, after = "") {
  const found = await call("GET", at("/v1/workspace/list", after ? { path, after } : { path }));
  folder = path;
  next = found.next || "";
  const body = $("files").tBodies[0];
  if (!after) body.replaceChildren();
  for (const entry of found.entries) addEntry(body.insertRow(), entry);
  $("where").textContent = path ? `/ ${path.replaceAll("/", " / ")}` : "";
  $("up").hidden = !path;
  $("archive").href = at("/v1/workspace/archive", { path });
  $("files").hidden = body.rows.length === 0;
  $("empty").hidden = body.rows.length > 0;
  $("more").hidden = found.complete;
}

function addEntry(row, entry) {
  const path = below(entry.name);
  cell(row, "");
  if (entry.kind === "file") {
    const link = document.createElement("a");
    link.href = at("/v1/workspace/files", { path });
    link.download = entry.name;
    link.textContent = entry.name;
    row.cells[0].append(link);
  } else if (entry.kind === "folder") {
    row.cells[0].append(button(entry.name, () => openFolder(path)));
  } else {
    row.cells[0].textContent = entry.name;
  }
  cell(row, entry.kind);
  cell(row, entry.kind === "file" ? String(entry.size) : "", "number");
  cell(row, "");
  row.cells[3].append(button("Delete", async () => {
    const whole = entry.kind === "folder" ? " and everything in it" : "";
    if (!confirm(`Delete ${entry.name}${whole}? This cannot be undone.`)) return;
    let done;
    do done = await call("DELETE", at("/v1/workspace/files", { path, recursive: "1" })); while (!done.complete);
    await openFolder(folder);
  }));
}

async function upload(file) {
  await put(at("/v1/workspace/files", { path: below(file.name) }), file);
  await openFolder(folder);
  say(`${file.name} is uploaded.`);
}

function wireWorkspace() {
  $("up").addEventListener("click", () => act($("up"), () => openFolder(folder.split("/").slice(0, -1).join("/"))));
  $("more").addEventListener("click", () => act($("more"), () => openFolder(folder, next)));
  $("make-folder").addEventListener("click", () => act($("make-folder"), async () => {
    const name = prompt("Name of the new folder");
    if (!name) return;
    await call("POST", "/v1/workspace/folders", { path: below(name) });
    await openFolder(folder);
  }));
  $("upload").addEventListener("click", () => $("chosen").click());
  $("chosen").addEventListener("change", () => act($("upload"), async () => {
    const [file] = $("chosen").files;
    $("chosen").value = "";
    const there = file && [...$("files").tBodies[0].rows].some((row) => row.cells[0].textContent === file.name);
    if (!file || (there && !confirm(`Replace ${file.name}?`))) return;
    await upload(file);
  }));
}

async function show() {
  const [session, members, outside] = await Promise.all([
    call("GET", "/v1/session"), call("GET", "/v1/members"), call("GET", "/v1/outside"), openFolder(folder),
  ]);
  me = session;
  $("who").textContent = session.name;
  $("role").textContent = session.role === "owner" ? "Owner" : "Member";
  $("left").textContent = lasting(session.seconds_left);
  $("end-others").hidden = session.role !== "owner";
  fill("members", members.keyring.members.map((m) => [
    [m.name], [m.role], [m.kind === "passkey" ? "passkey" : "device key"], [pieces(m.fingerprint), "fingerprint"],
  ]));
  $("way-out").hidden = !outside.proxy;
  $("no-way-out").hidden = Boolean(outside.proxy);
  $("recovery").hidden = !members.recovery;
  if (members.recovery) {
    $("due").textContent = new Date(members.recovery.due * 1000).toUTCString();
    $("object").hidden = session.role !== "owner";
    $("ask-owner").hidden = session.role === "owner";
  }
  $("door").hidden = true;
  $("inside").hidden = false;
  document.dispatchEvent(new Event("signed-in"));
}

function knock() {
  me = null;
  stay += 1;
  document.dispatchEvent(new Event("signed-out"));
  $("inside").hidden = true;
  $("door").hidden = false;
}

document.addEventListener("DOMContentLoaded", async () => {
  $("host").textContent = location.host;
  wireWorkspace();
  $("sign-in").addEventListener("click", () => act($("sign-in"), async () => { await signIn(); await show(); }));
  $("sign-out").addEventListener("click", () => {
    stay += 1;
    act($("sign-out"), async () => {
      await call("DELETE", "/v1/session");
      knock();
      say("Signed out.");
    });
  });
  $("object").addEventListener("click", () => act($("object"), async () => {
    await call("POST", "/v1/recovery/object");
    await show();
    say("The recovery is stopped.");
  }));
  $("end-others").addEventListener("click", () => act($("end-others"), async () => {
    const { ended } = await call("POST", "/v1/sessions/end");
    say(ended === 1 ? "One other session was ended." : `${ended} other sessions were ended.`);
  }));
  const { signed_in: signedIn } = await call("GET", "/v1/door").catch(() => ({ signed_in: false }));
  if (signedIn) await act($("sign-in"), show);
  else knock();
});
