// The files of the operator's page: browse, look, change. Follows break-glass.js.
// They are below the ticket's paths, which stand at the top where they are not the whole workspace.
let folder = null; // null: the list of the ticket's paths
let next = "";
let shownFile = null; // path, name and ETag
const below = (name) => (folder ? `${folder}/${name}` : name);
const inside = (path) => at("/v1/break-glass/files", { path });

function showFiles(rows, complete) {
  $("files").hidden = rows === 0;
  $("empty").hidden = rows > 0;
  $("more").hidden = complete;
  $("where").textContent = !folder ? "" : `/ ${seen(folder).replaceAll("/", " / ")}`;
  $("up").hidden = folder === null || folder === "";
  for (const name of ["make-folder", "upload"]) $(name).hidden = folder === null || !allows("workspace:write");
}

function openPaths() {
  folder = null;
  const body = $("files").tBodies[0];
  body.replaceChildren();
  for (const path of ticket.paths) {
    const row = body.insertRow();
    for (const text of ["", "path of the ticket", "", "", ""]) cell(row, text);
    row.cells[0].append(named(seen(path), () => openPath(path)));
  }
  showFiles(ticket.paths.length, true);
}

async function openPath(path) {
  try {
    await openFolder(path);
  } catch (error) {
    if (error.code !== "not_a_folder") throw error;
    await openFile(path, path);
  }
}

async function openFolder(path, after = "") {
  const found = await call("GET", at("/v1/break-glass/list", after ? { path, after } : { path }));
  folder = path;
  next = found.next || "";
  const body = $("files").tBodies[0];
  if (!after) body.replaceChildren();
  for (const entry of found.entries) addEntry(body.insertRow(), entry);
  showFiles(body.rows.length, found.complete);
}

function addEntry(row, entry) {
  const path = below(entry.name);
  const when = new Date(entry.modified * 1000).toLocaleString([], { dateStyle: "short", timeStyle: "short" });
  cell(row, "");
  row.dataset.name = entry.name;
  const reachable = entry.utf8 !== false; // Else no path leads there, or one that is another file's.
  if (reachable && entry.kind === "folder") row.cells[0].append(named(`${seen(entry.name)}/`, () => openFolder(path)));
  else if (reachable && entry.kind === "file") row.cells[0].append(named(seen(entry.name), () => openFile(path, entry.name)));
  else row.cells[0].textContent = seen(entry.name);
  cell(row, entry.kind);
  cell(row, entry.kind === "file" ? entry.size.toLocaleString() : "", "number");
  cell(row, when);
  cell(row, "");
  if (!reachable) row.cells[4].textContent = "the name is not UTF-8";
  if (!reachable || !allows("workspace:write")) return;
  row.cells[4].append(button("Delete", async () => {
    const whole = entry.kind === "folder" ? " and everything in it" : "";
    if (!confirm(`Delete ${seen(entry.name)}${whole} from the tenant's machine? This cannot be undone.`)) return;
    let done;
    do done = await call("DELETE", at("/v1/break-glass/files", { path, recursive: "1" })); while (!done.complete);
    if (shownFile && shownFile.path === path) closeFile();
    await openFolder(folder);
  }));
}

function goUp() {
  if (ticket.paths.includes(folder)) return openPaths();
  return openFolder(folder.split("/").slice(0, -1).join("/"));
}

// The beginning of a file: its bytes, the size of all of it, and which state of it that is.
async function start(path) {
  const begun = stay;
  const response = await fetch(inside(path), {
    credentials: "same-origin",
    headers: { Range: `bytes=0-${SHOWN_BYTES - 1}` },
    signal: AbortSignal.timeout(30000),
  }).catch(() => { throw new Refused("machine_unreachable"); });
  if (response.status === 416) return { bytes: new Uint8Array(), size: 0, tag: null };
  if (!response.ok) {
    const answer = await response.json().catch(() => ({}));
    throw new Refused(answer.error || "machine_unreachable", answer.message);
  }
  const bytes = new Uint8Array(await response.arrayBuffer().catch(() => { throw new Refused("machine_unreachable"); }));
  checkStay(begun);
  const range = response.headers.get("Content-Range");
  const size = range ? Number(range.split("/")[1]) : bytes.length;
  return { bytes, size, tag: response.headers.get("ETag") };
}

// As text, or null. A letter that is cut in two at the end is left out.
function textOf(bytes, whole) {
  if (bytes.includes(0)) return null;
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes, { stream: !whole });
  } catch {
    return null;
  }
}

async function openFile(path, name) {
  const { bytes, size, tag } = await start(path);
  const whole = bytes.length >= size;
  const text = textOf(bytes, whole);
  // A form's field does not give them back: what was saved would differ in every line, unasked.
  const kept = text === null || !text.includes("\r");
  shownFile = { path, name, tag };
  $("viewer-name").textContent = seen(name);
  $("viewer-facts").textContent = `${size.toLocaleString()} bytes`;
  $("viewer-note").textContent = text === null ? "This is not text: download it to look at it."
    : !whole ? `Only the first ${SHOWN_BYTES / 1024} KiB are shown. Download it for the rest.`
    : kept ? "" : "Its line ends are those of Windows, which this page cannot keep. Download, change and upload it.";
  $("viewer-note").hidden = !$("viewer-note").textContent;
  $("viewer-text").textContent = text ?? "";
  $("viewer-text").hidden = text === null;
  $("viewer-download").href = inside(path);
  $("viewer-download").download = name.split("/").pop();
  $("viewer-edit").hidden = text === null || !whole || !kept || !allows("workspace:write");
  $("viewer-save").hidden = $("viewer-edited").hidden = true;
  $("viewer").hidden = false;
  $("viewer").scrollIntoView({ block: "nearest" });
}

function closeFile() {
  shownFile = null;
  $("viewer-text").textContent = $("viewer-edited").value = "";
  $("viewer").hidden = true;
}

function editFile() {
  $("viewer-edited").value = $("viewer-text").textContent;
  $("viewer-text").hidden = $("viewer-edit").hidden = true;
  $("viewer-edited").hidden = $("viewer-save").hidden = false;
  $("viewer-edited").focus();
}

async function saveFile() {
  const { path, name, tag } = shownFile;
  await put(inside(path), new Blob([$("viewer-edited").value]), tag);
  await openFile(path, name);
  if (folder !== null) await openFolder(folder);
  say(`${seen(name)} is saved.`);
}

function wireFiles() {
  const on = (name, deed) => $(name).addEventListener("click", () => act($(name), async () => deed()));
  on("up", goUp);
  on("more", () => openFolder(folder, next));
  on("viewer-close", closeFile);
  on("viewer-edit", editFile);
  on("viewer-save", saveFile);
  on("make-folder", async () => {
    const name = prompt("Name of the new folder");
    if (!name) return;
    await call("POST", "/v1/break-glass/folders", { path: below(name) });
    await openFolder(folder);
  });
  $("upload").addEventListener("click", () => $("chosen").click());
  $("chosen").addEventListener("change", () => act($("upload"), async () => {
    const [file] = $("chosen").files;
    $("chosen").value = "";
    const there = file && [...$("files").tBodies[0].rows].some((row) => row.dataset.name === file.name);
    if (!file || (there && !confirm(`Replace ${seen(file.name)} on the tenant's machine?`))) return;
    await put(inside(below(file.name)), file);
    await openFolder(folder);
    say(`${seen(file.name)} is uploaded.`);
  }));
}
