/*
 * One way to call the server.
 *
 * Rules kept here:
 *   - every state change carries the page's CSRF token; a page that outlived its session fetches the new one once;
 *   - every failure is an ApiError with the server's own code, message and hint, or `offline`;
 *   - nothing is written to the console: errors are shown to the user, and hold no patient text.
 */

export class ApiError extends Error {
  constructor(message, { code, hint = "", status = 0 }) {
    super(message);
    this.name = "ApiError";
    this.code = code;
    this.hint = hint;
    this.status = status;
  }

  /** Whether sending the same again later can help. */
  get temporary() {
    return this.code === "offline" || this.status === 401 || this.status === 429 || this.status >= 500;
  }
}

const meta = () => document.querySelector('meta[name="csrf-token"]');

/** Send one request; answers the Response of a success, throws ApiError otherwise. */
export async function call(method, url, { json, body, headers = {}, accept = "application/json" } = {}) {
  const options = { json, body, headers, accept };
  try {
    return await send(method, url, options);
  } catch (error) {
    if (error.code !== "csrf_invalid") throw error;
    await renewToken();
    return send(method, url, options);
  }
}

async function send(method, url, { json, body, headers, accept }) {
  const sent = { Accept: accept, "X-CSRFToken": meta().content, ...headers };
  if (json !== undefined) sent["Content-Type"] = "application/json";
  const form = body instanceof FormData;
  if (form) body.set("csrf_token", meta().content);
  let response;
  try {
    response = await fetch(url, {
      method,
      headers: sent,
      body: json === undefined ? body : JSON.stringify(json),
      credentials: "same-origin",
      redirect: "follow",
      cache: "no-store",
    });
  } catch {
    throw new ApiError("the box cannot be reached", { code: "offline", hint: "check the network; nothing is lost" });
  }
  if (!response.ok) throw await problem(response);
  return response;
}

async function problem(response) {
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    /* not our JSON: say what we know */
  }
  return new ApiError(error.message ?? `the request failed (${response.status})`, {
    code: error.code ?? "http_error",
    hint: error.hint ?? "",
    status: response.status,
  });
}

async function renewToken() {
  const response = await send("GET", document.body.dataset.session, { headers: {}, accept: "application/json" });
  meta().content = (await response.json()).csrf_token;
}

/** Show an error in the page's one error box; `null` clears it. */
export function showError(error) {
  const box = document.getElementById("error-box");
  if (!box) return;
  box.hidden = !error;
  box.replaceChildren();
  if (!error) return;
  const text = document.createElement("p");
  const strong = document.createElement("strong");
  strong.textContent = `${sentence(error.message)}.`;
  text.append(strong, error.hint ? ` ${sentence(error.hint)}.` : "");
  box.append(text);
  box.scrollIntoView({ block: "nearest" });
}

function sentence(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
