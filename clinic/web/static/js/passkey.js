/*
 * Passkeys: one is made on the page of the second factor, and signs in on the page for that.
 *
 * Rules kept here:
 *   - the box makes every challenge and checks every answer; nothing is decided here;
 *   - what the browser asks of its user (finger, face, PIN) never comes here;
 *   - a browser without passkeys is offered none.
 */

import { ApiError, call, showError } from "./api.js";

/** Text without padding, as WebAuthn's JSON has it, to bytes. */
export function bytes(text) {
  const plain = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(plain, (character) => character.charCodeAt(0));
}

/** Bytes to text, the other way round. */
export function text(buffer) {
  const plain = Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join("");
  return btoa(plain).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

/** Options as the box writes them, as the browser wants them. */
export function options(json) {
  const known = (list) => (list ?? []).map((each) => ({ ...each, id: bytes(each.id) }));
  const made = { ...json, challenge: bytes(json.challenge) };
  if (json.user) made.user = { ...json.user, id: bytes(json.user.id) };
  if (json.excludeCredentials) made.excludeCredentials = known(json.excludeCredentials);
  if (json.allowCredentials) made.allowCredentials = known(json.allowCredentials);
  return made;
}

/** What a passkey has answered, as JSON. */
export function answer(credential) {
  const response = {};
  for (const name of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
    const value = credential.response[name];
    if (value) response[name] = text(value);
  }
  return { id: credential.id, rawId: text(credential.rawId), type: credential.type, response, clientExtensionResults: {} };
}

/** Run one exchange with the button out of reach; whatever goes wrong is said in the page's error box. */
async function once(button, exchange) {
  button.disabled = true;
  showError(null);
  try {
    await exchange();
  } catch (error) {
    showError(error instanceof ApiError ? error : fromBrowser(error));
    button.disabled = false;
  }
}

function fromBrowser(error) {
  if (error.name === "InvalidStateError")
    return new ApiError("this device has a passkey for your account already", { code: "passkey_known" });
  return new ApiError("no passkey was used", {
    code: "passkey_none",
    hint: "it was cancelled, took too long, or this device has none for this box; sign in with your password",
  });
}

function make(form) {
  form.hidden = false;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    once(form.querySelector("button"), async () => {
      const asked = await call("POST", form.dataset.options, { body: new FormData(form) });
      const made = await navigator.credentials.create({ publicKey: options(await asked.json()) });
      const name = form.elements.name.value;
      const kept = await (await call("POST", form.action, { json: { name, answer: answer(made) } })).json();
      if (kept.recovery_codes) window.location.reload();
      else document.getElementById("recovery-form").submit();
    });
  });
}

function signIn(box) {
  box.hidden = false;
  const button = box.querySelector("button");
  button.addEventListener("click", () =>
    once(button, async () => {
      const asked = await call("POST", box.dataset.options);
      const given = await navigator.credentials.get({ publicKey: options(await asked.json()) });
      const next = document.querySelector('input[name="next"]')?.value;
      const done = await call("POST", box.dataset.url, { json: { answer: answer(given), next } });
      window.location.assign((await done.json()).next);
    }),
  );
}

if (typeof document !== "undefined" && window.PublicKeyCredential) {
  document.querySelectorAll("[data-passkey-make]").forEach(make);
  document.querySelectorAll("[data-passkey-sign-in]").forEach(signIn);
}
