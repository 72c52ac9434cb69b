// The launch page: follows build and start, then goes to the server.

import { LogView } from "./log.js";
import { prefix, setText, xsrf } from "./page.js";
import { follow } from "./stream.js";

const page = document.getElementById("launch");
const part = (id) => document.getElementById(id);
const texts = page.dataset;
const log = new LogView(part("log"), part("log-end"));
const steps = [...part("steps").children];
let said = part("message").textContent;

function say(text) {
  if (part("message").textContent !== text) part("message").textContent = text;
}

function showStep(name, state) {
  const now = steps.findIndex((step) => step.dataset.step === name);
  steps.forEach((step, index) => {
    const is = index < now || state === "done" ? "done" : index === now ? state : "";
    if ((step.dataset.state ?? "") === is) return;
    step.dataset.state = is;
    step.lastElementChild.textContent = { done: texts.done, now: texts.now, failed: texts.broken }[is] ?? "";
    step.removeAttribute("aria-current");
    if (is !== "now") return;
    step.setAttribute("aria-current", "step");
    part("said").textContent = step.textContent; // a reader hears the steps, not every line
  });
}

function showFailure(error) {
  part("bar").className = "bad";
  if (texts.over === "1") return; // the page came with it
  part("title").textContent = texts.failed;
  for (const name of ["message", "next", "code"]) {
    setText(part("failure").querySelector(`[data-part="${name}"]`), error?.[name] ?? "");
  }
  const id = part("failure").querySelector('[data-part="id"]');
  setText(id.querySelector('[data-part="request"]'), error?.request ?? "");
  id.hidden = !error?.request;
  say("");
  part("failure").hidden = false;
  part("running").hidden = true;
}

if (page.dataset.events) {
  await follow(page.dataset.events, {
    xsrf,
    onEvent(type, event) {
      part("bar").value = event.progress;
      if (event.build) {
        part("build-link").href = `${prefix}builds/${event.build}`;
        part("build-link").hidden = false;
      }
      if (type === "log") {
        if (event.line.text) log.append(event.line.text);
        showStep(event.step, "now");
      } else if (type === "progress") {
        said = event.message;
        say(said);
        showStep(event.step, "now");
      } else if (type === "ready") {
        part("bar").className = "good";
        showStep("start", "done");
        say(texts.opening);
        location.replace(event.url); // so that "back" does not lead here and at once forth again
        return true;
      } else if (type === "failed") {
        showStep(event.step, "failed");
        showFailure(event.error);
        return true;
      }
      return false;
    },
    onLost(lost) {
      say(lost ? texts.retry : said);
    },
    onRefused(status, error) {
      if (error.code === "not-signed-in") say(texts.signedOut);
      else showFailure(error);
    },
  });
}
