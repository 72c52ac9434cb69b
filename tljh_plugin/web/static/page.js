// What every page does: times in the reader's own zone, buttons that copy.

export const meta = (name) => document.querySelector(`meta[name="${name}"]`)?.content ?? "";
export const prefix = meta("binder-prefix");
export const xsrf = meta("binder-xsrf");

/** Put `text` into `element`, what stands in backticks as code; never as markup. */
export function setText(element, text) {
  element.replaceChildren(
    ...text.split("`").map((piece, index, all) => {
      if (index % 2 === 0 || index === all.length - 1) return index % 2 ? "`" + piece : piece;
      const code = document.createElement("code");
      code.textContent = piece;
      return code;
    }),
  );
}

const shown = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** Every time below `top` in the reader's own zone. */
export function showTimes(top) {
  for (const time of top.querySelectorAll("time[datetime]")) {
    const moment = new Date(time.dateTime);
    if (!Number.isNaN(moment.valueOf())) {
      time.title = time.textContent;
      time.textContent = shown.format(moment);
    }
  }
}

showTimes(document);

for (const button of document.querySelectorAll("button[data-copy]")) {
  const field = document.getElementById(button.dataset.copy);
  const text = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
    } catch {
      document.execCommand("copy"); // the clipboard interface exists in secure contexts only
    }
    button.textContent = button.dataset.done;
    setTimeout(() => (button.textContent = text), 2000);
  });
}
