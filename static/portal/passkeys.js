// Registers a passkey of staff. <form data-register data-options="…">: the options are asked for, the browser
// makes the passkey, and the form's fields are posted with it to the form's own address.
import { newPasskey, post, words } from "./sign.js";

const form = document.querySelector("form[data-register]");
let busy = false;

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (busy) return;
  busy = true;
  const trouble = form.querySelector("[role=alert]");
  trouble.hidden = true;
  try {
    const fields = new FormData(form);
    const options = await post(form.dataset.options, fields);
    fields.set("credential", JSON.stringify(await newPasskey(options)));
    location.assign((await post(form.action, fields)).next);
  } catch (error) {
    trouble.textContent = words(error);
    trouble.hidden = false;
    trouble.scrollIntoView({ block: "nearest" });
  } finally {
    busy = false;
  }
});
for (const button of form?.querySelectorAll("button[data-ready]") ?? []) button.disabled = false;
