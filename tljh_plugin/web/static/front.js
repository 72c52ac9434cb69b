// The front page: link and badge for exactly what the form says, made by the one grammar on the server.

import { prefix, setText, xsrf } from "./page.js";

const form = document.getElementById("launch-form");
const share = document.getElementById("share");
const problem = document.getElementById("repository-problem");
const PAUSE_MS = 250;
let timer;
let asked;

async function update() {
  asked?.abort();
  asked = new AbortController();
  const fields = new URLSearchParams(new FormData(form));
  if (!fields.get("repository").trim()) {
    share.hidden = true;
    problem.hidden = true;
    return;
  }
  try {
    const answer = await fetch(`${prefix}api/v1/link?${fields}`, {
      headers: { Accept: "application/json", "X-XSRFToken": xsrf },
      signal: asked.signal,
    });
    const value = await answer.json();
    share.hidden = !answer.ok;
    problem.hidden = answer.ok;
    if (answer.ok) {
      for (const name of ["link", "markdown", "html"]) {
        document.getElementById(`share-${name}`).value = value[name === "link" ? "url" : name];
      }
    } else {
      setText(problem, `${value.message} ${value.next}`);
    }
  } catch (error) {
    if (error.name !== "AbortError") share.hidden = true;
  }
}

form.addEventListener("input", () => {
  clearTimeout(timer);
  timer = setTimeout(update, PAUSE_MS);
});
update();
