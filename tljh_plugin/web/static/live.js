// Parts of a page that are still on their way (`data-live`) are taken anew from the server until they have arrived.

import { showTimes, xsrf } from "./page.js";

const EVERY_MS = 3000;
const ON_THE_WAY = "[data-live] .state.busy";

async function refresh() {
  if (document.hidden || !document.querySelector(ON_THE_WAY)) return;
  // Without the token JupyterHub takes no cookie from a script; a redirect would begin a new sign-in.
  const headers = { Accept: "text/html", "X-XSRFToken": xsrf };
  const answer = await fetch(location.href, { headers, redirect: "manual" });
  if (!answer.ok) return;
  const now = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of document.querySelectorAll("[data-live]")) {
    const newer = now.getElementById(part.id);
    // Nobody loses the button under their finger, nor what they have ticked.
    if (!newer || part.contains(document.activeElement) || part.querySelector("input:checked")) continue;
    showTimes(newer);
    if (!newer.isEqualNode(part)) part.replaceWith(document.adoptNode(newer));
  }
}

// A service that restarts answers again later.
setInterval(() => refresh().catch(() => {}), EVERY_MS);
